"""The newest rows of a stream, in a bounded space."""

from __future__ import annotations

import numpy as np

from everlearn.types import FloatArray


class Recent:
    """Keeps the newest ``limit`` rows with their targets; appending one costs the same, always.

    >>> import numpy as np
    >>> recent = Recent(width=1, limit=3)
    >>> recent.append(np.arange(5.0)[:, None], np.arange(5.0))
    >>> recent.learned, recent.newest(2)[1], recent.window(upto=4, size=2)[1]
    (5, array([3., 4.]), array([2., 3.]))
    """

    def __init__(self, width: int, limit: int) -> None:
        self.width, self.limit = width, limit
        self.learned = 0
        self._rows = np.empty((min(limit, 64), width))
        self._targets = np.empty(len(self._rows))
        self._end = 0

    def append(self, rows: FloatArray, targets: FloatArray) -> None:
        """Take rows (n, width) and targets (n,) in, as copies; raises ValueError if they do not fit."""
        if rows.ndim != 2 or rows.shape[1] != self.width or targets.shape != rows.shape[:1]:
            raise ValueError(f"rows {rows.shape} and targets {targets.shape} do not fit width {self.width}")
        self.learned += len(rows)
        rows, targets = rows[-self.limit :], targets[-self.limit :]
        if self._end + len(rows) > len(self._rows):
            self._make_room(len(rows))
        end = self._end + len(rows)
        self._rows[self._end : end] = rows
        self._targets[self._end : end] = targets
        self._end = end

    def _make_room(self, more: int) -> None:
        """Drop what is too old; grow up to twice the limit, so that this is rare."""
        keep = min(self._end, self.limit - more)
        old_rows, old_targets = self._rows, self._targets
        start = self._end - keep
        space = min(2 * self.limit, max(len(old_rows), 2 * (keep + more)))
        self._rows, self._targets = np.empty((space, self.width)), np.empty(space)
        self._rows[:keep] = old_rows[start : self._end]
        self._targets[:keep] = old_targets[start : self._end]
        self._end = keep

    def newest(self, rows: int) -> tuple[FloatArray, FloatArray]:
        """Copies of the newest so many rows and targets."""
        start = max(self._end - rows, 0)
        return self._rows[start : self._end].copy(), self._targets[start : self._end].copy()

    def window(self, upto: int, size: int) -> tuple[FloatArray, FloatArray]:
        """The ``size`` rows up to and with row ``upto`` (counted from 1), as far as they are kept."""
        end = self._end - (self.learned - upto)
        start = max(end - size, 0)
        return self._rows[start:end], self._targets[start:end]
