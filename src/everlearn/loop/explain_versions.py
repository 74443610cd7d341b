"""What becomes of versions, in words: trials, promotions, refusals, rollbacks and failures."""

from __future__ import annotations

from collections.abc import Iterator

from everlearn.loop import explain_evidence as say
from everlearn.loop.alerts import automatic
from everlearn.loop.explain_case import Case, Story, asked_by, comparison, origin, quoted, replaced
from everlearn.loop.explain_evidence import Facts, num
from everlearn.types import Decision, DecisionKind


def promote(case: Case) -> Story:
    """The story of a decision of kind ``promote``."""
    word = "came back" if case.facts.flag("reused") else "was promoted"
    headline = f"{case.version.capitalize()} {word}"
    old = replaced(case)
    first = f"{case.version.capitalize()} took over from {old}."
    if not automatic(case.decision):
        why_not = "An operator's word stands by itself: without the command it would not have been promoted."
        return Story(headline, [first, asked_by(case), *origin(case)], why_not)
    sentences = [first, *origin(case), *comparison(case, old, case.version)]
    return Story(headline, sentences, _not_promoted(case))


def _not_promoted(case: Case) -> str:
    facts = case.facts
    found, limit = say.e_value(facts), say.needed(facts)
    reached = say.bar_names(facts, True)
    if found is None or limit is None or (found < limit and not reached):
        words = "It would have stayed out if it had been proven worse, or could not have been served"
        return f"{words}{f', or if one of these had not held: {say.listed(reached)}' if reached else ''}."
    if found < limit:
        return f"It would have stayed out if one of these had not held: {say.listed(reached)}."
    words = f"It would have stayed out with an e-value under {num(limit)}"
    turned = say.flips(facts)
    if turned is not None:
        words += f": that is, if {num(turned)} of the rows that only it got right had gone the other way"
    others = [name for name in reached if name != say.BARS["superiority"]]
    return f"{words}{f', or if one of these had not held: {say.listed(others)}' if others else ''}."


_ENDS = {
    "reject": "The trial ended with a rejection.",
    "expire": "Its label budget was spent before there was proof.",
    "superseded": "Another version made it pointless before there was proof.",
}


def refuse(case: Case) -> Story:
    """The story of a decision of kind ``refuse``."""
    facts, number = case.facts, case.decision.version
    if not automatic(case.decision):
        sentences = [f"The command was refused: {quoted(case.decision)}.", asked_by(case)]
        return Story("A command was refused", sentences, f"It needed another state: {quoted(case.decision)}.")
    headline = "A candidate was refused" if number is None else f"{case.version.capitalize()} was refused"
    end = facts.text("end")
    sentences = [f"The gate's words: {quoted(case.decision)}.", _ENDS.get(end, ""), *origin(case)]
    return Story(headline, [*sentences, *comparison(case, "the champion", case.version)], _not_refused(case))


def _not_refused(case: Case) -> str:
    facts, end = case.facts, case.facts.text("end")
    if end == "superseded":
        found, limit = say.e_value(facts), say.needed(facts)
        far = "" if found is None or limit is None else f" (at {num(found)} of the {num(limit)} needed)"
        return f"It would have gone on in shadow if no other version had come between{far}."
    missing = say.broken_words(facts) or _unreached(facts)
    words = f"To be promoted it needed {say.listed(missing)}." if missing else ""
    return " ".join(filter(None, [words, _patience(facts)])) or (
        f"It needed the opposite of what stood against it: {quoted(case.decision)}."
    )


def _unreached(facts: Facts) -> list[str]:
    found, limit = say.e_value(facts), say.needed(facts)
    if found is None or limit is None or found >= limit:
        return []
    return [f"an e-value of {num(limit)} (it was {num(found)})"]


def _patience(facts: Facts) -> str:
    rows = say.rows_to_proof(facts)
    if rows is None or rows <= (facts.number("rows") or 0):
        return ""
    return f"If both go on to differ as they have, the proof is to be expected at about {num(rows)} rows."


def trial(case: Case) -> Story:
    """The story of a decision of kind ``trial``."""
    facts = case.facts
    old = [num(x) for x in map(say.number_of, facts.list_of("versions")) if x is not None]
    if facts.flag("archived"):
        which = f"version{'s' if len(old) > 1 else ''} {say.listed(old)}" if old else "versions"
        headline = f"Archived {which} went on trial"
        sentences = [f"{quoted(case.decision)}.", "Trying them costs no training."]
        return Story(headline, sentences, "One comes back once it is proven better than the champion.")
    sentences = ["It answers the rows that others are served with, unseen, until the evidence decides."]
    sentences += [*origin(case), *comparison(case, "the champion", case.version)]
    missing = _unreached(facts)
    words = f"It takes over with {say.listed(missing)}, if every other bar holds." if missing else ""
    why_not = " ".join(filter(None, [words, _patience(facts)]))
    return Story(f"{case.version.capitalize()} went on trial", sentences, why_not)


def rollback(case: Case) -> Story:
    """The story of a decision of kind ``rollback``."""
    facts, worse = case.facts, replaced(case)
    headline = f"{case.version.capitalize()} came back"
    first = f"{case.version.capitalize()} answers again in place of {worse}."
    promoted = next((d for d in case.before if _is_promotion(d, facts.number("replaces"))), None)
    past = (
        ""
        if promoted is None
        else (f"{worse.capitalize()} had been promoted by decision {promoted.number}: {quoted(promoted)}.")
    )
    if not automatic(case.decision):
        why_not = "An operator's word stands by itself: without the command it would have gone on."
        return Story(headline, [first, asked_by(case), past], why_not)
    return Story(headline, [first, past, *_bake(case, worse)], _not_rolled_back(case))


def _is_promotion(decision: Decision, version: float | None) -> bool:
    return decision.kind is DecisionKind.PROMOTE and version is not None and decision.version == version


def _bake(case: Case, worse: str) -> Iterator[str]:
    facts = case.facts
    old, served, rows = facts.value("old_loss"), facts.value("served_loss"), facts.number("rows")
    if old is not None and served is not None and rows:
        yield (
            f"On {num(rows)} matured rows since then, answered by both, the {say.loss_unit(case.spec)} of "
            f"what was served was {num(served)}, and that of {case.version} in its shadow "
            f"{num(old)}{say.differing(facts, case.version, worse, case.zero_one)}."
        )
    yield say.e_words(facts, f"{case.version} is better")
    low, high = _bounds(facts)
    if low is not None and high is not None:
        yield f"The served loss was certainly at least {num(low)}, the old one at most {num(high)}."
    elif not rows:
        yield f"The words of the watch: {quoted(case.decision)}."


def _bounds(facts: Facts) -> tuple[float | None, float | None]:
    """The lower bound of the served loss, and the upper one of the old version's."""
    served, old = facts.interval("served_loss"), facts.interval("old_loss")
    low, high = facts.number("served_low"), facts.number("old_high")
    return served[0] if served else low, old[1] if old else high


def _not_rolled_back(case: Case) -> str:
    limit, worse = say.needed(case.facts), replaced(case)
    words = f"{worse.capitalize()} would have stayed if the evidence against it had not reached"
    words += " its limit" if limit is None else f" an e-value of {num(limit)}"
    if case.spec is not None:
        words += f", and its loss had not certainly risen by more than {num(case.spec.rollback.tolerance)}"
    return f"{words} within the bake period."


def fail(case: Case) -> Story:
    """The story of a decision of kind ``fail``."""
    sentences = [f"{quoted(case.decision)}.", *origin(case)]
    return Story("A job failed", sentences, "The champion answers on; the policy may ask again.")
