"""The exact half of :mod:`everlearn.learners.ridge`: sums over rows, and the solution from them.

A sum is two numbers, high and low (double-double): products and sums are made without rounding error
(Dekker 1971; Knuth, *The Art of Computer Programming* 2, section 4.2.2) and rounded to about 106 bits, as
in the dot product of Ogita, Rump and Oishi (2005, section 5). So the order of rows does not matter, a row
that is taken away leaves nothing, and a column's mean can be 10^8 of its deviations.

Sizes: M features of a row, the last of which is 1; K outputs. The sums are

* ``gram`` (2, M (M + 1) / 2): ``sum w phi phi^T``, the upper triangle, row by row;
* ``moments`` (2, K, M): ``sum w y phi^T``, y of a class being 1 where a row is of it;
* ``extra`` (2, 2): ``sum w y^2``, and the sum of squares that tells how many rows the weights are worth.

w is a row's own weight times ``gamma ** -when``, so that nothing has to be aged. Before that overflows,
the sums are divided by a power of two, which loses nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, dot, inlined
from everlearn.learners.ridge_kernels import ALPHA, FADING, map_row

SHIFT = 200  # by how many powers of two the sums are divided at a time
SPLIT = 134217729.0  # 2^27 + 1
VARIED = 1e-24  # a column varies if its variance is more than this part of its mean square
SEEN, LEFT, CLOCK, SHIFTS, GONE = range(5)  # places in ``counts``, int64 (5,)


@inlined
def product(a: float, b: float) -> tuple[float, float]:
    """A product and its rounding error (Dekker 1971)."""
    p = a * b
    big = SPLIT * a
    a_high = big - (big - a)
    a_low = a - a_high
    big = SPLIT * b
    b_high = big - (big - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@compiled
def add_multiple(high: Any, low: Any, phi: Any, a: float, a_more: float) -> None:
    """``(high, low) += (a + a_more) * phi``, all (n,)."""
    for k in range(phi.shape[0]):
        p, e = product(a, phi[k])
        s = high[k]
        t = s + p
        z = t - s
        rest = low[k] + (((s - (t - z)) + (p - z)) + (e + a_more * phi[k]))
        high[k] = t + rest
        low[k] = rest - (high[k] - t)


@compiled
def time_weight(when: int, numbers: Any, shifts: int) -> float:
    """``gamma ** -when / 2 ** (SHIFT * shifts)``; a change of ``shifts`` changes no bit of the mantissa."""
    power = when * numbers[FADING]
    whole = math.floor(power)
    return math.ldexp(2.0 ** (power - whole), int(whole) - SHIFT * shifts)


@compiled
def make_room(sums: Any, numbers: Any, counts: Any) -> None:
    """Divide the sums if the next row's weight would be 2^SHIFT or more."""
    gram, moments, extra, most = sums
    while math.floor(counts[CLOCK] * numbers[FADING]) >= SHIFT * (counts[SHIFTS] + 1):
        gram *= 2.0**-SHIFT
        moments *= 2.0**-SHIFT
        extra[:, 0] *= 2.0**-SHIFT
        extra[:, 1] *= 2.0 ** (-2 * SHIFT)
        most *= 2.0**-SHIFT
        counts[SHIFTS] += 1


@compiled
def add_row(phi: Any, target: float, values: bool, weight: float, faded: float, sums: Any) -> None:
    """Add a row to the sums: ``weight`` is its own (negative: take it away), ``faded`` that of its time."""
    gram, moments, extra, _ = sums
    size, w = phi.shape[0], weight * faded
    at = 0
    for j in range(size):
        end = at + size - j
        if phi[j] != 0.0:
            a, more = product(w, phi[j])
            add_multiple(gram[0, at:end], gram[1, at:end], phi[j:], a, more)
        at = end
    square = np.empty(1)
    if values:
        a, more = product(w, target)
        add_multiple(moments[0, 0], moments[1, 0], phi, a, more)
        square[0] = target
        add_multiple(extra[0, :1], extra[1, :1], square, a, more)
    else:
        label = int(target)
        add_multiple(moments[0, label], moments[1, label], phi, w, 0.0)
    # A row that weighs 2 is worth two rows; one that weighs 1/2 has faded: its weight's square counts.
    square[0] = min(abs(weight), 1.0) * faded
    add_multiple(extra[0, 1:], extra[1, 1:], square, w, 0.0)


@compiled
def forget_rows(
    rows: Any,
    targets: Any,
    weights: Any,
    when: Any,
    values: bool,
    how: Any,
    sums: Any,
    counts: Any,
    left: Any,
) -> None:
    """Take rows away as they were added."""
    numbers, phi = how[-1], np.empty(how[4].shape[0] + how[5].shape[0] + 1)
    for i in range(rows.shape[0]):
        map_row(rows[i], how, phi)
        faded = time_weight(when[i], numbers, counts[SHIFTS])
        add_row(phi, targets[i], values, -weights[i], faded, sums)
        counts[LEFT] -= 1
        left[0 if values else int(targets[i])] -= 1


@compiled
def solve(sums: Any, counts: Any, left: Any, values: bool, numbers: Any, solution: Any, shape: Any) -> None:
    """The ridge solution: slopes and, last, the mean into ``solution`` (K, M), the features' means in its
    last row; what probabilities are made of into ``shape`` (4, K).

    The columns' deviations from their means, in units of their standard deviations, have the correlation
    matrix R and the correlations r with an output; the slopes are ``(R + lambda)^-1 r``, where lambda is
    ``alpha`` rows of the newest row's weight over the weight of all.
    """
    gram, moments, extra, _ = sums
    size = solution.shape[1]
    m = size - 1
    total, total_low = gram[0, -1], gram[1, -1]
    newest = time_weight(counts[CLOCK] - 1, numbers, counts[SHIFTS])
    penalty = numbers[ALPHA] * newest / total
    sum_high, sum_low = np.empty(size), np.empty(size)
    at = 0
    for j in range(size):
        at += size - j
        sum_high[j], sum_low[j] = gram[0, at - 1], gram[1, at - 1]
    mean, mean_low = np.empty(m), np.empty(m)
    for j in range(m):
        q = sum_high[j] / total
        p, e = product(q, total)
        rest = (((sum_high[j] - p) - e) + sum_low[j] - q * total_low) / total
        mean[j] = q + rest
        mean_low[j] = rest - (mean[j] - q)
    solution[-1, :m] = mean
    # R, of which the lower triangle is written, with what standardises its columns.
    matrix, unit = np.zeros((m, m)), np.zeros(m)
    used, at = 0, 0
    for j in range(m):
        for k in range(j, m):
            p, e = product(mean[j], sum_high[k])
            e += mean[j] * sum_low[k] + mean_low[j] * sum_high[k]
            matrix[k, j] = (gram[0, at + k - j] - p) + (gram[1, at + k - j] - e)
        if matrix[j, j] > VARIED * gram[0, at]:
            unit[j] = 1.0 / math.sqrt(matrix[j, j])
            used += 1
        at += size - j
    for j in range(m):
        for k in range(j):
            matrix[j, k] *= unit[j] * unit[k]
        matrix[j, j] = 1.0 + penalty
    factor = matrix.copy()
    cholesky(factor)
    lever = 0.0
    if not values:
        freedom = 1.0 + used - penalty * (inverse_trace(factor) - (m - used) / (1.0 + penalty))
        worth = total * total / (extra[0, 1] + extra[1, 1])
        lever = min(freedom / worth, 0.98)
    right, slopes, wrong = np.empty(m), np.empty(m), np.empty(m)
    for c in range(solution.shape[0] - 1):
        first, first_low = moments[0, c, m], moments[1, c, m]
        for j in range(m):
            p, e = product(mean[j], first)
            e += mean[j] * first_low + mean_low[j] * first
            right[j] = ((moments[0, c, j] - p) + (moments[1, c, j] - e)) * unit[j]
            slopes[j] = right[j]
        back_substitute(factor, slopes)
        multiply(matrix, slopes, wrong)  # one step of iterative refinement
        for j in range(m):
            wrong[j] = right[j] - wrong[j]
        back_substitute(factor, wrong)
        for j in range(m):
            slopes[j] += wrong[j]
        if not values:
            multiply(matrix, slopes, wrong)
            along, spread = dot(right, slopes), dot(slopes, wrong) - penalty * dot(slopes, slopes)
            _discern(shape[:, c], (first + first_low) / total, along / total, spread / total, lever)
            shape[3, c] = left[c]
        for j in range(m):
            solution[c, j] = slopes[j] * unit[j]
        solution[c, m] = (first + first_low) / total


@compiled
def _discern(shape: Any, share: float, along: float, spread: float, lever: float) -> None:
    """How a class's score tells it from the rest: share, distance of their mean scores, slope of log-odds.

    A score's distribution within a class and within the rest is taken as normal with one variance, as in
    linear discriminant analysis (Hastie, Tibshirani and Buja 1994, section 3). Means and variance are those
    of rows that the solution has not seen: a row's error without it is its error over ``1 - lever``, with
    the mean lever for all (generalised cross-validation: Golub, Heath and Wahba 1979, section 2).
    ``along`` and ``spread`` are the scores' covariance with the class's indicator, and their variance.
    """
    most = share * (1.0 - share)
    shape[0] = share
    shape[1] = shape[2] = 0.0
    if most <= 0.0:
        return
    grown = 1.0 / (1.0 - lever)
    error_along, error_spread = most - along, most - 2.0 * along + spread
    along = most - grown * error_along
    if along <= 0.0:
        return
    distance = min(along / most, 1.0)
    within = most - 2.0 * grown * error_along + grown * grown * error_spread - most * distance * distance
    shape[1] = distance
    shape[2] = distance / max(within, 1e-5)


@compiled
def cholesky(matrix: Any) -> None:
    """The lower triangle becomes L with ``L L^T`` the matrix; only it is read."""
    m = matrix.shape[0]
    for i in range(m):
        for j in range(i):
            matrix[i, j] = (matrix[i, j] - _dot(matrix, i, j, j)) / matrix[j, j]
        matrix[i, i] = math.sqrt(max(matrix[i, i] - _dot(matrix, i, i, i), 1e-14))


@compiled
def _dot(matrix: Any, i: int, j: int, end: int) -> float:
    """The inner product of two rows up to a column."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = end - end % 8
    for k in range(0, whole, 8):
        s0 += matrix[i, k] * matrix[j, k]
        s1 += matrix[i, k + 1] * matrix[j, k + 1]
        s2 += matrix[i, k + 2] * matrix[j, k + 2]
        s3 += matrix[i, k + 3] * matrix[j, k + 3]
        s4 += matrix[i, k + 4] * matrix[j, k + 4]
        s5 += matrix[i, k + 5] * matrix[j, k + 5]
        s6 += matrix[i, k + 6] * matrix[j, k + 6]
        s7 += matrix[i, k + 7] * matrix[j, k + 7]
    rest = 0.0
    for k in range(whole, end):
        rest += matrix[i, k] * matrix[j, k]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7)) + rest


@compiled
def back_substitute(factor: Any, x: Any) -> None:
    """Solve ``L L^T x = x`` in place."""
    m = factor.shape[0]
    for i in range(m):
        row = factor[i]
        total = x[i] - dot(row[:i], x[:i])
        x[i] = total / row[i]
    for i in range(m - 1, -1, -1):
        x[i] /= factor[i, i]
        for j in range(i):
            x[j] -= factor[i, j] * x[i]


@compiled
def multiply(matrix: Any, x: Any, out: Any) -> None:
    """The product of a symmetric matrix, of which the lower triangle is read, and a vector."""
    for i in range(matrix.shape[0]):
        row, xi = matrix[i], x[i]
        out[i] = dot(row[: i + 1], x[: i + 1])
        for j in range(i):
            out[j] += row[j] * xi


@compiled
def inverse_trace(factor: Any) -> float:
    """The trace of ``(L L^T)^-1``: the squares of L^-1, row by row."""
    m = factor.shape[0]
    inverse = np.zeros((m, m))
    total = 0.0
    for i in range(m):
        row = inverse[i]
        for k in range(i):
            x = factor[i, k]
            above = inverse[k]
            for j in range(k + 1):
                row[j] -= x * above[j]
        for j in range(i):
            row[j] /= factor[i, i]
        row[i] = 1.0 / factor[i, i]
        total += dot(row[: i + 1], row[: i + 1])
    return total


@compiled
def answer(phi: Any, solution: Any, shape: Any, seen: int, values: bool, out: Any) -> None:
    """An estimate into ``out`` (1,), or probabilities (k,); ``phi`` is overwritten."""
    m = phi.shape[0] - 1
    for j in range(m):
        phi[j] -= solution[-1, j]
    phi[m] = 1.0
    if values:
        out[0] = dot(solution[0], phi)
        return
    total = 0.0
    for c in range(seen):
        share = shape[0, c]
        out[c] = 0.0
        if shape[3, c] <= 0.0:  # all that there was of it is forgotten
            continue
        odds = shape[2, c] * (dot(solution[c], phi) - share - shape[1, c] * (0.5 - share))
        share = min(max(share, 1e-9), 1.0 - 1e-9)
        odds = min(max(odds + math.log(share / (1.0 - share)), -30.0), 30.0)
        out[c] = 1.0 / (1.0 + math.exp(-odds)) + 1e-6
        total += out[c]
    for c in range(seen):
        out[c] = out[c] / total if total > 0.0 else 1.0 / seen


@compiled
def nothing(seen: int, values: bool, out: Any) -> None:
    """The answer where nothing is left to answer from."""
    for c in range(out.shape[0]):
        out[c] = np.nan if values else (1.0 / seen if c < seen else 0.0)


@compiled
def answer_rows(
    rows: Any, values: bool, how: Any, solution: Any, shape: Any, seen: int, answers: Any
) -> None:
    """Fill ``answers`` (n, k) or (n, 1)."""
    phi = np.empty(solution.shape[1])
    for i in range(rows.shape[0]):
        map_row(rows[i], how, phi)
        answer(phi, solution, shape, seen, values, answers[i])


@compiled
def exact_rows(
    asked: Any, rows: Any, targets: Any, weights: Any, values: bool, how: Any, sums: Any, counts: Any,
    left: Any, answers: Any,
) -> None:  # fmt: skip
    """Answer ``asked[i]`` into ``answers`` (n, k) if it has rows, then add ``rows[i]`` to the sums."""
    numbers = how[-1]
    phi = np.empty(how[4].shape[0] + how[5].shape[0] + 1)
    solution, shape = np.empty((left.shape[0] + 1, phi.shape[0])), np.zeros((4, left.shape[0]))
    for i in range(rows.shape[0]):
        if answers.shape[0]:
            if counts[LEFT] > 0:
                solve(sums, counts, left, values, numbers, solution, shape)
                map_row(asked[i], how, phi)
                answer(phi, solution, shape, counts[SEEN], values, answers[i])
            elif counts[SEEN] > 0:
                nothing(counts[SEEN], values, answers[i])
        make_room(sums, numbers, counts)
        map_row(rows[i], how, phi)
        faded = time_weight(counts[CLOCK], numbers, counts[SHIFTS])
        add_row(phi, targets[i], values, weights[i], faded, sums)
        counts[CLOCK] += 1
        counts[LEFT] += 1
        label = 0 if values else int(targets[i])
        left[label] += 1
        counts[SEEN] = max(counts[SEEN], label + 1)
