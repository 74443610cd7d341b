"""A sketch as cells: where a row falls, and how many rows of the reference fell there.

Counting a window into the cells of its reference is all that unlabelled tests need of its rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import msgspec
import numpy as np

from everlearn.loop.sketches import NumericSketch, Sketch
from everlearn.predictor import class_key
from everlearn.types import FloatArray, Scalar

CELLS = 32
"""Most cells of a numeric column: Kolmogorov-Smirnov sees the two distributions at so many places."""

FEWEST = 20
"""Rows of the reference in a cell, where there are enough for more than one cell."""


class Cells(msgspec.Struct):
    """The cells of a column and the reference's rows in each.

    Cell 0 is missing. Numbers fall into ``(cuts[i - 2], cuts[i - 1]]``; the first cell of them and the
    last are open, and empty in the reference: what is beyond all that it has seen. A category has the
    cell after its place in ``names``; what has no name is in the last cell.
    """

    ordered: bool
    cuts: list[float]
    names: dict[str, int]
    reference: list[float]

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.reference)

    @property
    def floor(self) -> float:
        """The greatest count that a category without a name may have had in the reference."""
        return 0.0 if self.ordered or self.reference[-1] == 0.0 else min(self.reference[1:-1], default=0.0)

    def place(self, value: Scalar) -> int:
        """The cell of a value."""
        if value is None:
            return 0
        if self.ordered:
            return 1 + bisect_left(self.cuts, value)
        key = value if isinstance(value, str) else class_key(value)
        return self.names.get(key, self.size - 1)

    def count(self, values: list[Scalar]) -> FloatArray:
        """How many values fall into each cell; float64 (size,)."""
        counted = np.bincount([self.place(value) for value in values], minlength=self.size)
        return counted.astype(np.float64)


def cells_of(sketch: Sketch) -> Cells:
    """The cells of a sketch."""
    if isinstance(sketch, NumericSketch):
        return _numeric(sketch)
    names = {name: i + 1 for i, name in enumerate(sketch.counts)}
    counts = [float(sketch.missing), *map(float, sketch.counts.values()), float(sketch.other)]
    return Cells(False, [], names, counts)


def _numeric(sketch: NumericSketch) -> Cells:
    """Neighbouring bins together until there are few enough cells, each with enough rows."""
    counts = np.array(sketch.counts)
    total = float(counts.sum())
    most = int(min(CELLS, max(total // FEWEST, 2)))
    ends = np.cumsum(counts)
    group = ((ends - counts / 2.0) / max(total, 1.0) * most).astype(np.int64)
    last = np.flatnonzero(np.diff(group, append=most + 1)) if len(counts) else np.array([], dtype=np.int64)
    inner = np.diff(ends[last], prepend=0.0)
    reference = [0.0, *(round(float(count), 6) for count in inner), 0.0] if len(counts) else [0.0]
    # Below the least value and above the greatest lies a cell each, that the reference leaves empty.
    floor = [math.nextafter(sketch.lows[0], -math.inf)] if sketch.lows else []
    cuts = [*floor, *(sketch.highs[i] for i in last)]
    return Cells(True, cuts, {}, [float(sketch.missing), *reference])
