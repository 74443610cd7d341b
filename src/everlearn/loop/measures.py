"""The metrics of a task over some scored rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from everlearn.loop.scored import Scored, answerable, error, log_loss, loss, right
from everlearn.types import Task

FLAT = 1e-20
"""A truth whose variance is under this share of its squared mean does not vary: the rest is rounding."""


def ratio(gained: float, possible: float) -> float:
    """What was gained of what was possible; 0 where nothing was."""
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
    majority = sum(s.majority == s.truth for s in rows) / len(rows)
    return ratio(_accuracy(rows) - majority, 1 - majority)


def _kappa_t(rows: Sequence[Scored]) -> float:
    no_change = sum(s.no_change == s.truth for s in rows) / len(rows)
    return ratio(_accuracy(rows) - no_change, 1 - no_change)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _log_losses(rows: Sequence[Scored]) -> list[float]:
    return [log_loss(s.p_truth) for s in rows if answerable(s)]


def _errors(rows: Sequence[Scored]) -> list[float]:
    return [abs(error(s)) for s in rows if answerable(s)]


def _rmse(rows: Sequence[Scored]) -> float | None:
    mean = _mean([size * size for size in _errors(rows)])
    return None if mean is None else math.sqrt(mean)


def r_squared(squares: Sequence[float], truths: Sequence[float]) -> float | None:
    """R² from squared errors and truths, of the same rows; ``None`` while the truth does not vary."""
    if not truths:
        return None
    mean = math.fsum(truths) / len(truths)
    variance = math.fsum((truth - mean) ** 2 for truth in truths) / len(truths)
    return 1 - math.fsum(squares) / len(squares) / variance if variance > FLAT * mean * mean else None


def _r2(rows: Sequence[Scored]) -> float | None:
    squares = [size * size for size in _errors(rows)]
    return r_squared(squares, [float(s.truth) for s in rows if answerable(s)])


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
_DETECTION: Mapping[str, _Measure] = {
    "frame_f1": lambda rows: _mean([1.0 - loss(s, "detection") for s in rows]),
}
_MEASURES: Mapping[Task, Mapping[str, _Measure]] = {
    "classification": _CLASSIFICATION,
    "regression": _REGRESSION,
    "detection": _DETECTION,
}


def metrics(rows: Sequence[Scored], task: Task) -> dict[str, float | None]:
    """All metrics of a task over some rows, ``None`` where the rows do not define one; empty for no rows.

    Classification: accuracy, macro F1, AUC, log-loss, kappa-M and kappa-T (Bifet et al. 2015).
    Regression: MAE, RMSE, and R², which is ``None`` while the truth does not vary. Detection: the mean over
    frames of the F1 of their boxes.
    """
    return {name: measure(rows) for name, measure in _MEASURES[task].items()} if rows else {}
