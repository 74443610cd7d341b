"""Mergeable sketches of a column: what is kept of a reference instead of its rows.

A numeric sketch is an equi-depth histogram that knows the lowest and highest value of each bin, so
that a bin of one value stays exact. A categorical one counts categories, the rare ones together.

>>> sketch = numeric_sketch([3.0, 1.0, None, 2.0])
>>> sketch.rows, sketch.missing, sketch.highs
(4, 1, [1.0, 2.0, 3.0])
>>> merge(category_sketch(["a", "b"]), category_sketch(["a", None])).counts
{'a': 2, 'b': 1}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from everlearn.predictor import class_key
from everlearn.types import FloatArray, Scalar

BINS = 128
"""Most bins of a numeric sketch: a rank is off by at most 1/128 of the rows of each side of a merge."""

LARGEST = 1e300
"""Numbers beyond this are taken as this, so that their differences are finite."""

NAMES = 64
"""Most categories that a sketch counts by name."""


class NumericSketch(msgspec.Struct, tag="numeric"):
    """Bins in order: ``counts[i]`` rows lie in ``[lows[i], highs[i]]``, and none between two bins.

    ``error`` bounds how many rows the sketch may be wrong by about how many are at most some
    ``highs[i]``; 0 until the first merge in which bins overlap. ``missing`` is not in ``counts``.
    """

    lows: list[float] = []
    highs: list[float] = []
    counts: list[float] = []
    missing: int = 0
    error: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows it has seen, the missing ones too."""
        return round(sum(self.counts)) + self.missing

    def below(self, values: FloatArray, *, inclusive: bool = True) -> FloatArray:
        """How many rows are at most (or less than) each value: linear within a bin; shape as ``values``."""
        low, high, count = np.array(self.lows), np.array(self.highs), np.array(self.counts)
        before = np.concatenate([[0.0], np.cumsum(count)])
        whole = np.searchsorted(high, values, side="right" if inclusive else "left")  # bins wholly below
        i = np.minimum(whole, len(count) - 1)
        width = high[i] - low[i]
        part = np.clip(values - low[i], 0.0, width) / np.where(width > 0.0, width, 1.0)
        partial: FloatArray = before[whole] + np.where(whole < len(count), part * count[i], 0.0)
        return partial


class CategorySketch(msgspec.Struct, tag="category"):
    """How often each category came; ``other`` counts the rows of categories without a name here."""

    counts: dict[str, int] = {}
    other: int = 0
    missing: int = 0

    @property
    def rows(self) -> int:
        """How many rows it has seen, the missing ones too."""
        return sum(self.counts.values()) + self.other + self.missing


Sketch: TypeAlias = NumericSketch | CategorySketch


def numeric_sketch(values: Sequence[Any], bins: int = BINS) -> NumericSketch:
    """The sketch of numbers (``None`` or NaN is missing): exact at the upper end of every bin."""
    array = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    here = np.clip(np.sort(array[np.isfinite(array)]), -LARGEST, LARGEST)
    missing = len(array) - len(here)
    if not len(here):
        return NumericSketch(missing=missing)
    distinct, first = np.unique(here, return_index=True)
    counts = np.diff(np.append(first, len(here))).astype(np.float64)
    return _compressed(distinct, distinct, counts, bins, missing, 0.0)


def category_sketch(values: Sequence[Scalar], names: int = NAMES) -> CategorySketch:
    """The sketch of categories, booleans or classes (``None`` is missing)."""
    here = [value for value in values if value is not None]
    counts = Counter(value if isinstance(value, str) else class_key(value) for value in here)
    return _named(dict(counts), 0, len(values) - len(here), names)


def merge(left: Sketch, right: Sketch) -> Sketch:
    """The sketch of both sides' rows. Raises TypeError if one is numeric and the other is not.

    Counts of rows and missing ones are exact, those of categories too while there are at most
    :data:`NAMES`. Ranks are right up to ``error``, whatever the order of merging.
    """
    if isinstance(left, NumericSketch) and isinstance(right, NumericSketch):
        return _merged(left, right)
    if isinstance(left, CategorySketch) and isinstance(right, CategorySketch):
        counts = Counter(left.counts) + Counter(right.counts)
        return _named(dict(counts), left.other + right.other, left.missing + right.missing, NAMES)
    raise TypeError("a numeric sketch merges only with a numeric one")


def _merged(left: NumericSketch, right: NumericSketch) -> NumericSketch:
    """Cut both histograms at every end of a bin of either, and add them."""
    missing = left.missing + right.missing
    sides = [side for side in (left, right) if side.counts]
    if len(sides) < 2:
        side = sides[0] if sides else left
        return NumericSketch(side.lows, side.highs, side.counts, missing, left.error + right.error)
    ends = np.unique(np.concatenate([np.array(part) for side in sides for part in (side.lows, side.highs)]))
    # Between just below an end and the end itself lie the rows that equal it; the rest lies between ends.
    reached = np.stack([_sum(sides, ends, False), _sum(sides, ends, True)], axis=1)
    counts = np.diff(reached.ravel(), prepend=0.0)
    lows = np.stack([np.concatenate([ends[:1], ends[:-1]]), ends], axis=1).ravel()
    kept = counts > 1e-9
    blur = sum(_blur(side, other) for side, other in (sides, sides[::-1]))
    error = left.error + right.error + blur
    return _compressed(lows[kept], np.repeat(ends, 2)[kept], counts[kept], BINS, missing, error)


def _sum(sides: Sequence[NumericSketch], ends: FloatArray, inclusive: bool) -> FloatArray:
    total: FloatArray = sum((side.below(ends, inclusive=inclusive) for side in sides), np.zeros(len(ends)))
    return total


def _blur(side: NumericSketch, other: NumericSketch) -> float:
    """The most rows of one bin that an end of the other side cuts through."""
    ends = np.array(sorted({*other.lows, *other.highs}))
    low, high = np.array(side.lows), np.array(side.highs)
    cut = np.searchsorted(ends, high, side="left") > np.searchsorted(ends, low, side="left")
    return float(np.max(np.where(cut & (low < high), side.counts, 0.0), initial=0.0))


def _compressed(
    lows: FloatArray, highs: FloatArray, counts: FloatArray, bins: int, missing: int, error: float
) -> NumericSketch:
    """At most ``bins`` bins of about equal depth; a bin that holds more than its share stays alone."""
    if len(counts) > bins:
        ends = np.cumsum(counts)
        # A bin belongs to the group in which its middle lies, so a heavy one does not drag others along.
        group = ((ends - counts / 2.0) / ends[-1] * bins).astype(np.int64)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        lows, counts = lows[starts], np.add.reduceat(counts, starts)
        highs = highs[np.append(starts[1:], len(highs)) - 1]
    rounded = [round(float(count), 6) for count in counts]
    return NumericSketch(lows.tolist(), highs.tolist(), rounded, missing, error)


def _named(counts: dict[str, int], other: int, missing: int, names: int) -> CategorySketch:
    """The most frequent categories by name; ties by name, so that the order of rows does not matter."""
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    other += sum(counts[name] for name in ranked[names:])
    return CategorySketch({name: counts[name] for name in sorted(ranked[:names])}, other, missing)
