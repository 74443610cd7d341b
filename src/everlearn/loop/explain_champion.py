"""What is decided about the champion, in words: updates, holds, warnings, abstention, freezes and regimes."""

from __future__ import annotations

from everlearn.loop import explain_evidence as say
from everlearn.loop.alerts import automatic
from everlearn.loop.explain_case import MODES, Case, Story, asked_by, quoted
from everlearn.loop.explain_evidence import Facts, num
from everlearn.spec import ModelSpec


def _standing(facts: Facts) -> str:
    """The champion's metric with its bounds against the threshold."""
    value, threshold, name = facts.number("value"), facts.number("threshold"), facts.text("metric")
    lower, upper = facts.number("lower"), facts.number("upper")
    if value is None or threshold is None or not name:
        return ""
    # In older evidence of costs, ``upper`` and ``rows`` are those of the costs.
    costed = "accumulated" in facts and "cost_rows" not in facts
    bounds = "" if lower is None or upper is None or costed else f", between {num(lower)} and {num(upper)}"
    rows = None if costed else facts.number("rows")
    on = "" if rows is None else f" on its newest {num(rows)} matured rows"
    return f"The champion's {name} was {num(value)}{bounds}{on}; it must keep {num(threshold)}."


def update(case: Case) -> Story:
    """The story of a decision of kind ``update``."""
    facts = case.facts
    plan = facts.part("plan")
    how = MODES.get(plan.text("mode"), "asked for")
    sentences = [f"{case.version.capitalize()} was to be {how}, because: {quoted(case.decision)}."]
    sentences += [asked_by(case), _standing(facts), _prices(facts)]
    kept = plan.number("holdout")
    if kept:
        sentences.append(f"The newest {num(kept)} matured rows were kept out of its training.")
    warned = case.warnings()
    if warned:
        sentences.append(f"There had been a warning: decision {warned[0].number}, {quoted(warned[0])}.")
    return Story(f"{case.version.capitalize()} was asked for", sentences, _not_updated(case))


def _prices(facts: Facts) -> str:
    excess, cost = facts.number("accumulated"), facts.number("cost")
    if excess is None or cost is None:
        return ""
    rows = facts.number("cost_rows")
    rows = facts.number("rows") if rows is None else rows
    on = "" if rows is None else f" in {num(rows)} rows"
    return f"Staying was put at {num(excess)} rows answered wrongly{on}, an update at {num(cost)}."


def _not_updated(case: Case) -> str:
    facts, reason = case.facts, case.decision.reason
    if not automatic(case.decision):
        return "Without the command nothing would have been made now."
    if "does not keep the threshold" in reason:
        return _over_threshold(facts, case.spec)
    if "accumulated" in facts and facts.number("cost") is not None:
        cost = num(facts.number("cost") or 0)
        return f"It would have held with less lost by staying, or at a price of an update above {cost}."
    if "calibration error" in reason:
        noise = facts.number("ece_noise")
        return "" if noise is None else f"It would have held with a calibration error under {num(noise)}."
    return f"It would have held without this: {quoted(case.decision)}."


def _over_threshold(facts: Facts, spec: ModelSpec | None) -> str:
    """What the metric, or the threshold, would have had to be for the policy to hold."""
    threshold, value = facts.number("threshold"), facts.number("value")
    lower, upper = facts.number("lower"), facts.number("upper")
    if threshold is None or value is None or lower is None or upper is None:
        return ""
    lower_better = spec is not None and spec.lower_is_better
    proof = spec is not None and spec.policy.act_on == "proof"
    bound = lower if lower_better == proof else upper
    word = "lower" if lower_better == proof else "upper"
    failing = bound > threshold if lower_better else bound < threshold
    if not failing:
        margin = spec.policy.hysteresis if spec is not None else 0.0
        return f"It was trying already, and goes on until the bound is past the threshold by {num(margin)}."
    needed = num(value + threshold - bound)
    return (
        f"It would have held with the {word} bound ({num(bound)}) on the other side of the threshold: "
        f"with {facts.text('metric') or 'a metric'} at about {needed} on as many rows, or a threshold of at "
        f"{'least' if lower_better else 'most'} {num(bound)}."
    )


def hold(case: Case) -> Story:
    """The story of a decision of kind ``hold``."""
    facts = case.facts
    sentences = [f"Nothing was to be done: {quoted(case.decision)}.", asked_by(case), _standing(facts)]
    sentences += [
        _prices(facts),
        say.e_words(facts, "an archived version is better") if "e_value" in facts else "",
    ]
    return Story("The loop held still", sentences, _not_held(case))


def _not_held(case: Case) -> str:
    facts, reason = case.facts, case.decision.reason
    left = facts.number("needed")
    if facts.number("examples") is not None and left is not None:
        return f"A first version is made once {num(left)} examples are known."
    if reason.startswith("frozen"):
        return "It decides again once an operator unfreezes it."
    if "cooling down" in reason:
        return "It acts once the cooldown is over, if there is still a reason to."
    if "held back" in reason:
        return "It would have acted with room left in the day's budget."
    if "insufficient labels" in reason and case.spec is not None:
        return f"It decides once {num(case.spec.policy.min_labels)} rows of this champion have matured."
    if "keeps the threshold" in reason:
        return _under_threshold(facts, case.spec)
    return f"It would have acted without this: {quoted(case.decision)}."


def _under_threshold(facts: Facts, spec: ModelSpec | None) -> str:
    threshold = facts.number("threshold")
    lower, upper = facts.number("lower"), facts.number("upper")
    if threshold is None or lower is None or upper is None:
        return ""
    lower_better = spec is not None and spec.lower_is_better
    proof = spec is not None and spec.policy.act_on == "proof"
    word, bound = ("lower", lower) if lower_better == proof else ("upper", upper)
    side = "above" if lower_better else "under"
    return (
        f"The threshold asks for an update once the {word} bound ({num(bound)}) is {side} {num(threshold)}."
    )


# -- warnings and the rest -----------------------------------------------------------------------------


def warn(case: Case) -> Story:
    """The story of a decision of kind ``warn``."""
    facts = case.facts
    sentences = [f"{quoted(case.decision)}."]
    before, after, width = facts.number("before"), facts.number("after"), facts.number("width")
    if before is not None and after is not None:
        over = "" if width is None else f" over the newest {num(width)} rows"
        who = facts.text("detector")
        sentences.append(
            f"The champion's mean loss went from {num(before)} to {num(after)}{over}"
            f"{f', by the detector {who}' if who else ''}."
        )
    sentences += _moved(facts)
    if facts.list_of("features") or "estimate" in facts:
        sentences.append("No label is behind it, so it warns, and promotes nothing.")
    return Story("Drift was warned of", sentences, _not_warned(case))


def _moved(facts: Facts) -> list[str]:
    named = []
    for one in map(Facts, facts.list_of("features")):
        p, test = one.number("p"), one.text("test")
        tested = "" if p is None else f" ({test.upper() + ', ' if test else ''}p = {num(p)})"
        named.append(f"{one.text('name') or 'a feature'}{tested}")
    more = (facts.number("found") or 0) - len(named)
    rest = f" and {num(more)} more" if more > 0 else ""
    return [f"What moved: {', '.join(named)}{rest}."] if named else []


def _not_warned(case: Case) -> str:
    budget = (
        ""
        if case.spec is None
        else (
            ": on stable streams each detector may be wrong "
            f"{num(case.spec.drift.false_alarms)} times in 10,000 rows"
        )
    )
    return f"It would have kept silent if what moved had stayed within what chance explains{budget}."


def freeze(case: Case) -> Story:
    """The story of a decision of kind ``freeze``."""
    count = case.facts.number("rollbacks")
    if automatic(case.decision):
        many = "Too many" if count is None else num(count)
        sentences = [
            f"{many} promotions in a row were rolled back, so the loop stopped changing the champion."
        ]
        limit = "fewer" if count is None else f"fewer than {num(count)}"
        return Story("The model froze", sentences, f"It would have gone on after {limit} rollbacks in a row.")
    return Story("The model was frozen", [asked_by(case)], "An operator unfreezes it.")


def unfreeze(case: Case) -> Story:
    """The story of a decision of kind ``unfreeze``."""
    return Story(
        "The model was unfrozen", [asked_by(case)], "Without the command it would have stayed frozen."
    )


def configure(case: Case) -> Story:
    """The story of a decision of kind ``configure``."""
    changed = [str(name) for name in case.facts.list_of("changed")]
    what = f"Changed: {say.listed(changed)}." if changed else f"{quoted(case.decision)}."
    return Story("The spec was set", [what, asked_by(case)], "")


def regime(case: Case) -> Story:
    """The story of a decision of kind ``regime``."""
    facts, number = case.facts, case.facts.number("regime")
    name = "A regime" if number is None else f"Regime {num(number)}"
    protected = facts.flag("protected")
    sentences = [f"{quoted(case.decision)}."]
    if protected is not None:
        sentences.append(f"It {'must not' if protected else 'may'} be forgotten.")
    if facts.flag("recognised"):
        return Story(
            f"{name} came back",
            sentences,
            "It would count as new if the two-sample test had told them apart.",
        )
    word = "began" if protected is None else "was judged"
    overruled = "An operator overrules it with regimes.protect in the spec." if protected is not None else ""
    return Story(f"{name} {word}", sentences, overruled)


def abstain(case: Case) -> Story:
    """The story of a decision of kind ``abstain``."""
    facts = case.facts
    floor, action = facts.number("floor"), facts.text("action")
    begun = facts.flag("abstaining") is not False
    value, lower, upper = (facts.number(name) for name in ("value", "lower", "upper"))
    sentences = [f"{quoted(case.decision)}."]
    if value is not None and lower is not None and upper is not None:
        rows = facts.number("rows")
        on = "" if rows is None else f" on {num(rows)} matured rows"
        sentences.append(
            f"The champion's metric was {num(value)}, between {num(lower)} and {num(upper)}{on}."
        )
    if begun and action:
        sentences.append(
            f"Until it recovers, answers are {'withheld' if action == 'withhold' else 'flagged'}."
        )
    good = "lower" if case.spec is not None and case.spec.lower_is_better else "upper"
    turned = (
        ""
        if floor is None
        else f"It turns when the {good} bound is {'at' if begun else 'past'} {num(floor)}."
    )
    return Story("The model abstains" if begun else "The model answers again", sentences, turned)
