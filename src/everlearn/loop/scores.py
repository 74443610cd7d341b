"""Scores of rows whose truth is known: windowed, fading and over all, beside honest baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from everlearn.loop.bounds import Interval, jackknife_interval, mean_interval, proportion_interval
from everlearn.predictor import class_key
from everlearn.types import Output, Scalar, Task

PROBABILITY_FLOOR = 1e-6
"""Log-loss clips probabilities here, so that one impossible answer costs at most 13.8 nats."""

FADING_FACTOR = 0.999
"""Weight of the past at each row in the fading scores (Gama, Sebastião & Rodrigues 2013, section 3.2)."""


class Scored(msgspec.Struct, frozen=True, array_like=True):
    """One row with what was answered, what was true, and what the baselines would have answered.

    ``p_truth`` is the probability given to the truth (``None`` for regression); ``p_positive`` that of
    the greater of two classes (``None`` unless there are two). The baselines know only the labels
    that had arrived before the prediction was made.
    """

    row: int
    version: int
    truth: bool | int | float | str
    value: bool | int | float | str | None
    p_truth: float | None
    p_positive: float | None
    positive: bool
    no_change: bool | int | float | str | None
    majority: bool | int | float | str | None


def score_row(
    row: int, version: int, truth: Scalar, output: Output, no_change: Scalar, majority: Scalar
) -> Scored:
    """Put an answer beside its truth."""
    p_truth = p_positive = None
    positive = False
    if output.probabilities is not None:
        key = class_key(truth)
        p_truth = float(output.probabilities.get(key, 0.0))
        if len(output.probabilities) == 2:
            top = max(output.probabilities)
            p_positive, positive = float(output.probabilities[top]), key == top
    assert truth is not None
    return Scored(row, version, truth, output.value, p_truth, p_positive, positive, no_change, majority)


def log_loss(p_truth: float | None) -> float:
    """Negative log of the probability given to the truth, in nats."""
    return -math.log(max(p_truth or 0.0, PROBABILITY_FLOOR))


def right(scored: Scored) -> bool:
    """Whether the answer was the truth."""
    return scored.value is not None and scored.value == scored.truth


def error(scored: Scored, value: Scalar = None) -> float:
    """The signed error of an estimate; an answer of ``None`` counts as an estimate of 0."""
    estimate = scored.value if value is None else value
    return float(estimate or 0.0) - float(scored.truth)


def loss(scored: Scored, task: Task) -> float:
    """What the drift detector watches: 0/1 loss, or the absolute error."""
    return abs(error(scored)) if task == "regression" else float(not right(scored))


def _ratio(gained: float, possible: float) -> float:
    return gained / possible if possible > 0 else 0.0


def macro_f1(rows: Sequence[Scored]) -> float:
    """The mean over the classes that occur of their F1 scores."""
    hits: dict[Scalar, int] = {}
    total: dict[Scalar, int] = {}
    for scored in rows:
        for label in (scored.truth, scored.value):
            if label is not None:
                total[label] = total.get(label, 0) + 1
        if right(scored):
            hits[scored.truth] = hits.get(scored.truth, 0) + 1
    return math.fsum(2 * hits.get(label, 0) / n for label, n in total.items()) / len(total) if total else 0.0


def auc(rows: Sequence[Scored]) -> float | None:
    """Area under the ROC curve by ranks with ties halved; ``None`` unless both of two classes occur."""
    pairs = sorted((s.p_positive, s.positive) for s in rows if s.p_positive is not None)
    positives = sum(positive for _, positive in pairs)
    negatives = len(pairs) - positives
    if not positives or not negatives:
        return None
    rank_sum, start = 0.0, 0
    while start < len(pairs):
        end = start
        while end < len(pairs) and pairs[end][0] == pairs[start][0]:
            end += 1
        rank_sum += (start + 1 + end) / 2 * sum(positive for _, positive in pairs[start:end])
        start = end
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def classification_metrics(rows: Sequence[Scored]) -> dict[str, float | None]:
    """Accuracy, macro F1, AUC, log-loss, kappa-M and kappa-T (Bifet et al. 2015) of some rows."""
    n = len(rows)
    if n == 0:
        return {}
    accuracy = sum(map(right, rows)) / n
    majority = sum(s.majority is not None and s.majority == s.truth for s in rows) / n
    no_change = sum(s.no_change is not None and s.no_change == s.truth for s in rows) / n
    return {
        "accuracy": accuracy,
        "f1": macro_f1(rows),
        "auc": auc(rows),
        "log_loss": math.fsum(log_loss(s.p_truth) for s in rows) / n,
        "kappa_m": _ratio(accuracy - majority, 1 - majority),
        "kappa_t": _ratio(accuracy - no_change, 1 - no_change),
    }


def regression_metrics(rows: Sequence[Scored]) -> dict[str, float | None]:
    """MAE, RMSE and R² of some rows; R² is ``None`` while the truth does not vary."""
    n = len(rows)
    if n == 0:
        return {}
    squares = math.fsum(error(s) ** 2 for s in rows)
    mean = math.fsum(float(s.truth) for s in rows) / n
    spread = math.fsum((float(s.truth) - mean) ** 2 for s in rows)
    return {
        "mae": math.fsum(abs(error(s)) for s in rows) / n,
        "rmse": math.sqrt(squares / n),
        "r2": 1 - squares / spread if spread > 0 else None,
    }


def metrics(rows: Sequence[Scored], task: Task) -> dict[str, float | None]:
    """All metrics of a task over some rows; empty for no rows."""
    return regression_metrics(rows) if task == "regression" else classification_metrics(rows)


def metric_interval(rows: Sequence[Scored], metric: str, task: Task, confidence: float) -> Interval | None:
    """A metric with its confidence bounds; ``None`` where the rows do not define it."""
    if not rows:
        return None
    if metric == "accuracy":
        return proportion_interval(sum(map(right, rows)), len(rows), confidence)
    if metric == "log_loss":
        return mean_interval([log_loss(s.p_truth) for s in rows], confidence)
    if metric == "mae":
        return mean_interval([abs(error(s)) for s in rows], confidence)
    return _jackknifed(rows, lambda some: metrics(some, task).get(metric), confidence)


def _jackknifed(
    rows: Sequence[Scored], measure: Callable[[Sequence[Scored]], float | None], confidence: float
) -> Interval | None:
    blocks = min(10, len(rows))
    whole = measure(rows)
    if whole is None or blocks < 2:
        return None
    edges = [round(i * len(rows) / blocks) for i in range(blocks + 1)]
    left_out = [measure([*rows[:start], *rows[end:]]) for start, end in pairwise(edges)]
    if any(value is None for value in left_out):
        return None
    return jackknife_interval(whole, [v for v in left_out if v is not None], len(rows), confidence)


class Totals(msgspec.Struct):
    """Sums over every matured row so far, and the same sums fading."""

    rows: int = 0
    sums: dict[str, float] = {}
    fading_weight: float = 0.0
    fading_sums: dict[str, float] = {}

    def add(self, terms: dict[str, float]) -> None:
        """Take in the terms of one more row."""
        self.rows += 1
        self.fading_weight = FADING_FACTOR * self.fading_weight + 1.0
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.fading_sums[name] = FADING_FACTOR * self.fading_sums.get(name, 0.0) + value


def terms_of(scored: Scored, task: Task) -> dict[str, float]:
    """What one row adds to the sums, for the answer and for each baseline."""
    if task == "regression":
        no_change, mean = error(scored, scored.no_change or 0.0), error(scored, scored.majority or 0.0)
        return {
            "absolute": abs(error(scored)),
            "square": error(scored) ** 2,
            "truth": float(scored.truth),
            "truth_square": float(scored.truth) ** 2,
            "no_change_absolute": abs(no_change),
            "no_change_square": no_change**2,
            "majority_absolute": abs(mean),
            "majority_square": mean**2,
        }
    return {
        "right": float(right(scored)),
        "log_loss": log_loss(scored.p_truth),
        "no_change_right": float(scored.no_change is not None and scored.no_change == scored.truth),
        "majority_right": float(scored.majority is not None and scored.majority == scored.truth),
    }


def summed_metrics(sums: dict[str, float], weight: float, task: Task, who: str = "") -> dict[str, Any]:
    """Metrics from sums: of the answers, or with ``who`` (``no_change``, ``majority``) of a baseline."""
    if weight == 0:
        return {}
    prefix = f"{who}_" if who else ""
    if task == "regression":
        variance = sums["truth_square"] / weight - (sums["truth"] / weight) ** 2
        square = sums[f"{prefix}square"] / weight
        return {
            "mae": sums[f"{prefix}absolute"] / weight,
            "rmse": math.sqrt(square),
            "r2": 1 - square / variance if variance > 0 else None,
        }
    accuracy = sums[f"{prefix}right"] / weight
    if who:
        return {"accuracy": accuracy}
    majority, no_change = sums["majority_right"] / weight, sums["no_change_right"] / weight
    return {
        "accuracy": accuracy,
        "log_loss": sums["log_loss"] / weight,
        "kappa_m": _ratio(accuracy - majority, 1 - majority),
        "kappa_t": _ratio(accuracy - no_change, 1 - no_change),
    }
