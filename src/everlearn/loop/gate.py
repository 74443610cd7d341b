"""What a row's answer cost each side, and what a stream learner's next version must not be.

Jobs gather the marks of both sides outside the fold (:func:`mark`); the fold makes pairs of them
(:func:`pair`) and puts them on trial (:mod:`everlearn.loop.trial`), so that a replay of the log
repeats every verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from everlearn.loop.pairs import Columns, Pair, columns_of, known_column
from everlearn.loop.scores import Scored, log_loss, metrics
from everlearn.predictor import class_key
from everlearn.spec import ModelSpec
from everlearn.types import Output, Row, Scalar, Task
from everlearn.vision.boxes import frame_loss

LOG_LOSS_CAP = 5.0
"""Nats at which a row's log-loss is clipped to count as 1: bounded evidence needs bounded losses."""

SCALE_QUANTILE = 0.95
"""Errors are measured in this quantile of the champion's absolute errors, and clipped there."""


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one answer to one row was worth.

    ``raw`` is 0 or 1 (classification), the log-loss in nats (metric ``log_loss``), the absolute error
    (regression), or 1 - F1 of a frame's boxes (detection); ``confidence`` the probability given to the
    answer and ``brier`` half the squared distance to the truth, between 0 and 1 (``None`` without
    probabilities).
    """

    raw: float
    confidence: float | None = None
    brier: float | None = None


class Answered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A matured row that both sides have answered. ``seq`` is the position of its prediction."""

    row: int
    seq: int
    old: Mark
    new: Mark
    groups: list[str] = []


def mark(truth: Scalar, output: Output, spec: ModelSpec) -> Mark:
    """Put an answer beside its truth."""
    if spec.task == "regression":
        return Mark(abs(float(output.value or 0.0) - float(truth or 0.0)))
    if spec.task == "detection":
        return Mark(frame_loss(truth, output.value))
    wrong = 1.0 if output.value is None or output.value != truth else 0.0
    shares = output.probabilities
    if not shares:
        return Mark(log_loss(None) if spec.metric == "log_loss" else wrong)
    own = shares.get(truth if type(truth) is str else class_key(truth), 0.0)
    squares = most = 0.0
    for p in shares.values():
        squares += p * p
        if p > most:
            most = p
    brier = min(1.0, max(0.0, (squares - 2.0 * own + 1.0) / 2.0))
    raw = log_loss(own) if spec.metric == "log_loss" else wrong
    return Mark(raw, most, brier)


def groups_of(features: Row, spec: ModelSpec) -> list[str]:
    """The segments that a row belongs to, such as ``region=EU``."""
    return [f"{name}={features.get(name)}" for name in spec.gate.segments]


def binary(spec: ModelSpec) -> bool:
    """Whether the losses of a model are 0 and 1."""
    return spec.task == "classification" and spec.metric != "log_loss"


def bounded(value: Mark, spec: ModelSpec, scale: float) -> float:
    """A mark as a loss between 0 and 1. Regression: the absolute error (metric ``mae``) or its square,
    in units of ``scale`` and clipped at 1; log-loss: clipped at 5 nats."""
    if spec.task == "classification":
        return min(1.0, value.raw / LOG_LOSS_CAP) if spec.metric == "log_loss" else value.raw
    if spec.task == "detection":
        return value.raw
    share = min(1.0, value.raw / scale) if scale > 0 else float(value.raw > 0)
    return share if spec.metric == "mae" else share * share


def scale_of(marks: Sequence[Mark]) -> float:
    """The unit of errors for a trial: a high quantile of the champion's absolute errors."""
    errors = sorted(m.raw for m in marks)
    return errors[int(SCALE_QUANTILE * (len(errors) - 1))] if errors else 0.0


def pair(
    row: int,
    old: Mark,
    new: Mark,
    groups: Sequence[str],
    spec: ModelSpec,
    *,
    scale: float = 0.0,
    by_brier: bool = False,
) -> Pair:
    """Both sides' losses on a row. ``by_brier`` compares probabilities (a recalibrated version's gain)."""
    if by_brier:
        losses = [m.raw if m.brier is None else m.brier for m in (old, new)]
        return Pair(row, losses[0], losses[1], None, None, old.brier, new.brier, tuple(groups))
    if not binary(spec):
        a, b = bounded(old, spec, scale), bounded(new, spec, scale)
        return Pair(row, a, b, None, None, old.brier, new.brier, tuple(groups))
    return Pair(row, old.raw, new.raw, old.confidence, new.confidence, old.brier, new.brier, tuple(groups))


def columns(
    old: Sequence[Mark],
    new: Sequence[Mark],
    groups: Sequence[Sequence[str]],
    spec: ModelSpec,
    *,
    scale: float = 0.0,
    by_brier: bool = False,
) -> Columns:
    """Both sides' losses on many rows: the columns of their pairs (:func:`pair`), without the pairs."""
    if not binary(spec) or by_brier or any(groups):
        sides = zip(old, new, groups, strict=True)
        return columns_of(
            [pair(0, a, b, names, spec, scale=scale, by_brier=by_brier) for a, b, names in sides]
        )
    return Columns(
        np.array([m.raw for m in old], dtype=np.float64),
        np.array([m.raw for m in new], dtype=np.float64),
        known_column([m.confidence for m in old]),
        known_column([m.confidence for m in new]),
        known_column([m.brier for m in old]),
        known_column([m.brier for m in new]),
    )


def compare(champion: Sequence[Scored], candidate: Sequence[Scored], task: Task) -> dict[str, Any]:
    """The metrics of both sides on the same rows, for people: what decides are the pairs."""
    return {
        "rows": len(champion),
        "champion": _metrics(champion, task),
        "candidate": _metrics(candidate, task),
    }


def _metrics(rows: Sequence[Scored], task: Task) -> dict[str, float | None]:
    """The metrics that need no baseline: there is none beside these rows."""
    return {name: value for name, value in metrics(rows, task).items() if not name.startswith("kappa")}


def headline(evidence: Mapping[str, Any], spec: ModelSpec) -> str:
    """The metric of both sides in words: ``accuracy 0.71 → 0.78``."""
    if not evidence["rows"]:
        return ""
    name = "accuracy" if str(spec.metric).startswith("kappa") else spec.metric
    old, new = (evidence[side].get(name) for side in ("champion", "candidate"))
    words = ["none" if value is None else f"{value:.4g}" for value in (old, new)]
    return f"{name} {words[0]} → {words[1]}"
