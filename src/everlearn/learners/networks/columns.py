"""Rows as a network takes them: scaled numbers, a 0 or 1 for each category, nothing missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

MEMORY, CLIP, CATEGORIES = 10_000.0, 5.0, 20


class Columns:
    """The map from rows (n, d) with NaN to inputs float32 (n, ``inputs``).

    With a ``scale`` numbers are divided by it. Without, each is scaled by the mean and deviation of about
    the newest 10,000 rows, to 5 deviations at most. A missing number is the mean, or 0 with a scale. A
    category has 21 slots: its codes of 20 and more share the last.
    """

    def __init__(self, width: int, categorical: Sequence[int], scale: float | None) -> None:
        self.scale, self.categorical = scale, list(categorical)
        self._numeric = [column for column in range(width) if column not in set(categorical)]
        self._plain = len(self._numeric) == width
        self.inputs = len(self._numeric) + (CATEGORIES + 1) * len(self.categorical)
        self.seen = np.zeros((3, len(self._numeric)))  # rows, mean, variance

    def learn(self, rows: FloatArray) -> None:
        """Take rows into the mean and the deviation (the pairwise update of Chan et al. 1979)."""
        if self.scale is not None:
            return
        shown = rows[:, self._numeric]
        there = ~np.isnan(shown)
        count = there.sum(axis=0)
        new = np.maximum(count, 1)
        mean = np.where(there, shown, 0.0).sum(axis=0) / new
        spread = np.where(there, shown - mean, 0.0)
        before, old_mean, old_variance = self.seen
        total = np.maximum(before + count, 1.0)
        step = mean - old_mean
        within = before * old_variance + (spread * spread).sum(axis=0) + step * step * before * count / total
        self.seen[2] = np.where(count > 0, within / total, old_variance)
        self.seen[1] = np.where(count > 0, old_mean + step * count / total, old_mean)
        self.seen[0] = np.minimum(before + count, MEMORY)

    def map(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Inputs for rows."""
        shown = rows if self._plain else rows[:, self._numeric]
        if self.scale is not None:
            numbers = np.multiply(shown, 1.0 / self.scale, dtype=np.float32, casting="same_kind")
            numbers[numbers != numbers] = 0.0
        else:
            _, mean, variance = self.seen
            unit = np.where(variance > 0.0, 1.0 / np.sqrt(np.where(variance > 0.0, variance, 1.0)), 0.0)
            numbers = np.clip(np.nan_to_num((shown - mean) * unit, nan=0.0), -CLIP, CLIP)
        if self._plain:
            single: NDArray[np.float32] = numbers.astype(np.float32, copy=False)
            return single
        out = np.zeros((len(rows), self.inputs), dtype=np.float32)
        out[:, : numbers.shape[1]] = numbers
        for place, column in enumerate(self.categorical):
            codes = rows[:, column]
            there = np.flatnonzero((codes >= 0.0) & (codes == np.floor(codes)))
            slot = np.minimum(codes[there], CATEGORIES).astype(np.int64)
            out[there, numbers.shape[1] + (CATEGORIES + 1) * place + slot] = 1.0
        return out
