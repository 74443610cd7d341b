"""The compiled part of :mod:`everlearn.learners.forest`: columns' relevance, trees that replace each other.

Besides the nodes' arrays (:mod:`everlearn.learners.forest_nodes`), with d columns:

* ``losses`` float64 (M,): the recent mean loss of each tree; the first ``members`` of the M trees answer, the
  others are candidates.
* ``scale`` float64 (3, d + 2): running count, mean and variance of each column, then of the target; then
  the forest's usual squared error in units of the target's variance, in ``scale[0]``.
* ``table`` float64 (d, BINS, K or 3): weights of the classes in each bin of each column (for a regression:
  weight, sum and sum of squares of the standardised target), halved when they are old.
* ``rates`` float64 (d,): how fast cuts come in each column, a unit of its values.
* ``numbers`` int64 (4,): classes seen (-1: a regression), rows learned, free nodes, trees born.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.forest_answers import ask, charge, explain, teach
from everlearn.learners.forest_nodes import (
    AGE,
    BORN,
    CLIP,
    HORIZON,
    LEARNED,
    MEMBERS,
    MEMORY,
    ORDER,
    PATIENCE,
    ROOT,
    SEEN,
    SHARPNESS,
    SPARE,
    TRUST,
    drop,
    grow,
    place_of,
)
from everlearn.learners.kernels import compiled

BINS = 16  # of a column, the last for missing values
LOOK = 64  # rows between two looks at the columns' relevance
FLOOR = 0.03  # the rate of cuts in a column that says nothing, against one that says all
MOST = 64.0  # the greatest weight that a row can have
WORST_ERROR = 9.0  # the greatest squared error, in variances, that the usual error takes in


@compiled
def _scale_one(scale: Any, j: int, x: float, memory: float, clip: float) -> None:
    """As :func:`everlearn.learners.kernels.scale_learn`, for one place."""
    count = min(scale[0, j] + 1.0, memory)
    delta = x - scale[1, j]
    if count > 10.0 and scale[2, j] > 0.0:
        bound = clip * math.sqrt(scale[2, j])
        delta = min(max(delta, -bound), bound)
    step = delta / count
    scale[0, j] = count
    scale[1, j] += step
    scale[2, j] += (delta * (delta - step) - scale[2, j]) / count


@compiled
def _place(g: Any, row: Any, tree: int, out: Any) -> None:
    """A row as a tree sees it: far values clipped (once, by tree -1), categories at the tree's places."""
    for j in range(row.shape[0]):
        x = row[j]
        if tree < 0 and not g.kinds[j]:
            out[j] = x
            if g.scale[0, j] > 10.0 and x == x:
                reach = g.settings[CLIP] * math.sqrt(g.scale[2, j])
                out[j] = min(max(x, g.scale[1, j] - reach), g.scale[1, j] + reach)
        elif tree >= 0 and g.kinds[j]:
            out[j] = place_of(x, g.trees[tree, ORDER], j) if x == x else x


@compiled
def _bin(g: Any, row: Any, j: int) -> int:
    x = row[j]
    if x != x:
        return BINS - 1
    if g.kinds[j]:
        return int(place_of(x, 0, j) * (BINS - 1))
    z = (x - g.scale[1, j]) / math.sqrt(g.scale[2, j]) if g.scale[2, j] > 0.0 else 0.0
    return int(min(max((z + 2.0) * 0.25 * (BINS - 1), 0.0), BINS - 1.5))


@compiled
def _count(g: Any, row: Any, target: float, weight: float) -> None:
    """Take a row into the columns' tables."""
    values, d = g.numbers[SEEN] < 0, row.shape[0]
    z = 0.0
    if values and g.scale[2, d] > 0.0:
        z = min(max((target - g.scale[1, d]) / math.sqrt(g.scale[2, d]), -5.0), 5.0)
    for j in range(d):
        cell = g.table[j, _bin(g, row, j)]
        if values:
            cell[0] += weight
            cell[1] += weight * z
            cell[2] += weight * z * z
        else:
            cell[int(target)] += weight


@compiled
def _entropy(weights: Any, k: int, total: float) -> float:
    """Of k weights, times their total."""
    bits = 0.0
    for c in range(k):
        if weights[c] > 0.0:
            bits -= weights[c] * math.log(weights[c] / total)
    return bits


@compiled
def _relevance(g: Any, j: int, sums: Any) -> float:
    """The share of the labels' entropy (or variance) that a column's bins explain, less that of chance."""
    k = 3 if g.numbers[SEEN] < 0 else g.numbers[SEEN]
    sums[:] = 0.0
    inside, used = 0.0, 0.0
    for b in range(BINS):
        cell = g.table[j, b]
        n = cell[0] if g.numbers[SEEN] < 0 else cell[:k].sum()
        if n <= 0.0:
            continue
        used += 1.0
        for c in range(k):
            sums[c] += cell[c]
        inside += cell[2] - cell[1] * cell[1] / n if g.numbers[SEEN] < 0 else _entropy(cell, k, n)
    if g.numbers[SEEN] < 0:
        n = sums[0]
        if n <= used:
            return 0.0
        whole = sums[2] - sums[1] * sums[1] / n
        chance = (used - 1.0) * inside / (n - used)
    else:
        n = sums[:k].sum()
        whole = _entropy(sums, k, n) if n > 0.0 else 0.0
        chance = 0.5 * (used - 1.0) * (k - 1.0)
    return max(whole - inside - chance, 0.0) / whole if whole > 0.0 else 0.0


@compiled
def _rate(g: Any, sums: Any) -> None:
    """Set the columns' rates: by their relevance, in units of their deviations, faint against the best."""
    d = g.rates.shape[0]
    top = 0.0
    for j in range(d):
        g.rates[j] = _relevance(g, j, sums)
        top = max(top, g.rates[j])
    for j in range(d):
        share = g.rates[j] / top if top > 0.0 else 1.0
        spread = 0.3 if g.kinds[j] else math.sqrt(g.scale[2, j])
        rate = FLOOR + (1.0 - FLOOR) * share ** g.settings[SHARPNESS]
        g.rates[j] = rate / spread if spread > 1e-150 else 0.0
    if g.numbers[LEARNED] % int(g.settings[MEMORY]) < LOOK and g.numbers[LEARNED] >= g.settings[MEMORY]:
        for j in range(d):
            g.table[j] *= 0.5


@compiled
def _shares(g: Any, out: Any) -> None:
    """How much each member counts: by its recent loss."""
    members = int(g.settings[MEMBERS])
    least, total = math.inf, 0.0
    for m in range(members):
        if g.trees[m, ROOT] >= 0:
            least = min(least, g.losses[m])
    for m in range(members):
        out[m] = 0.0
        if g.trees[m, ROOT] >= 0:
            out[m] = math.exp(-g.settings[TRUST] * (g.losses[m] - least))
            total += out[m]
    for m in range(members):
        out[m] /= total


@compiled
def _answer(g: Any, row: Any, seen: Any, shares: Any, out: Any) -> None:
    _place(g, row, -1, seen)
    _shares(g, shares)
    out[:] = 0.0
    k = 1 if g.numbers[SEEN] < 0 else g.numbers[SEEN]
    for m in range(int(g.settings[MEMBERS])):
        if shares[m] > 0.0:
            _place(g, row, m, seen)
            ask(g, m, seen, shares[m], out[:k])
    if g.numbers[SEEN] >= 0:
        out[:k] /= out[:k].sum()


@compiled
def _plant(g: Any, tree: int) -> None:
    """Begin a tree anew."""
    drop(g, tree)
    g.numbers[BORN] += 1
    g.trees[tree, ORDER] = g.numbers[BORN]
    g.losses[tree] = 0.0


@compiled
def _replace(g: Any) -> None:
    """A candidate that is old enough and has lost less of late than the worst member takes its place."""
    members = int(g.settings[MEMBERS])
    for new in range(members, g.trees.shape[0]):
        worst = 0
        for m in range(1, members):
            if g.losses[m] > g.losses[worst]:
                worst = m
        if g.trees[new, AGE] >= g.settings[PATIENCE] and g.losses[new] < g.losses[worst]:
            _plant(g, worst)
            for place in range(g.trees.shape[1]):
                g.trees[worst, place], g.trees[new, place] = g.trees[new, place], g.trees[worst, place]
            g.losses[worst] = g.losses[new]


@compiled
def _learn(g: Any, row: Any, target: float, weight: float, seen: Any, sums: Any) -> None:
    d, values = row.shape[0], g.numbers[SEEN] < 0
    weight = min(weight, MOST)
    if not values:
        g.numbers[SEEN] = max(g.numbers[SEEN], int(target) + 1)
    for j in range(d):
        if row[j] == row[j] and not g.kinds[j]:
            _scale_one(g.scale, j, row[j], g.settings[MEMORY], g.settings[CLIP])
    variance = g.scale[2, d]
    if values:
        _scale_one(g.scale, d, target, g.settings[MEMORY], g.settings[CLIP])
        variance = g.scale[2, d]
    _count(g, row, target, weight)
    if g.numbers[LEARNED] % LOOK == 0 or g.numbers[LEARNED] < 8:
        _rate(g, sums)
    unit = variance * g.scale[0, d + 1] + 1e-300
    _place(g, row, -1, seen)
    said = 0.0
    for m in range(g.trees.shape[0]):
        if g.trees[m, ORDER] == 0:
            _plant(g, m)
        first = g.trees[m, ROOT] < 0
        _place(g, row, m, seen)
        leaf = grow(g, m, seen, target, variance)
        say = teach(g, leaf, target, weight, unit)
        g.trees[m, AGE] += 1
        if not first:
            loss = charge(g, say, target, unit)
            g.losses[m] += (loss - g.losses[m]) / min(g.trees[m, AGE] - 1.0, g.settings[HORIZON])
        said += say / g.trees.shape[0]
    if values and variance > 0.0:
        off = (said - target) * (said - target) / variance
        g.scale[0, d + 1] += (min(off, WORST_ERROR) - g.scale[0, d + 1]) * 0.01
        g.scale[0, d + 1] = max(g.scale[0, d + 1], 1e-6)
    g.numbers[LEARNED] += 1
    _replace(g)


@compiled
def run(g: Any, asked: Any, rows: Any, targets: Any, weights: Any, start: int, answers: Any) -> int:
    """For each i from ``start``: answer ``asked[i]``, if there is room for answers, then learn ``rows[i]``.

    ``targets`` float64 (n,); ``answers`` (n, k). Returns how many rows are done: all, or those before the
    pool of nodes may not have room for the next row.
    """
    end = int(max(asked.shape[0], rows.shape[0]))
    seen = np.zeros(max(asked.shape[1], rows.shape[1]))
    shares, sums = np.zeros(g.trees.shape[0]), np.zeros(g.table.shape[2])
    for i in range(start, end):
        if i < rows.shape[0] and g.numbers[SPARE] < 2 * g.trees.shape[0]:
            return i
        if answers.shape[0] and g.numbers[LEARNED] > 0:
            _answer(g, asked[i], seen, shares, answers[i])
        if i < rows.shape[0]:
            _learn(g, rows[i], targets[i], weights[i], seen, sums)
    return end


@compiled
def add_up(g: Any, rows: Any, added: Any) -> None:
    """What each column adds to the answers to rows, to ``added`` (n, d + 1, k)."""
    seen, shares = np.zeros(rows.shape[1]), np.zeros(g.trees.shape[0])
    _shares(g, shares)
    k = 1 if g.numbers[SEEN] < 0 else g.numbers[SEEN]
    for i in range(rows.shape[0]):
        _place(g, rows[i], -1, seen)
        for m in range(int(g.settings[MEMBERS])):
            if shares[m] > 0.0:
                _place(g, rows[i], m, seen)
                explain(g, m, seen, shares[m], added[i, :, :k])
