"""A decision to be explained with what is known around it, and the sentences that several kinds share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from everlearn.loop import explain_evidence as say
from everlearn.loop.alerts import automatic
from everlearn.loop.explain_evidence import Facts, num
from everlearn.spec import ModelSpec
from everlearn.types import Decision, DecisionKind, Version

CHANGES = (DecisionKind.PROMOTE, DecisionKind.ROLLBACK)
MODES = {
    "fresh": "trained anew",
    "incremental": "trained on from its parent",
    "recalibrate": "made by correcting the champion's probabilities",
}


class Story(NamedTuple):
    """What is told of a decision."""

    headline: str
    sentences: list[str]
    why_not: str


@dataclass(frozen=True, slots=True)
class Case:
    """A decision with what is known around it. ``before`` holds earlier decisions, the newest first."""

    decision: Decision
    before: Sequence[Decision]
    spec: ModelSpec | None
    made: Version | None

    @property
    def facts(self) -> Facts:
        """The decision's evidence."""
        return Facts(self.decision.evidence)

    @property
    def version(self) -> str:
        """The version in words."""
        number = self.decision.version
        return "the champion" if number is None else f"version {number}"

    @property
    def update(self) -> Decision | None:
        """The update decision that made the version."""
        job = self.facts.text("job")
        updates = [one for one in self.before if one.kind is DecisionKind.UPDATE]
        by_job = [one for one in updates if job and Facts(one.evidence).text("job") == job]
        own = [one for one in updates if one.version is not None and one.version == self.decision.version]
        return next(iter(by_job or own), None)

    @property
    def mode(self) -> str:
        """How the version was made."""
        return "" if self.update is None else Facts(self.update.evidence).part("plan").text("mode")

    @property
    def zero_one(self) -> bool:
        """Whether a row's loss is 0 or 1."""
        spec = self.spec
        classes = spec is not None and spec.task == "classification" and spec.metric != "log_loss"
        return classes and self.mode != "recalibrate"

    def warnings(self) -> list[Decision]:
        """Warnings since the champion changed last, the newest first."""
        found = []
        for one in self.before:
            if one.kind in CHANGES:
                break
            if one.kind is DecisionKind.WARN and "source" not in one.evidence:
                found.append(one)
        return found


# -- what came before ----------------------------------------------------------------------------------


def asked_by(case: Case) -> str:
    """Who asked for it; empty for what the loop decided by itself."""
    if automatic(case.decision):
        return ""
    who, why = case.facts.text("by"), case.facts.text("why")
    said = f", who gave as the reason: “{why}”" if why else ""
    return f"It was asked for by {who or 'an operator'}{said}."


def origin(case: Case) -> Iterator[str]:
    """The update that made the version, the warnings before it, and what it cost."""
    if case.facts.flag("reused"):
        yield "It is an archived version, so coming back cost no training."
    elif case.update is not None:
        how = MODES.get(case.mode, "asked for")
        yield (
            f"{case.version.capitalize()} was {how} by decision {case.update.number}, "
            f"because: {quoted(case.update)}."
        )
    warned = case.warnings()
    if warned:
        many = "a warning" if len(warned) == 1 else f"{num(len(warned))} warnings, the newest"
        yield f"Before it came {many}: decision {warned[0].number}, {quoted(warned[0])}."
    yield _cost(case)


def _cost(case: Case) -> str:
    made = case.made
    if made is None or made.number != case.decision.version or not made.rows:
        return ""
    seconds = Facts(made.metrics).number("seconds")
    took = "" if seconds is None else f", which took {num(seconds)} s"
    return f"It had learned from {num(made.rows)} examples{took}."


def quoted(decision: Decision) -> str:
    """A decision's own words."""
    return "“" + " ".join(decision.reason.split()) + "”"


def comparison(case: Case, old: str, new: str) -> Iterator[str]:
    """What both sides' answers to the same rows say."""
    facts = case.facts
    yield say.metric_words(facts, case.spec)
    yield say.losses_words(facts, say.loss_unit(case.spec, case.mode), old, new, case.zero_one)
    yield say.e_words(facts, f"{new} is better")
    yield say.worse_words(facts, f"{new} is worse")
    yield say.gain_words(facts)
    yield say.bars_words(facts)


def replaced(case: Case) -> str:
    """The version that answered before."""
    number = case.facts.number("replaces")
    return "the champion" if number is None else f"version {num(number)}"
