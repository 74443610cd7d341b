"""What a run is worth: one code for our answers and for those of the peers."""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST = 1e-15
"""Probabilities are clipped to this for the log loss (and rows scaled to sum to 1)."""


def classification(picks: Any, answers: Any, y: Any, delay: int) -> dict[str, float]:
    """Accuracy %, kappa-T %, and log loss (nats) of ``picks`` (n,) and ``answers`` (n, k) for ``y`` (n,).

    No answer is wrong. With late labels the accuracy counts from the first row on which a label can be known,
    ``delay + 1``, as the log loss always does; ``accuracy_all`` counts all rows. Kappa-T compares with the
    newest label that is known when a row is asked.
    """
    some = slice(delay + 1, None)
    whole, same = float((picks == y).mean()), no_change(y, delay)
    kappa = (whole - same) / (1.0 - same) if same < 1.0 else 0.0
    accuracy = float((picks[some] == y[some]).mean()) if delay else whole
    chances = answers[some].astype(np.float64)
    total = chances.sum(axis=1)
    truth = chances[np.arange(len(chances)), y[some]] / np.where(total > 0.0, total, 1.0)
    loss = float(-np.log(np.clip(truth, LEAST, 1.0)).mean()) if len(truth) else float("nan")
    figures = {"accuracy": 100.0 * accuracy, "accuracy_all": 100.0 * whole}
    return {**figures, "kappa_t": 100.0 * kappa, "log_loss": loss}


def no_change(y: Any, delay: int) -> float:
    """The share of rows whose label is the newest one that is known when they are asked."""
    return float((y[delay + 1 :] == y[: -delay - 1]).sum()) / len(y)


def mean_error(picks: Any, y: Any) -> float:
    """The mean absolute error; no answer counts as 0."""
    return float(np.abs(np.where(np.isfinite(picks), picks, 0.0) - y).mean())


def recall(picks: Any, y: Any, arriving: dict[int, int], examples: int = 200) -> float | None:
    """Recall % over the first examples of each class that arrives, from the row on which it does."""
    if not arriving:
        return None
    right = []
    for label, row in arriving.items():
        rows = row + np.flatnonzero(y[row:] == label)[:examples]
        right.append(picks[rows] == label)
    return 100.0 * float(np.concatenate(right).mean())


def after(picks: Any, y: Any, changes: tuple[int, ...], rows: int = 1000) -> float | None:
    """Accuracy % over the rows right after the changes."""
    if not changes:
        return None
    where = np.concatenate([np.arange(c, min(c + rows, len(y))) for c in changes])
    return 100.0 * float((picks[where] == y[where]).mean())


def trace(picks: Any, y: Any, rows: int = 250) -> list[float]:
    """Accuracy % of each stretch of so many rows."""
    right = picks == y
    return [100.0 * float(right[s : s + rows].mean()) for s in range(0, len(y) - rows + 1, rows)]


def summary(values: list[float | None]) -> tuple[float | None, float | None]:
    """The mean, and the largest less the smallest."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    return float(np.mean(known)), float(max(known) - min(known))
