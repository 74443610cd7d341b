"""The metrics of :mod:`everlearn.learners.knn`: how its memory sees rows, and how that is fitted.

Sizes: d features, M metrics (1 or 2). A *lens* is ``(columns, metric, kinds)``:

* ``columns`` float64 (9, d): what is known of each feature (the constants below).
* ``metric`` float64 (d, d): transposed L of the second metric, whose distance is ``|L (z - z')|^2``.
* ``kinds`` int64 (d,): 1 for categories, which are the same or not, 0 for numbers.

A *point* (M d,) is a row as the metrics see it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, inlined

# Rows of ``columns``. 0 to 2 are the running scale; the next four are taken from it at each fit.
CENTRE, FACTOR, STRETCH, MISMATCH, RELEVANCE, LINE = range(3, 9)
"""Mean, 1 / deviation, root of weight, cost of another category; log of weight; regression's line."""

CENTRE_Y, SPREAD_Y = range(2)
"""Of a regression's ``numbers``: mean and deviation of the target at the last fit."""

CLIP = 5.0  # deviations
BETWEEN = 10.0  # weight of directions that tell classes apart, against that of any direction
RIDGE = 0.02
SHRINK = 0.9  # of covariances between features
SHARPNESS = 2.0  # how steeply votes fall with distance


@inlined
def _standard(x: float, centre: float, factor: float) -> float:
    z = (x - centre) * factor
    return min(max(z, -CLIP), CLIP) if z == z else 0.0


@compiled
def place(row: Any, lens: Any, point: Any) -> None:
    """Fill ``point`` (M d,) for a row (d,)."""
    columns, metric, kinds = lens
    d = row.shape[0]
    for j in range(d, point.shape[0]):
        point[j] = 0.0
    for j in range(d):
        x = row[j]
        if kinds[j]:
            point[j] = x if x == x else -1.0
            continue
        z = _standard(x, columns[CENTRE, j], columns[FACTOR, j])
        point[j] = z * columns[STRETCH, j]
        if point.shape[0] > d and z != 0.0:
            for a in range(d):
                point[d + a] += metric[j, a] * z


@compiled
def measure(points: Any, point: Any, lens: Any, first: int, n: int, out: Any) -> None:
    """Squared distances of ``point`` to the first ``n`` columns, by the metric in rows ``first`` on."""
    columns, _, kinds = lens
    d = kinds.shape[0]
    for i in range(n):
        out[i] = 0.0
    for j in range(d):
        if kinds[j]:
            _mismatch(points[j], np.float32(point[j]), np.float32(columns[MISMATCH, j]), n, out)
        elif first or columns[STRETCH, j] > 0.0:
            _square(points[first + j], np.float32(point[first + j]), n, out)


@compiled
def _square(points: Any, at: Any, n: int, out: Any) -> None:
    for i in range(n):
        gap = points[i] - at
        out[i] += gap * gap


@compiled
def _mismatch(points: Any, at: Any, cost: Any, n: int, out: Any) -> None:
    nothing = np.float32(0.0)
    for i in range(n):
        out[i] += cost if points[i] != at else nothing


@compiled
def fit_columns(columns: Any, kinds: Any) -> None:
    """The first metric: each feature by its deviation and its weight."""
    for j in range(kinds.shape[0]):
        variance = columns[2, j]
        weight = math.exp(columns[RELEVANCE, j])
        columns[CENTRE, j] = columns[1, j]
        columns[FACTOR, j] = 0.0 if kinds[j] or variance <= 0.0 else 1.0 / math.sqrt(variance)
        columns[STRETCH, j] = math.sqrt(weight) if columns[FACTOR, j] > 0.0 else 0.0
        columns[MISMATCH, j] = 2.0 * weight if kinds[j] else 0.0


@compiled
def standardised(rows: Any, columns: Any, n: int) -> Any:
    """The first ``n`` rows in deviations from the mean, clipped; 0 where missing (n, d)."""
    out = np.empty((n, rows.shape[1]))
    for i in range(n):
        for j in range(rows.shape[1]):
            out[i, j] = _standard(rows[i, j], columns[CENTRE, j], columns[FACTOR, j])
    return out


@compiled
def fit_classes(rows: Any, labels: Any, columns: Any, n: int, k: int, metric: Any) -> None:
    """The second metric of a classification: discriminant, over the window's ``n`` rows.

    ``M = W^-1/2 (I + 10 W^-1/2 B W^-1/2) W^-1/2`` with the covariances W within and B between classes
    (Hastie and Tibshirani 1996, equation 4, for all rows at once), as ``M = L' L``.
    """
    z = standardised(rows, columns, n)
    d = z.shape[1]
    means, sizes = _centre(z, labels, k)
    within = _covariance(z)
    factor = np.zeros((d, d))
    cholesky(within, factor)
    half = _inverse_lower(factor)  # W^-1 = half' half
    between = np.eye(d)
    for c in range(k):
        if sizes[c] > 0.0:
            _add_outer(between, half, means[c], BETWEEN * sizes[c] / n)
    cholesky(between, factor)
    for b in range(d):
        for a in range(d):
            total = 0.0
            for q in range(max(a, b), d):
                total += factor[q, a] * half[q, b]
            metric[b, a] = total


@compiled
def _centre(z: Any, labels: Any, k: int) -> Any:
    """Take the classes' means out of ``z`` (n, d); returns them (k, d), and the classes' sizes (k,)."""
    means, sizes = np.zeros((k, z.shape[1])), np.zeros(k)
    for i in range(z.shape[0]):
        sizes[labels[i]] += 1.0
        means[labels[i]] += z[i]
    for c in range(k):
        means[c] /= max(sizes[c], 1.0)
    for i in range(z.shape[0]):
        z[i] -= means[labels[i]]
    return means, sizes


@compiled
def _covariance(z: Any) -> Any:
    """Mean products of centred ``z`` (n, d), shrunken to the diagonal; the lower triangle."""
    n, d = z.shape
    out = np.zeros((d, d))
    for i in range(n):
        for a in range(d):
            x = z[i, a]
            for b in range(a + 1):
                out[a, b] += x * z[i, b]
    for a in range(d):
        for b in range(a):
            out[a, b] *= SHRINK / n
        out[a, a] = out[a, a] / n + RIDGE
    return out


@compiled
def _add_outer(out: Any, half: Any, mean: Any, weight: float) -> None:
    d = mean.shape[0]
    seen = np.zeros(d)
    for a in range(d):
        for q in range(a + 1):
            seen[a] += half[a, q] * mean[q]
    for a in range(d):
        for b in range(a + 1):
            out[a, b] += weight * seen[a] * seen[b]


@compiled
def cholesky(matrix: Any, out: Any) -> None:
    """The lower factor of a positive definite matrix, of which the lower triangle is read."""
    for j in range(matrix.shape[0]):
        for i in range(j, matrix.shape[0]):
            total = matrix[i, j]
            for q in range(j):
                total -= out[i, q] * out[j, q]
            out[i, j] = math.sqrt(max(total, 1e-9)) if i == j else total / out[j, j]


@compiled
def _inverse_lower(factor: Any) -> Any:
    d = factor.shape[0]
    out = np.zeros((d, d))
    for i in range(d):
        for c in range(i + 1):
            total = 1.0 if i == c else 0.0
            for q in range(c, i):
                total -= factor[i, q] * out[q, c]
            out[i, c] = total / factor[i, i]
    return out


@compiled
def fit_line(rows: Any, values: Any, columns: Any, numbers: Any, metric: Any) -> None:
    """Regression: a ridge line over the window, and the second metric ``I + 10 b b'`` along it.

    ``values`` (n,) are the targets; their mean and deviation go to the first two ``numbers``.
    """
    n, d = values.shape[0], rows.shape[1]
    spread = _spread(values, numbers)
    z = standardised(rows, columns, n)
    line = np.zeros(d)
    if spread > 0.0:
        for i in range(n):
            y = (values[i] - numbers[CENTRE_Y]) / spread
            for j in range(d):
                line[j] += z[i, j] * y / n
    factor = np.zeros((d, d))
    cholesky(_covariance(z), factor)
    _solve(factor, line)
    matrix = np.eye(d)
    for a in range(d):
        columns[LINE, a] = line[a]
        for b in range(a + 1):
            matrix[a, b] += BETWEEN * line[a] * line[b]
    cholesky(matrix, factor)
    metric[:] = factor


@compiled
def _spread(values: Any, numbers: Any) -> float:
    centre = values.mean()
    most = np.abs(values - centre).max()
    spread = most * math.sqrt((((values - centre) / most) ** 2).mean()) if most > 0.0 else 0.0
    numbers[CENTRE_Y], numbers[SPREAD_Y] = centre, spread
    return float(spread)


@compiled
def _solve(factor: Any, vector: Any) -> None:
    """Solve ``factor factor' x = vector`` in place."""
    for j in range(vector.shape[0]):
        for q in range(j):
            vector[j] -= factor[j, q] * vector[q]
        vector[j] /= factor[j, j]
    for j in range(vector.shape[0] - 1, -1, -1):
        for q in range(j + 1, vector.shape[0]):
            vector[j] -= factor[q, j] * vector[q]
        vector[j] /= factor[j, j]


@compiled
def on_line(row: Any, columns: Any, numbers: Any) -> float:
    """What the line says of a row."""
    total = 0.0
    for j in range(row.shape[0]):
        total += columns[LINE, j] * _standard(row[j], columns[CENTRE, j], columns[FACTOR, j])
    return float(numbers[CENTRE_Y] + numbers[SPREAD_Y] * total)


@compiled
def heed(points: Any, point: Any, lens: Any, near: Any, pull: Any, pace: float) -> None:
    """Change the weights of the features by ``pace`` times ``pull`` (h,) on the neighbours' distances.

    ``pull`` is the slope of what is to grow by the logarithm of each neighbour's vote, negated.
    """
    columns, _, kinds = lens
    mean = 0.0
    gaps = np.zeros((pull.shape[0], kinds.shape[0]))
    for a in range(pull.shape[0]):
        for j in range(kinds.shape[0]):
            gap = points[j, near[a]] - np.float32(point[j])
            gaps[a, j] = (columns[MISMATCH, j] if gap != 0.0 else 0.0) if kinds[j] else gap * gap
            mean += gaps[a, j]
    mean = mean / pull.shape[0] + 1e-6
    for j in range(kinds.shape[0]):
        change = 0.0
        for a in range(pull.shape[0]):
            change += pull[a] * gaps[a, j]
        change = pace * SHARPNESS * change / mean
        columns[RELEVANCE, j] = min(max(columns[RELEVANCE, j] + min(max(change, -1.0), 1.0), -8.0), 3.0)
