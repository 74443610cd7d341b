"""What the answers of one setting were worth: its metric, its losses row by row, and their course."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.loop.scores import metrics, score_row
from everlearn.loop.whatif_record import Recording
from everlearn.spec import ModelSpec
from everlearn.types import FloatArray, Output

POINTS = 160
"""Points of a course over time."""


def losses_of(recording: Recording, outputs: Sequence[Output], spec: ModelSpec) -> FloatArray:
    """(n,) the 0/1 loss, or the absolute error (no answer counts as the running mean).

    NaN where there is no label; of numbers, too, where no label had come before the row was asked.
    """
    truths = recording.truths
    if spec.task == "classification":
        wrong = [
            np.nan if truth is None else float(output.value != truth)
            for output, truth in zip(outputs, truths, strict=True)
        ]
        return np.array(wrong)
    found = []
    for output, truth, (_, mean) in zip(outputs, truths, recording.baselines, strict=True):
        answered = mean is not None or output.value is not None
        value = mean if output.value is None else output.value
        found.append(_miss(value, truth) if answered else np.nan)
    return np.array(found)


def _miss(value: Any, truth: Any) -> float:
    return np.nan if truth is None else abs(float(value) - float(truth))


def metric_of(
    recording: Recording, outputs: Sequence[Output], losses: FloatArray, spec: ModelSpec
) -> float | None:
    """The spec's metric over all rows with a label; ``None`` where they do not define it."""
    metric, labelled = spec.metric or "", losses[~np.isnan(losses)]
    if not len(labelled):
        return None
    if metric == "accuracy":
        return 1.0 - float(labelled.mean())
    scored = [
        score_row(i + 1, 0, truth, output, *known)
        for i, (truth, output, known) in enumerate(
            zip(recording.truths, outputs, recording.baselines, strict=True)
        )
        if truth is not None
    ]
    return metrics(scored, spec.task)[metric]


def course(losses: FloatArray, task: str, points: int = POINTS) -> list[float | None]:
    """Accuracy (or mean absolute error) over the newest rows at evenly spaced places; ``None``: no label."""
    if not len(losses):
        return []
    count = min(points, len(losses))
    ends = np.array([round((i + 1) * len(losses) / count) for i in range(count)])
    starts = np.maximum(0, ends - max(50, len(losses) // 40))
    known = ~np.isnan(losses)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, losses, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    rows = counts[ends] - counts[starts]
    means = (sums[ends] - sums[starts]) / np.maximum(rows, 1)
    shown: NDArray[Any] = means if task == "regression" else 1.0 - means
    return [float(value) if n else None for value, n in zip(shown, rows, strict=True)]


def unit_of(recording: Recording, spec: ModelSpec) -> float:
    """What one wrongly answered row costs: 1, or the mean absolute error of the running mean."""
    if spec.task == "classification":
        return 1.0
    misses = losses_of(recording, [Output(None)] * len(recording.rows), spec)
    known = misses[~np.isnan(misses)]
    return float(known.mean()) if len(known) else 1.0
