"""Sums over the labelled rows of a part, from which the scores of a whole backfill are made exactly.

Counts are whole numbers. Sums of floats are kept as partials without any rounding (Shewchuk 1997, "Adaptive
Precision Floating-Point Arithmetic", Grow-Expansion), so that the parts of any cut come to the same scores.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from everlearn.loop.measures import FLAT, ratio
from everlearn.loop.scored import Scored, log_loss, right, score_row
from everlearn.predictor import class_key
from everlearn.types import Output, Scalar, Task

SUMMED: Mapping[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "f1", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
}
"""The metrics that sums tell; the first stands in for those that need all rows at once."""

HUGE = 1e150
"""Numbers beyond it are squared as if they were it, so that no sum of squares overflows."""

SIDES = ("version", "served")
"""Whose scores: those of the version, and those of what was served."""


def shown_metric(metric: str | None, task: Task) -> str:
    """The model's metric, or the one that stands in for it."""
    known = SUMMED[task]
    return metric if metric in known else known[0]


def add_exactly(partials: list[float], number: float) -> None:
    """Add a number to a sum that is kept as partials.

    >>> total = []
    >>> for number in (1e16, 1.0, -1e16):
    ...     add_exactly(total, number)
    >>> sum(total)
    1.0
    """
    kept = 0
    for partial in partials:
        big, small = (number, partial) if abs(number) >= abs(partial) else (partial, number)
        number = big + small
        rest = small - (number - big)
        if rest:
            partials[kept] = rest
            kept += 1
    partials[kept:] = [number]


class Sums:
    """What a part adds up. ``metric`` is the one that is shown: for F1 alone classes are counted apart."""

    def __init__(self, task: Task, metric: str) -> None:
        self._task, self._classes = task, metric == "f1"
        self.rows = self.labels = self.both = self.agreed = 0
        self.rights = dict.fromkeys(SIDES, 0)
        self.partials: dict[str, list[float]] = {}
        self.totals: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
        self.hits: dict[str, Counter[str]] = {side: Counter() for side in SIDES}

    def add(self, row: int, truth: Scalar, version: Output, served: Output) -> None:
        """Take in a row: what the version answers, what was served, and the truth (``None``: no label)."""
        self.rows += 1
        self.agreed += version.value == served.value
        if truth is None:
            return
        self.labels += 1
        scored = {
            side: score_row(row, 0, truth, output, None, None)
            for side, output in zip(SIDES, (version, served), strict=True)
        }
        both = all(self._answered(one) for one in scored.values())
        self.both += both
        if self._task == "regression":
            if both:
                self._add_errors(scored)
            return
        for side, one in scored.items():
            self.rights[side] += right(one)
            if self._classes:
                self._count(side, one)
            if both:
                self._sum(f"{side}.log_loss", log_loss(one.p_truth))

    def _answered(self, one: Scored) -> bool:
        return one.value is not None and (self._task == "regression" or one.p_truth is not None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the partials as they are."""
        kept: dict[str, Any] = {
            "rows": self.rows, "labels": self.labels, "both": self.both, "agreed": self.agreed,
            "right": dict(self.rights), "partials": self.partials,
        }  # fmt: skip
        if self._classes:
            kept |= {"totals": _plain(self.totals), "hits": _plain(self.hits)}
        return kept

    def _add_errors(self, scored: Mapping[str, Scored]) -> None:
        truth = float(scored["version"].truth)
        self._sum("truth", _held(truth))
        self._sum_square("truth.square", truth)
        for side, one in scored.items():
            size = abs(float(one.value or 0.0) - truth)
            self._sum(f"{side}.absolute", size)
            self._sum_square(f"{side}.square", size)

    def _sum(self, name: str, number: float) -> None:
        add_exactly(self.partials.setdefault(name, []), number)

    def _sum_square(self, name: str, number: float) -> None:
        number = _held(number)
        square = number * number
        self._sum(name, square)
        self._sum(name, float(Fraction(number) ** 2 - Fraction(square)))  # what the product has lost

    def _count(self, side: str, one: Scored) -> None:
        truth = class_key(one.truth)
        self.totals[side][truth] += 1
        if one.value is not None:
            self.totals[side][class_key(one.value)] += 1
        self.hits[side][truth] += right(one)


def _held(number: float) -> float:
    return max(-HUGE, min(HUGE, number))


def _plain(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {side: dict(sorted(found.items())) for side, found in counts.items()}


def scores(parts: Sequence[Mapping[str, Any]], task: Task, metric: str) -> dict[str, dict[str, Any]]:
    """The scores of the version and of what was served, over the same labelled rows of some parts.

    A row without an answer is wrong for accuracy and F1; the other metrics are over the rows that both
    answered. ``None`` where no row defines a metric.
    """
    return {side: _scores(parts, task, metric, side) for side in SIDES}


def _scores(parts: Sequence[Mapping[str, Any]], task: Task, metric: str, side: str) -> dict[str, Any]:
    labels, both = sum(part["labels"] for part in parts), sum(part["both"] for part in parts)
    if task == "regression":
        return _errors(parts, both, side)
    rights = sum(part["right"][side] for part in parts)
    loss = _total(parts, f"{side}.log_loss")
    found = {"accuracy": rights / labels if labels else None, "log_loss": loss / both if both else None}
    return {**found, "f1": _f1(parts, side)} if metric == "f1" else found


def _errors(parts: Sequence[Mapping[str, Any]], both: int, side: str) -> dict[str, Any]:
    if not both:
        return {"mae": None, "rmse": None, "r2": None}
    square = _exact(parts, f"{side}.square")
    truths, squares = _exact(parts, "truth"), _exact(parts, "truth.square")
    spread = squares - truths * truths / both
    return {
        "mae": _total(parts, f"{side}.absolute") / both,
        "rmse": math.sqrt(float(square) / both),
        "r2": _r2(square, spread) if spread > FLAT * squares else None,
    }


def _r2(square: Fraction, spread: Fraction) -> float | None:
    """R²; ``None`` where it is too far below 0 for a float."""
    share = square / spread
    return 1.0 - float(share) if share < sys.float_info.max else None


def _f1(parts: Sequence[Mapping[str, Any]], side: str) -> float | None:
    """The mean over the classes that occur, as truths or answers, of their F1 scores."""
    total, hits = Counter[str](), Counter[str]()
    for part in parts:
        total.update(part["totals"][side])
        hits.update(part["hits"][side])
    found = [ratio(2 * hits[name], count) for name, count in sorted(total.items())]
    return math.fsum(found) / len(found) if found else None


def _numbers(parts: Iterable[Mapping[str, Any]], name: str) -> Iterable[float]:
    return (number for part in parts for number in part["partials"].get(name, ()))


def _total(parts: Sequence[Mapping[str, Any]], name: str) -> float:
    return math.fsum(_numbers(parts, name))


def _exact(parts: Sequence[Mapping[str, Any]], name: str) -> Fraction:
    return sum(map(Fraction, _numbers(parts, name)), Fraction(0))
