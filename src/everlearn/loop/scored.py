"""One row beside its truth: what was answered, what was true, and what that cost."""

from __future__ import annotations

import math

import msgspec

from everlearn.predictor import class_key
from everlearn.types import Output, Scalar, Task
from everlearn.vision.boxes import frame_loss

PROBABILITY_FLOOR = 1e-6
"""Log-loss clips probabilities here, so that one impossible answer costs at most 13.8 nats."""


class Scored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row with what was answered, what was true, and what the baselines would have answered.

    ``p_truth`` is the probability given to the truth (``None`` for regression); ``p_positive`` that of
    the greater of two classes (``None`` unless there are two); ``confidence`` that of the answer;
    ``source`` gave the truth. The
    baselines know only the labels that had arrived before the prediction was made.
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
    confidence: float | None = None
    source: str | None = None


def score_row(
    row: int,
    version: int,
    truth: Scalar,
    output: Output,
    no_change: Scalar,
    majority: Scalar,
    source: str | None = None,
) -> Scored:
    """Put an answer beside its truth."""
    assert truth is not None
    value, chances = output.value, output.probabilities
    if chances is None:
        return Scored(row, version, truth, value, None, None, False, no_change, majority, None, source)
    key = truth if type(truth) is str else class_key(truth)
    p_truth = float(chances.get(key, 0.0))
    confidence = None
    if value is not None:
        answered = value if type(value) is str else class_key(value)
        confidence = p_truth if answered == key else float(chances.get(answered, 0.0))
    if len(chances) != 2:
        return Scored(
            row, version, truth, value, p_truth, None, False, no_change, majority, confidence, source
        )
    first, second = chances
    top = first if first > second else second
    p_positive = float(chances[top])
    return Scored(
        row, version, truth, value, p_truth, p_positive, key == top, no_change, majority, confidence, source
    )


def log_loss(p_truth: float | None) -> float:
    """Negative log of the probability given to the truth, in nats."""
    return -math.log(max(p_truth or 0.0, PROBABILITY_FLOOR))


def right(scored: Scored) -> bool:
    """Whether the answer was the truth (which is never ``None``)."""
    return scored.value == scored.truth


def answerable(scored: Scored) -> bool:
    """Whether there was an answer, or could have been: some label had arrived before the row was asked.

    A row before that is wrong like any other wrong answer, but it is left out of log-loss, MAE, RMSE
    and R²: no number could stand for an answer that nobody had.
    """
    return scored.value is not None or scored.majority is not None


def error(scored: Scored) -> float:
    """The signed error of the estimate; an answer of ``None`` counts as the running mean, or as 0."""
    return miss(scored.value, scored)


def miss(estimate: Scalar, scored: Scored) -> float:
    """By how much an estimate misses the row's truth; ``None`` counts as the running mean, or as 0."""
    return float((scored.majority if estimate is None else estimate) or 0.0) - float(scored.truth)


def cost(scored: Scored, task: Task) -> float:
    """What a row's answer cost, in the target's units: 0/1 loss, the absolute error, or 1 - F1 of a frame."""
    if task == "detection":
        return frame_loss(scored.truth, scored.value)
    return abs(error(scored)) if task == "regression" else float(scored.value != scored.truth)


def loss(scored: Scored, task: Task) -> float:
    """What the drift detector watches, between 0 and 1 as it must be: the 0/1 loss, or 1 - F1 of a frame.

    For regression the share of the absolute error in the sum of it and that of the running mean: 0 for
    a perfect estimate, 1/2 for one as bad as the mean, whatever the scale of the target.
    """
    if task == "classification":
        return float(scored.value != scored.truth)
    if task == "detection":
        return frame_loss(scored.truth, scored.value)
    own, mean = abs(error(scored)), abs(miss(scored.majority, scored))
    return own / (own + mean) if own else 0.0
