"""Functions of one variable in steps: what a confidence was worth, or how large errors are at a value."""

from __future__ import annotations

import msgspec
import numpy as np

from everlearn.types import FloatArray


class Steps(msgspec.Struct):
    """A function of one variable in steps: step ``i`` reaches from ``starts[i]`` to ``ends[i]``.

    ``values`` are the means of what was learned there, from ``weights`` rows of variance ``variances``.
    It is linear between the end of a step and the start of the next, and constant beyond the outer ones.
    """

    starts: list[float]
    ends: list[float]
    values: list[float]
    weights: list[float]
    variances: list[float]

    def at(self, x: FloatArray) -> FloatArray:
        """The function at x (n,)."""
        return self._between(x, self.values)

    def variance(self, x: FloatArray) -> FloatArray:
        """How much an outcome at x (n,) varies around the function."""
        return self._between(x, self.variances)

    def doubt(self, x: FloatArray) -> float:
        """The variance of the function's mean over x (n,), for being learned from so many rows."""
        step = np.maximum(np.searchsorted(np.array(self.starts), x, side="right") - 1, 0)
        share = np.bincount(step, minlength=len(self.starts)) / len(x)
        # Laplace's rule: a step on which all were right may still be wrong now and then.
        weights = np.array(self.weights)
        spread = np.maximum(self.variances, 1.0 / (weights + 2.0) ** 2)
        return float((share**2 * spread / np.maximum(weights, 1.0)).sum())

    def _between(self, x: FloatArray, values: list[float]) -> FloatArray:
        knots = np.stack([self.starts, self.ends], axis=1).ravel()
        found: FloatArray = np.interp(x, knots, np.repeat(values, 2))
        return found


def isotonic(x: FloatArray, y: FloatArray, fewest: int = 1) -> Steps:
    """The rising function with the least squared error, by pooling adjacent violators.

    Ayer et al. 1955; Barlow et al. 1972. Steps of fewer than ``fewest`` rows are joined to the
    neighbour whose value is nearer, so that the ends are not fitted to a few rows.

    >>> isotonic(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5])).values
    [0.0, 0.75]
    """
    if not len(x):
        return Steps([0.0], [0.0], [0.0], [0.0], [0.0])
    order = np.argsort(x, kind="stable")
    ends, first = np.unique(x[order], return_index=True)
    # Values that would be joined anyway are joined first: far fewer blocks for the loop.
    middle = (first + np.append(first[1:], len(x))) / 2.0
    kept = np.flatnonzero(np.diff(middle // max(fewest, 1), prepend=-1.0))
    first, starts, ends = first[kept], ends[kept], ends[np.append(kept[1:], len(ends)) - 1]
    weights = np.diff(np.append(first, len(x))).astype(np.float64)
    sums, squares = (np.add.reduceat(power[order], first) for power in (y, y * y))
    blocks: list[list[float]] = []  # start, end, sum, weight, sum of squares
    for row in zip(starts, ends, sums, weights, squares, strict=True):
        blocks.append([float(part) for part in row])
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][3] >= blocks[-1][2] * blocks[-2][3]:
            _join(blocks, len(blocks) - 2)
    _thicken(blocks, fewest)
    return _steps(blocks)


def regressogram(x: FloatArray, y: FloatArray, bins: int, fewest: int) -> Steps:
    """The mean of y in bins of x of about equal depth, at most ``bins``, each of ``fewest`` rows or more.

    Tukey 1961. For an outcome that need not rise with x.
    """
    order = np.argsort(x, kind="stable")
    count = max(1, min(bins, len(x) // max(fewest, 1)))
    blocks: list[list[float]] = []
    for part in np.array_split(order, count):
        if not len(part):
            continue
        block = [x[part[0]], x[part[-1]], y[part].sum(), float(len(part)), (y[part] ** 2).sum()]
        blocks.append([float(item) for item in block])
        if len(blocks) > 1 and blocks[-2][1] >= blocks[-1][0]:  # equal values belong to one bin
            _join(blocks, len(blocks) - 2)
    return _steps(blocks or [[0.0, 0.0, 0.0, 1.0, 0.0]])


def _steps(blocks: list[list[float]]) -> Steps:
    means = [block[2] / block[3] for block in blocks]
    return Steps(
        [block[0] for block in blocks],
        [block[1] for block in blocks],
        means,
        [block[3] for block in blocks],
        [max(block[4] / block[3] - mean**2, 0.0) for block, mean in zip(blocks, means, strict=True)],
    )


def _join(blocks: list[list[float]], i: int) -> None:
    """Make one block of ``i`` and the next."""
    left, right = blocks[i], blocks.pop(i + 1)
    blocks[i] = [left[0], right[1], *(a + b for a, b in zip(left[2:], right[2:], strict=True))]


def _thicken(blocks: list[list[float]], fewest: int) -> None:
    """Join blocks of too few rows to the neighbour whose value is nearer."""
    while len(blocks) > 1:
        thin = min(range(len(blocks)), key=lambda i: blocks[i][3])
        if blocks[thin][3] >= fewest:
            return
        value = blocks[thin][2] / blocks[thin][3]
        near = [i for i in (thin - 1, thin + 1) if 0 <= i < len(blocks)]
        other = min(near, key=lambda i: abs(blocks[i][2] / blocks[i][3] - value))
        _join(blocks, min(thin, other))
