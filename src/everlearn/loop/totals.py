"""Sums over all matured rows, from which metrics over the whole life of a model are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everlearn.loop.measures import ratio
from everlearn.loop.scored import Scored, answerable, error, log_loss, loss, miss
from everlearn.types import Task

FADING_FACTOR = 0.999
"""Weight of the past at each row in the fading scores (Gama, Sebastião & Rodrigues 2013, section 3.2)."""

TERMS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("answerable", "right", "log_loss", "no_change_right", "majority_right"),
    "regression": (
        "answerable",
        "absolute",
        "square",
        "truth",
        "truth_square",
        "no_change_absolute",
        "no_change_square",
        "majority_absolute",
        "majority_square",
    ),
    "detection": ("frame_f1",),
}
"""The names of what :func:`terms_of` gives and :class:`Totals` sums, in their order."""


class Totals(msgspec.Struct):
    """Sums over every matured row so far, and the same sums fading, in the order of ``TERMS``."""

    rows: int = 0
    sums: list[float] = []
    fading_weight: float = 0.0
    fading_sums: list[float] = []

    def add(self, terms: Sequence[float]) -> None:
        """Take in the terms of one more row."""
        self.rows += 1
        self.fading_weight = FADING_FACTOR * self.fading_weight + 1.0
        if not self.sums:
            self.sums, self.fading_sums = [0.0] * len(terms), [0.0] * len(terms)
        sums, fading = self.sums, self.fading_sums
        for i, term in enumerate(terms):
            fading[i] = FADING_FACTOR * fading[i] + term
            if term:  # many are 0
                sums[i] += term


def terms_of(scored: Scored, task: Task) -> tuple[float, ...]:
    """What one row adds to the sums, for the answer and for each baseline, in the order of ``TERMS``."""
    if task == "regression":
        return _regression_terms(scored)
    if task == "detection":
        return (1.0 - loss(scored, task),)
    truth = scored.truth
    known = scored.value is not None or scored.majority is not None
    return (
        1.0 if known else 0.0,
        1.0 if scored.value == truth else 0.0,
        log_loss(scored.p_truth) if known else 0.0,
        1.0 if scored.no_change == truth else 0.0,
        1.0 if scored.majority == truth else 0.0,
    )


def _regression_terms(scored: Scored) -> tuple[float, ...]:
    known = float(answerable(scored))
    own = known * error(scored)
    no_change = known * miss(scored.no_change, scored)
    mean = known * miss(scored.majority, scored)
    truth = known * float(scored.truth)
    return (
        known,
        abs(own),
        own**2,
        truth,
        truth**2,
        abs(no_change),
        no_change**2,
        abs(mean),
        mean**2,
    )


def summed_metrics(terms: Sequence[float], weight: float, task: Task, who: str = "") -> dict[str, Any]:
    """Metrics from sums: of the answers, or with ``who`` (``no_change``, ``majority``) of a baseline."""
    if weight == 0:
        return {}
    sums = dict(zip(TERMS[task], terms, strict=True))
    if task == "detection":  # nothing to answer without looking: there are no baselines
        return {} if who else {"frame_f1": sums["frame_f1"] / weight}
    prefix, known = f"{who}_" if who else "", sums["answerable"]
    if task == "regression":
        return _summed_regression(sums, known, prefix)
    accuracy = sums[f"{prefix}right"] / weight
    if who:
        return {"accuracy": accuracy}
    majority, no_change = sums["majority_right"] / weight, sums["no_change_right"] / weight
    return {
        "accuracy": accuracy,
        "log_loss": sums["log_loss"] / known if known else None,
        "kappa_m": ratio(accuracy - majority, 1 - majority),
        "kappa_t": ratio(accuracy - no_change, 1 - no_change),
    }


def _summed_regression(sums: Mapping[str, float], known: float, prefix: str) -> dict[str, Any]:
    if not known:
        return {"mae": None, "rmse": None, "r2": None}
    square, truth_square = sums[f"{prefix}square"] / known, sums["truth_square"] / known
    variance = truth_square - (sums["truth"] / known) ** 2
    return {
        "mae": sums[f"{prefix}absolute"] / known,
        "rmse": math.sqrt(square),
        # The difference of two sums is rounding from about 1e-12 of them on.
        "r2": 1 - square / variance if variance > 1e-12 * truth_square else None,
    }
