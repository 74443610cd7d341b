"""What two versions cost on the same matured rows: pairs, pairs as columns, and calibration bins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

BINS = 10


class Pair(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Losses in [0, 1] of champion (``old``) and candidate (``new``) on a row that neither learned from.

    ``*_p`` is the probability given to the answer that was given, ``*_brier`` the Brier score, ``*_right``
    whether the answer was right (needed beside ``*_p`` where losses are not 0/1). ``groups`` are the
    protected groups that the row belongs to, such as ``region=EU`` or ``regime 3``.
    """

    row: int
    old: float
    new: float
    old_p: float | None = None
    new_p: float | None = None
    old_brier: float | None = None
    new_brier: float | None = None
    groups: tuple[str, ...] = ()
    old_right: bool | None = None
    new_right: bool | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Pairs as columns (n,); NaN for what is not known. ``groups`` are masks by name."""

    old: FloatArray
    new: FloatArray
    old_p: FloatArray | None = None
    new_p: FloatArray | None = None
    old_brier: FloatArray | None = None
    new_brier: FloatArray | None = None
    old_right: FloatArray | None = None
    new_right: FloatArray | None = None
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


class Reliability(msgspec.Struct):
    """Answers by their confidence, in ten bins of equal width: rows, sum of confidence, and right ones."""

    rows: list[int] = msgspec.field(default_factory=lambda: [0] * BINS)
    confidence: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)
    right: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)

    def take(self, confidence: FloatArray, right: FloatArray) -> None:
        """Take in answers (n,): their probability, and 1 if right or 0."""
        which = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        for into, weights in ((self.rows, None), (self.confidence, confidence), (self.right, right)):
            counts = np.bincount(which, weights, BINS).tolist()
            into[:] = [old + more for old, more in zip(into, counts, strict=True)]

    def error(self) -> tuple[float, float]:
        """The expected calibration error (Naeini et al. 2015) and its standard error; 0 for nothing."""
        rows, right = np.array(self.rows), np.array(self.right)
        if not rows.sum():
            return 0.0, 0.0
        rate = right / np.maximum(rows, 1)
        ece = np.abs(right - np.array(self.confidence)).sum() / rows.sum()
        return float(ece), float(np.sqrt((rows * rate * (1 - rate)).sum()) / rows.sum())


def known_column(values: Sequence[float | None]) -> FloatArray | None:
    """Values as a column (n,), NaN for those that are not known; ``None`` if none is."""
    if None not in values:
        return np.array(values, dtype=np.float64) if values else None
    if all(value is None for value in values):
        return None
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def columns_of(pairs: Sequence[Pair]) -> Columns:
    """Pairs as columns."""

    names = {name for pair in pairs for name in pair.groups}
    masks = {name: np.array([name in pair.groups for pair in pairs]) for name in sorted(names)}
    old, new = (np.array([getattr(p, side) for p in pairs], dtype=np.float64) for side in ("old", "new"))
    optional = ("old_p", "new_p", "old_brier", "new_brier", "old_right", "new_right")
    return Columns(
        old, new, **{name: known_column([getattr(p, name) for p in pairs]) for name in optional}, groups=masks
    )
