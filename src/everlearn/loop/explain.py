"""Why a decision was made: one paragraph in plain words, the numbers behind it, and what would turn it.

It tells from the ledger alone, and decides nothing: pure functions from recorded decisions to text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from everlearn.loop.explain_case import Case
from everlearn.loop.explain_evidence import number_of
from everlearn.loop.explain_kinds import tell
from everlearn.spec import ModelSpec
from everlearn.types import Decision, DecisionKind, Version

NEWSWORTHY = (DecisionKind.PROMOTE, DecisionKind.ROLLBACK, DecisionKind.REFUSE)
"""The kinds that are explained when no decision is named."""

MOST_NUMBERS = 200
"""How many numbers are listed at most: a ledger row may hold a group for every value of a column."""

MEANINGS: Mapping[str, str] = {
    "accumulated": "rows that staying has cost so far, beyond what a new version would have",
    "after": "mean loss since the change",
    "alpha": "share of the error budget that this attempt may use",
    "attempt": "which attempt against this champion",
    "average_per_row": "least that a row would cost after an update, with its price",
    "before": "mean loss before the change",
    "brier_new": "half the Brier score of the candidate",
    "brier_noise": "what chance explains of the rise",
    "brier_old": "half the Brier score of the champion",
    "candidate": "loss a row of the candidate",
    "champion": "loss a row of the champion",
    "confidence": "of each bound, by itself",
    "cost": "price of an update, in rows answered wrongly",
    "cost_rows": "rows since the last update",
    "e": "e-value that it is better",
    "e_value": "e-value that it is better",
    "e_worse": "e-value that it is worse",
    "ece": "calibration error",
    "ece_new": "calibration error of the candidate",
    "ece_noise": "what chance explains of the calibration error",
    "ece_old": "calibration error of the champion",
    "examples": "labelled examples known",
    "excess_per_row": "rows answered wrongly that staying costs, a row",
    "floor": "bound of the metric under which the model abstains",
    "found": "columns that moved",
    "gain": "loss saved, a row",
    "high": "upper bound of the gain, a row",
    "holdout": "newest rows kept out of training",
    "latency_ms": "milliseconds an answer takes",
    "limit": "how much it may rise",
    "limit_ms": "milliseconds that an answer may take",
    "log_e": "natural logarithm of the e-value",
    "losses": "rows on which the other side alone did better",
    "lost": "rows answered wrongly since the last update",
    "low": "lower bound of the gain, a row",
    "lower": "lower confidence bound",
    "margin": "loss a row that may be lost",
    "matured": "matured rows of this champion",
    "mean_gain": "loss saved, a row",
    "needed": "what must be reached",
    "new_loss": "loss a row of the candidate",
    "old_high": "upper bound of the old version's loss, a row",
    "old_loss": "loss a row of the old version",
    "p": "p-value",
    "p_better": "p-value that it is no better",
    "p_worse": "p-value that it is no worse",
    "regime": "number of the regime",
    "replaces": "version that answered before",
    "rollbacks": "automatic rollbacks in a row",
    "row": "row at which it begins",
    "rows": "rows answered by both, or counted",
    "rows_since_change": "matured rows since the change",
    "scale": "unit of the errors",
    "seconds": "seconds",
    "seconds_left": "seconds of work left today",
    "served_loss": "loss a row of what was served",
    "served_low": "lower bound of the served loss, a row",
    "size": "population stability index",
    "threshold": "what the metric must keep",
    "updates_left": "updates left today",
    "upper": "upper confidence bound",
    "value": "the champion's metric",
    "width": "newest rows over which it rose",
    "wins": "rows on which the version alone did better",
}
"""What the numbers of evidence mean, by the last part of their name."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number behind a decision; ``name`` is its path in the evidence, ``meaning`` its unit in words."""

    name: str
    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was decided and why. ``why_not`` says what would have to be different for the opposite."""

    headline: str
    paragraph: str
    numbers: tuple[Number, ...]
    why_not: str

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON values."""
        numbers = [{"name": n.name, "value": n.value, "meaning": n.meaning} for n in self.numbers]
        told = {"headline": self.headline, "paragraph": self.paragraph}
        return {**told, "numbers": numbers, "why_not": self.why_not}


def explain(
    decision: Decision, history: Sequence[Decision], spec: ModelSpec | None, made: Version | None = None
) -> Explanation:
    """Explain a decision of the ledger.

    ``history`` holds other decisions of the model, in any order; the earlier ones tell what led to it.
    ``spec`` is the spec in force now (``None`` if it is not known), ``made`` the version it concerns, which
    tells what it cost. Evidence of any age and shape is read: what is missing is left out.
    """
    before = sorted((d for d in history if d.number < decision.number), key=lambda d: -d.number)
    story = tell(Case(decision, before, spec, made))
    sentences = [_when(decision), *story.sentences, _since_changed(decision, history)]
    paragraph = " ".join(_sentence(text) for text in sentences if text)
    numbers = tuple(islice(_numbers(decision.evidence), MOST_NUMBERS))
    headline = f"{_sentence(story.headline)} (decision {decision.number})"
    return Explanation(headline, paragraph, numbers, _sentence(story.why_not))


def newest(decisions: Sequence[Decision]) -> Decision | None:
    """The newest promotion, rollback or refusal, or ``None``."""
    return max((d for d in decisions if d.kind in NEWSWORTHY), key=lambda d: d.number, default=None)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _when(decision: Decision) -> str:
    code = f", by everlearn {decision.code}" if decision.code else ""
    return f"This was decided {_moment(decision.at)} at event {decision.seq:,} of the log{code}."


def _moment(at: float) -> str:
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    except (OverflowError, ValueError):
        return f"at second {at:.0f} of the epoch"
    return f"on {when:%Y-%m-%d} at {when:%H:%M:%S} UTC"


def _since_changed(decision: Decision, history: Sequence[Decision]) -> str:
    later = (d.number for d in history if d.kind is DecisionKind.CONFIGURE and d.number > decision.number)
    number = min(later, default=None)
    if number is None:
        return ""
    return f"The spec has been changed since (decision {number}): limits named here may be today's."


def _numbers(evidence: Mapping[str, Any]) -> Iterator[Number]:
    for name, value in _flat("", evidence):
        yield Number(name, value, MEANINGS.get(name.rpartition(".")[2], ""))


def _flat(path: str, value: object) -> Iterator[tuple[str, float]]:
    """The numbers inside, with their paths; positions of the plan are no evidence."""
    number = number_of(value)
    if number is not None:
        yield path, number
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in ("plan", "versions"):
                yield from _flat(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from _items(path, value)


def _items(path: str, values: Sequence[object]) -> Iterator[tuple[str, float]]:
    if len(values) == 3 and all(number_of(value) is not None for value in values):
        for suffix, value in zip(("", ".lower", ".upper"), values, strict=True):
            yield from _flat(f"{path}{suffix}", value)
        return
    for index, value in enumerate(values):
        named = value.get("name") if isinstance(value, Mapping) else None
        yield from _flat(f"{path}.{named if isinstance(named, str) else index}", value)
