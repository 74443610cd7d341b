"""The classifier two-sample test: have the features moved together, even if none has by itself?

If a classifier can tell rows of the reference from rows of now, on rows that it was not fitted to, then
they do not come from one distribution (Lopez-Paz & Oquab 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from everlearn.types import FloatArray

FEWEST = 20
"""Rows that each side must have."""

RIDGE = 0.1
"""Shrinkage of the discriminant, in units of the variance of a column."""

PER_PRODUCT = 4.0
"""Rows that a product of columns must have."""

OUTLIER = 4.0
"""Standard deviations beyond which a value counts as this far."""


@dataclass(frozen=True, slots=True)
class JointShift:
    """``auc`` is how well both samples are told apart: the probability to rank a pair right (0.5: not)."""

    auc: float
    p_value: float


def c2st(reference: FloatArray, current: FloatArray, seed: int = 0) -> JointShift:
    """Test whether ``current`` (n, d) comes from the distribution of ``reference`` (m, d).

    NaN is missing; codes of categories are taken as numbers. Each half is scored by a ridge discriminant
    fitted to the other, on columns, gaps, squares and, where rows suffice, products: it sees means,
    spreads, missing cells and correlations. The ranks of the scores are tested (Wilcoxon, Mann & Whitney,
    with ties); twice the smaller of the two p-values is valid however the halves depend on each other
    (Bonferroni). The rows of a side must be exchangeable. With fewer than 20 in a side it finds nothing.
    """
    if min(len(reference), len(current)) < FEWEST:
        return JointShift(0.5, 1.0)
    rng = np.random.default_rng(seed)
    sides = [np.asarray(side, dtype=np.float64)[rng.permutation(len(side))] for side in (reference, current)]
    halves = [[side[half::2] for side in sides] for half in (0, 1)]
    told = [_told(halves[1 - half], halves[half]) for half in (0, 1)]
    auc = sum(area for area, _ in told) / 2.0
    return JointShift(auc, min(1.0, 2.0 * min(p_value for _, p_value in told)))


def _told(fitted: list[FloatArray], held_out: list[FloatArray]) -> tuple[float, float]:
    """The area under the curve on the half held out, and its one-sided p-value."""
    both = np.concatenate(fitted)
    centre, scale = _located(both)
    products = both.shape[1] ** 2 / 2.0 <= len(both) / PER_PRODUCT
    shapes = [_shape((side - centre) / scale, products) for side in (both, *held_out)]
    truth = np.repeat([-1.0 / len(fitted[0]), 1.0 / len(fitted[1])], [len(side) for side in fitted])
    mean, deviation = shapes[0].mean(axis=0), shapes[0].std(axis=0)
    known, *asked = [(shape - mean) / np.where(deviation > 1e-9, deviation, np.inf) for shape in shapes]
    gram = known.T @ known / len(known) + RIDGE * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ truth)
    return _ranked(asked[0] @ weights, asked[1] @ weights)


def _located(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre and scale of each column (d,) that is there."""
    here = np.isfinite(rows)
    count = np.maximum(here.sum(axis=0), 1)
    centre = np.where(here, rows, 0.0).sum(axis=0) / count
    variance = (np.where(here, rows - centre, 0.0) ** 2).sum(axis=0) / count
    return centre, np.where(variance > 0.0, np.sqrt(variance), 1.0)


def _shape(rows: FloatArray, products: bool) -> FloatArray:
    """Scaled rows (n, d) as columns, gaps, squares and products; outliers are drawn in."""
    gaps = ~np.isfinite(rows)
    inner = np.clip(np.where(gaps, 0.0, rows), -OUTLIER, OUTLIER)
    parts = [inner, gaps.astype(np.float64), inner**2]
    if products:
        left, right = np.triu_indices(rows.shape[1], 1)
        parts.append(inner[:, left] * inner[:, right])
    return np.concatenate(parts, axis=1)


def _ranked(before: FloatArray, now: FloatArray) -> tuple[float, float]:
    """The Mann-Whitney test that scores of now are greater: area under the curve, p-value."""
    both = np.concatenate([before, now])
    _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    m, n, total = len(before), len(now), len(both)
    wins = float(ranks[m:].sum()) - n * (n + 1) / 2.0
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    variance = m * n / 12.0 * (total + 1 - ties)
    if variance <= 0.0:
        return 0.5, 1.0
    z = (wins - m * n / 2.0 - 0.5) / math.sqrt(variance)
    return wins / (m * n), 0.5 * math.erfc(z / math.sqrt(2.0))
