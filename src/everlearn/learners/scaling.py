"""Online standardisation: what linear learners need before any row can be compared with another."""

from __future__ import annotations

from typing import Any

import numpy as np

from everlearn.learners.inputs import LARGEST
from everlearn.types import FloatArray

_TRUST = 10.0  # rows of a column before its spread is trusted to call a value an outlier


class Scaler:
    """Running mean and variance of each column (Welford 1962), without being led by outliers.

    The newest ``memory`` rows dominate, so that the scale follows a drifting column. A value farther
    than ``clip`` standard deviations from the mean is taken in as if it lay there. Missing values
    leave their column as it is.

    >>> import numpy as np
    >>> scaler = Scaler(2, memory=10_000, clip=5.0)
    >>> for row in np.array([[1.0, 7.0], [3.0, 7.0]]):
    ...     scaler.learn(row)
    >>> scaler.scale(np.array([[3.0, 7.0], [np.nan, 8.0]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """

    def __init__(self, width: int, *, memory: int, clip: float) -> None:
        self.memory, self.clip = float(memory), clip
        self.count = np.zeros(width)
        self.mean = np.zeros(width)
        self.variance = np.zeros(width)
        self._refresh()

    def learn(self, row: FloatArray) -> None:
        """Take one row (d,) in."""
        present = np.abs(row) < LARGEST
        self.count += present
        np.minimum(self.count, self.memory, out=self.count)
        if present.all():
            weight = 1.0 / self.count
        else:
            row = np.where(present, row, self.mean)
            weight = present / np.maximum(self.count, 1.0)
        delta = row - self.mean
        np.minimum(delta, self._bound, out=delta)
        np.maximum(delta, -self._bound, out=delta)
        step = weight * delta
        self.mean += step
        self.variance += weight * (delta * (delta - step) - self.variance)
        self._refresh()

    def scale(self, rows: FloatArray) -> FloatArray:
        """Rows (…, d) in standard deviations from the mean, clipped; 0 where missing or constant."""
        present = np.abs(rows) < LARGEST
        if not present.all():
            rows = np.where(present, rows, self.mean)
        scaled: FloatArray = (rows - self.mean) * self._inverse
        np.minimum(scaled, self.clip, out=scaled)
        np.maximum(scaled, -self.clip, out=scaled)
        return scaled

    def _refresh(self) -> None:
        """What follows from the variance: the standard deviation, its inverse, the outlier's bound."""
        self.deviation = np.sqrt(self.variance)
        varies = self.variance > 0.0
        self._inverse = np.zeros_like(self.deviation)
        np.divide(1.0, self.deviation, out=self._inverse, where=varies)
        self._bound = self.clip * self.deviation
        self._bound[~varies | (self.count < _TRUST)] = np.inf

    def state(self) -> dict[str, Any]:
        """Counts, means and variances."""
        return {"count": self.count.copy(), "mean": self.mean.copy(), "variance": self.variance.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        width = len(self.count)
        for part in ("count", "mean", "variance"):
            values = np.array(state[part], dtype=np.float64)
            if values.shape != (width,):
                raise ValueError(f"{part} has shape {values.shape}, not ({width},)")
            setattr(self, part, values)
        self._refresh()
