"""Do two samples of rows and truths come from the same distribution? A kernel two-sample test.

Features are float64 (n, d) with NaN for missing; truths any array (n,), whose float ones are values of a
regression and all others classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

MOST = 400
"""Rows of a sample that the kernel test looks at, evenly spaced: its work grows with their square."""

PERMUTATIONS = 199
WIDTHS = (0.25, 0.5, 1.0, 2.0)
"""Kernel widths, in median distances: a change may be as wide as the data or hide in a corner of it."""

_LARGEST = 1e100
"""Cells are clipped here, so that no square overflows."""


def same_distribution(
    X: FloatArray,
    y: NDArray[Any],
    new_X: FloatArray,
    new_y: NDArray[Any],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """p-value of "both samples come from the same P(x, y)", by permutation: valid at any sample size.

    Maximum mean discrepancy (Gretton et al. 2012, eq. 5) with the product of a Gaussian kernel on
    robustly scaled features and a kernel on truths (same class; Gaussian for regression), which tells
    joint distributions apart. The statistic is the largest over :data:`WIDTHS`, each standardised by its
    own permutations (as in Schrab et al. 2023), so no width need be chosen.
    """
    X, y = _spaced(X, y)
    new_X, new_y = _spaced(new_X, new_y)
    pooled = scaled(np.vstack([X, new_X]))
    truths = _truth_kernel(np.concatenate([y, new_y]))
    weights = _weights(len(y), len(new_y), permutations, seed)
    squares = squared_distances(pooled, pooled)
    squares /= 2 * _median_distance(squares)
    found = [_discrepancies(squares, truths, weights, width) for width in WIDTHS]
    largest = np.max(found, axis=0)
    return float((1 + (largest[1:] >= largest[0] - 1e-12).sum()) / (permutations + 1))


def _spaced(X: FloatArray, y: NDArray[Any]) -> tuple[FloatArray, NDArray[Any]]:
    if len(y) <= MOST:
        return X, y
    places = np.linspace(0, len(y) - 1, MOST).round().astype(np.int64)
    return X[places], y[places]


def scaled(X: FloatArray) -> FloatArray:
    """Columns less their median over their spread, and one more column for each with missing cells.

    The spread is the interquartile range, or the standard deviation where that is 0; constant columns
    are dropped. Missing cells are 0. Values are clipped at 5 spreads, so that no cell decides alone.
    """
    missing = np.isnan(X)
    bounded = np.clip(np.where(missing.all(axis=0), 0.0, X), -_LARGEST, _LARGEST)
    filled = np.where(missing, np.nanmedian(bounded, axis=0), bounded)
    low, middle, high = np.percentile(filled, [25, 50, 75], axis=0)
    spread = np.where(high > low, (high - low) / 1.349, filled.std(axis=0))
    varied = spread > 1e-12 * np.maximum(np.abs(middle), 1e-300)
    columns = np.clip((filled - middle)[:, varied] / spread[varied], -5.0, 5.0)
    flags = missing[:, missing.any(axis=0) & ~missing.all(axis=0)].astype(np.float64)
    return np.hstack([columns, flags])


def squared_distances(A: FloatArray, B: FloatArray) -> FloatArray:
    """Squared Euclidean distances (a, b) of the rows of A (a, d) and B (b, d)."""
    squares = (A**2).sum(axis=1)[:, None] + (B**2).sum(axis=1) - 2 * A @ B.T
    return np.asarray(np.maximum(squares, 0.0), dtype=np.float64)


def _truth_kernel(y: NDArray[Any]) -> FloatArray:
    if y.dtype.kind != "f":
        return np.asarray(y[:, None] == y, dtype=np.float64)
    column = scaled(y[:, None].astype(np.float64))
    return np.asarray(np.exp(-squared_distances(column, column) / 2), dtype=np.float64)


def _weights(m: int, n: int, permutations: int, seed: int) -> FloatArray:
    """Columns of weights +1/m and -1/n: first the true split, then random ones."""
    split = np.repeat([1.0 / m, -1.0 / n], [m, n])
    draw = np.random.default_rng(seed)
    shuffled = draw.permuted(np.tile(split, (permutations, 1)), axis=1)
    return np.vstack([split, shuffled]).T


def _median_distance(squares: FloatArray) -> float:
    """The median of the squared distances between rows that differ; 1 if all are alike."""
    apart = squares[np.triu_indices(len(squares), 1)]
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0


def _discrepancies(squares: FloatArray, truths: FloatArray, weights: FloatArray, width: float) -> FloatArray:
    """The squared discrepancy under each split, in standard deviations over the random splits.

    ``squares`` are squared distances (n, n) in twice their median.
    """
    kernel = np.exp(squares * (-1.0 / width**2))
    kernel *= truths
    values = np.asarray(np.einsum("ij,ij->j", weights, kernel @ weights), dtype=np.float64)
    return np.asarray((values - values.mean()) / (values.std() + 1e-15), dtype=np.float64)
