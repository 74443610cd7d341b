"""What is decided about those who give the labels, in words: warnings, quarantine, releases, un-learning."""

from __future__ import annotations

from everlearn.loop.alerts import automatic
from everlearn.loop.explain_case import Case, Story, asked_by, quoted
from everlearn.loop.explain_evidence import num


def _shown(case: Case) -> str:
    """How strong the evidence is."""
    facts = case.facts
    e, needed, alpha = facts.number("e_value"), facts.number("needed"), facts.number("alpha")
    if e is None or needed is None or alpha is None:
        return ""
    if facts.text("check") == "rate" and needed <= 1.0:
        return "Its share is held against the limit `feedback.most_share`."
    return (
        f"The e-value is {num(e)}, and {num(needed)} is asked for: with probability {num(alpha)} "
        f"at most, any source within {num(facts.number('margin') or 0.0)} of the others is ever named."
    )


def warn(case: Case) -> Story:
    """The story of a warning of a source."""
    sentences = [f"A source of labels is strange beside the others: {quoted(case.decision)}.", _shown(case)]
    sentences.append("Its labels are learned and scored as before; it is not warned of again until released.")
    why_not = "Under `feedback.guard: quarantine` it would have been put aside, but for a share that grew."
    return Story(f"{_source(case)} was warned of", sentences, why_not)


def quarantine(case: Case) -> Story:
    """The story of a source that is put aside."""
    by_itself = automatic(case.decision)
    sentences = [f"A source of labels was put aside: {quoted(case.decision)}.", asked_by(case)]
    sentences += [_shown(case) if by_itself else ""]
    sentences.append("What it gives is stored, but neither learned nor scored, until it is released.")
    why_not = "Under `feedback.guard: warn` it would only have been warned of." if by_itself else ""
    return Story(f"{_source(case)} was put aside", sentences, why_not)


def release(case: Case) -> Story:
    """The story of a source that is let in again."""
    sentences = [f"A source of labels was let in again: {quoted(case.decision)}.", asked_by(case)]
    sentences.append("All that it gave may be learned again; what it gives from now on is scored.")
    return Story(f"{_source(case)} was released", sentences, "")


def unlearn(case: Case) -> Story:
    """The story of a source that is un-learned."""
    facts = case.facts
    removed = facts.part("removed")
    sentences = [f"What a source gave was taken back: {quoted(case.decision)}.", asked_by(case)]
    counts = [f"{num(removed.number(name) or 0)} {words}" for name, words in _REMOVED]
    sentences.append(f"Removed were {', '.join(counts)}; sums over rows began anew.")
    return Story(f"{_source(case)} was un-learned", sentences, "")


_REMOVED = (("anchors", "anchors"), ("recent", "recent rows"), ("window", "rows of the champion's window"))


def erase(case: Case) -> Story:
    """The story of rows that were erased."""
    removed = case.facts.part("removed")
    sentences = [f"All rows of one person were removed: {quoted(case.decision)}.", asked_by(case)]
    counts = [f"{num(removed.number(name) or 0)} {words}" for name, words in _REMOVED]
    sentences.append(f"The loop forgot {', '.join(counts)}; what sums up values of rows began anew.")
    sentences.append("What was removed is not in the record, so decisions up to here are not derived again.")
    return Story("A person's rows were erased", sentences, "")


def _source(case: Case) -> str:
    return f"The source {case.facts.text('source')}"
