"""Scores of rows whose truth is known: windowed, fading and over all, beside honest baselines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from everlearn.loop.bounds import Interval, jackknife_interval, mean_interval, proportion_interval
from everlearn.predictor import class_key
from everlearn.types import Output, Scalar, Task

PROBABILITY_FLOOR = 1e-6
"""Log-loss clips probabilities here, so that one impossible answer costs at most 13.8 nats."""

FADING_FACTOR = 0.999
"""Weight of the past at each row in the fading scores (Gama, Sebastião & Rodrigues 2013, section 3.2)."""


_FLAT = 1e-20
"""A truth whose variance is under this share of its squared mean does not vary: the rest is rounding."""


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


def answerable(scored: Scored) -> bool:
    """Whether there was an answer, or could have been: some label had arrived before the row was asked.

    A row before that is wrong like any other wrong answer, but it is left out of log-loss, MAE, RMSE
    and R²: no number could stand for an answer that nobody had.
    """
    return scored.value is not None or scored.majority is not None


def error(scored: Scored) -> float:
    """The signed error of the estimate; an answer of ``None`` counts as the running mean, or as 0."""
    return _miss(scored.value, scored)


def _miss(estimate: Scalar, scored: Scored) -> float:
    return float((scored.majority if estimate is None else estimate) or 0.0) - float(scored.truth)


def cost(scored: Scored, task: Task) -> float:
    """What a row's answer cost, in the units of the target: 0/1 loss, or the absolute error."""
    return abs(error(scored)) if task == "regression" else float(not right(scored))


def loss(scored: Scored, task: Task) -> float:
    """What the drift detector watches, between 0 and 1 as it must be: the 0/1 loss.

    For regression the share of the absolute error in the sum of it and that of the running mean: 0 for
    a perfect estimate, 1/2 for one as bad as the mean, whatever the scale of the target.
    """
    if task == "classification":
        return float(not right(scored))
    own, mean = abs(error(scored)), abs(_miss(scored.majority, scored))
    return own / (own + mean) if own else 0.0


def _ratio(gained: float, possible: float) -> float:
    return gained / possible if possible > 0 else 0.0


def macro_f1(rows: Sequence[Scored]) -> float:
    """The mean over the classes that occur, as truths or answers, of their F1 scores."""
    total = Counter(s.truth for s in rows)
    total.update(s.value for s in rows if s.value is not None)
    hits = Counter(s.truth for s in rows if right(s))
    return math.fsum(2 * hits[label] / n for label, n in total.items()) / len(total) if total else 0.0


def auc(rows: Sequence[Scored]) -> float | None:
    """Area under the ROC curve by ranks with ties halved; ``None`` unless just two classes occur."""
    if len({s.truth for s in rows}) != 2:
        return None
    pairs = [(s.p_positive, s.positive) for s in rows if s.p_positive is not None]
    chances = np.array([chance for chance, _ in pairs])
    positive = np.array([positive for _, positive in pairs], dtype=bool)
    positives = int(positive.sum())
    if not 0 < positives < len(pairs):
        return None
    _, group, sizes = np.unique(chances, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    above = float(ranks[group][positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * (len(pairs) - positives))


def _accuracy(rows: Sequence[Scored]) -> float:
    return sum(map(right, rows)) / len(rows)


def _kappa_m(rows: Sequence[Scored]) -> float:
    majority = sum(s.majority is not None and s.majority == s.truth for s in rows) / len(rows)
    return _ratio(_accuracy(rows) - majority, 1 - majority)


def _kappa_t(rows: Sequence[Scored]) -> float:
    no_change = sum(s.no_change is not None and s.no_change == s.truth for s in rows) / len(rows)
    return _ratio(_accuracy(rows) - no_change, 1 - no_change)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _log_losses(rows: Sequence[Scored]) -> list[float]:
    return [log_loss(s.p_truth) for s in rows if answerable(s)]


def _errors(rows: Sequence[Scored]) -> list[float]:
    return [abs(error(s)) for s in rows if answerable(s)]


def _rmse(rows: Sequence[Scored]) -> float | None:
    mean = _mean([size * size for size in _errors(rows)])
    return None if mean is None else math.sqrt(mean)


def _r2(rows: Sequence[Scored]) -> float | None:
    square = _mean([size * size for size in _errors(rows)])
    truths = [float(s.truth) for s in rows if answerable(s)]
    mean = _mean(truths)
    if square is None or mean is None:
        return None
    variance = math.fsum((truth - mean) ** 2 for truth in truths) / len(truths)
    return 1 - square / variance if variance > _FLAT * mean * mean else None


_Measure = Callable[[Sequence[Scored]], float | None]

_CLASSIFICATION: Mapping[str, _Measure] = {
    "accuracy": _accuracy,
    "f1": macro_f1,
    "auc": auc,
    "log_loss": lambda rows: _mean(_log_losses(rows)),
    "kappa_m": _kappa_m,
    "kappa_t": _kappa_t,
}
_REGRESSION: Mapping[str, _Measure] = {
    "mae": lambda rows: _mean(_errors(rows)),
    "rmse": _rmse,
    "r2": _r2,
}


def metrics(rows: Sequence[Scored], task: Task) -> dict[str, float | None]:
    """All metrics of a task over some rows, ``None`` where the rows do not define one; empty for no rows.

    Classification: accuracy, macro F1, AUC, log-loss, kappa-M and kappa-T (Bifet et al. 2015).
    Regression: MAE, RMSE, and R², which is ``None`` while the truth does not vary.
    """
    measures = _REGRESSION if task == "regression" else _CLASSIFICATION
    return {name: measure(rows) for name, measure in measures.items()} if rows else {}


def metric_interval(rows: Sequence[Scored], metric: str, task: Task, confidence: float) -> Interval | None:
    """A metric with its confidence bounds; ``None`` where the rows do not define it."""
    if not rows:
        return None
    if metric == "accuracy":
        return proportion_interval(sum(map(right, rows)), len(rows), confidence)
    if metric in ("log_loss", "mae"):
        values = _log_losses(rows) if metric == "log_loss" else _errors(rows)
        return mean_interval(values, confidence) if values else None
    measure = (_REGRESSION if task == "regression" else _CLASSIFICATION)[metric]
    return _jackknifed(rows, measure, confidence)


def _jackknifed(rows: Sequence[Scored], measure: _Measure, confidence: float) -> Interval | None:
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
        sums, fading = self.sums, self.fading_sums
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
            fading[name] = FADING_FACTOR * fading.get(name, 0.0) + value


def terms_of(scored: Scored, task: Task) -> dict[str, float]:
    """What one row adds to the sums, for the answer and for each baseline."""
    if task == "regression":
        return _regression_terms(scored)
    known = answerable(scored)
    return {
        "answerable": float(known),
        "right": float(right(scored)),
        "log_loss": log_loss(scored.p_truth) if known else 0.0,
        "no_change_right": float(scored.no_change is not None and scored.no_change == scored.truth),
        "majority_right": float(scored.majority is not None and scored.majority == scored.truth),
    }


def _regression_terms(scored: Scored) -> dict[str, float]:
    known = float(answerable(scored))
    own = known * error(scored)
    no_change = known * _miss(scored.no_change, scored)
    mean = known * _miss(scored.majority, scored)
    truth = known * float(scored.truth)
    return {
        "answerable": known,
        "absolute": abs(own),
        "square": own**2,
        "truth": truth,
        "truth_square": truth**2,
        "no_change_absolute": abs(no_change),
        "no_change_square": no_change**2,
        "majority_absolute": abs(mean),
        "majority_square": mean**2,
    }


def summed_metrics(sums: dict[str, float], weight: float, task: Task, who: str = "") -> dict[str, Any]:
    """Metrics from sums: of the answers, or with ``who`` (``no_change``, ``majority``) of a baseline."""
    if weight == 0:
        return {}
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
        "kappa_m": _ratio(accuracy - majority, 1 - majority),
        "kappa_t": _ratio(accuracy - no_change, 1 - no_change),
    }


def _summed_regression(sums: dict[str, float], known: float, prefix: str) -> dict[str, Any]:
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
