"""Compiled pieces of incremental trees: histograms of the rows at a leaf, their edges, the best split.

A leaf keeps a histogram of every number it sees, against the classes or the target (as VFML does for
Hoeffding trees, Hulten and Domingos 2003), with edges at quantiles that are guessed when the leaf is made.
A split is chosen by the log likelihood that it saves, which for classes is the information gain of Domingos
and Hulten (2000) times the weight.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, inlined
from everlearn.learners.patches_grove import BINS, VALUES, category_bin, nominal

LEAST = 2.0  # weight on either side of a split


# -- bins ----------------------------------------------------------------------------------------------


@compiled
def bin_of(x: float, edges: Any, categorical: int) -> int:
    """Which of the bins a value is in; BINS for a missing one."""
    if x != x:
        return BINS
    if categorical:
        return int(category_bin(x, edges[0]))
    b = 0
    for i in range(1, BINS):
        b += int(x > edges[i])
    return b


@compiled
def find_bins(grove: Any, tree: int, hist: int, view: Any, bins: Any) -> None:
    """The bins (S,) of a row in a tree's histogram."""
    edges = grove.edges[hist]
    for s in range(view.shape[0]):
        bins[s] = bin_of(view[s], edges[s], nominal(grove, tree, s))


@compiled
def observe(grove: Any, hist: int, bins: Any, target: float, weight: float) -> None:
    """Count a row, whose bins (S,) are known, in a histogram; ``target``: class number or deviation."""
    h = grove.hists[hist]
    if grove.limits[VALUES]:
        for s in range(bins.shape[0]):
            b = bins[s]
            h[s, b, 0] += weight
            h[s, b, 1] += weight * target
            h[s, b, 2] += weight * target * target
        return
    c = int(target)
    for s in range(bins.shape[0]):
        h[s, bins[s], c] += weight


@compiled
def mass_of(cell: Any, k: int, values: int) -> float:
    """The weight in a bin."""
    if values:
        return float(cell[0])
    total = 0.0
    for c in range(k):
        total += cell[c]
    return total


# -- edges ---------------------------------------------------------------------------------------------


@compiled
def widen(grove: Any, tree: int, hist: int, view: Any) -> None:
    """Take a row's values into the least and greatest ones of a histogram."""
    edges = grove.edges[hist]
    for s in range(view.shape[0]):
        x = view[s]
        if x == x and not nominal(grove, tree, s):
            edges[s, 0] = min(edges[s, 0], x)
            edges[s, BINS] = max(edges[s, BINS], x)


@compiled
def edges_of_rows(grove: Any, tree: int, views: Any, shift: float, edges: Any) -> None:
    """Edges (S, B + 1) at the quantiles of some rows (n, S), moved by ``shift`` of a bin."""
    have = views.shape[0]
    for s in range(views.shape[1]):
        edges[s, :] = 0.0
        if nominal(grove, tree, s):
            continue
        values = np.sort(views[:, s])
        n = 0
        while n < have and values[n] == values[n]:
            n += 1
        if n == 0:
            continue
        edges[s, 0], edges[s, BINS] = values[0], values[n - 1]
        for b in range(1, BINS):
            edges[s, b] = values[min(int((b + shift) * n / BINS), n - 1)]


@compiled
def edges_of_bins(mass: Any, old: Any, shift: float, new: Any) -> None:
    """Edges at the quantiles of a column that is known by its bins' masses (B,) and old edges (B + 1,)."""
    total, first, last = 0.0, -1, 0
    for b in range(BINS):
        total += mass[b]
        if mass[b] > 0.0:
            last = b
            if first < 0:
                first = b
    if first < 0:
        new[:] = old
        return
    new[0], new[BINS] = old[first], old[last + 1]
    b, below = first, 0.0
    for i in range(1, BINS):
        aim = total * (i + shift) / BINS
        while b < last and below + mass[b] < aim:
            below += mass[b]
            b += 1
        part = min(max((aim - below) / mass[b], 0.0), 1.0) if mass[b] > 0.0 else 1.0
        new[i] = old[b] + part * (old[b + 1] - old[b])


# -- splits --------------------------------------------------------------------------------------------


@inlined
def xlogx(x: Any) -> Any:
    """x log x."""
    return x * math.log(x) if x > 0.0 else 0.0


@compiled
def likelihood(counts: Any, k: int) -> float:
    """The log likelihood (nats) of rows of several classes under the classes' frequencies."""
    total, whole = 0.0, 0.0
    for c in range(k):
        total += xlogx(counts[c])
        whole += counts[c]
    return float(total - xlogx(whole))


@compiled
def worth_of_values(left: Any, right: Any) -> float:
    """The log likelihood (nats) that two sides with a normal target have over one, their variance shared."""
    n, m = left[0], right[0]
    a = max(left[2] - left[1] * left[1] / n, 0.0)
    b = max(right[2] - right[1] * right[1] / m, 0.0)
    s = left[1] + right[1]
    whole = max(left[2] + right[2] - s * s / (n + m), 0.0)
    least = 1e-12 * (left[2] + right[2]) + 1e-300
    return float(0.5 * (n + m) * math.log((whole + least) / (a + b + least)))


@compiled
def best_split(grove: Any, tree: int, hist: int, s: int, k: int, sides: Any) -> Any:
    """The best split of a histogram at ``s``: what it is worth and its bin, -1 for none.

    The first bins up to it go left; of a category, or if it is the bin of the missing values, it alone.
    Other splits count only what is not missing. ``sides`` (3, K) is scratch.
    """
    values, h, equals = grove.limits[VALUES], grove.hists[hist, s], nominal(grove, tree, s)
    whole, left, right = sides[0], sides[1], sides[2]
    whole[:] = 0.0
    for b in range(BINS):
        for c in range(k):
            whole[c] += h[b, c]
    best, where, weight = 0.0, -1, mass_of(whole, k, values)
    before = 0.0 if values else likelihood(whole, k)
    left[:] = 0.0
    for b in range(BINS - 1 + equals):
        if mass_of(h[b], k, values) <= 0.0:
            continue
        if equals:
            left[:] = 0.0
        for c in range(k):
            left[c] += h[b, c]
        l_mass = mass_of(left, k, values)
        if l_mass < LEAST or weight - l_mass < LEAST:
            continue
        for c in range(k):
            right[c] = whole[c] - left[c] if values else max(whole[c] - left[c], 0.0)
        gain = worth_of_values(left, right) if values else likelihood(left, k) + likelihood(right, k) - before
        if gain > best:
            best, where = gain, b
    missing = mass_of(h[BINS], k, values)
    if missing >= LEAST and weight >= LEAST:
        for c in range(k):
            left[c] = h[BINS, c]
        if values:
            gain = worth_of_values(left, whole)
        else:
            for c in range(k):
                right[c] = left[c] + whole[c]
            gain = likelihood(left, k) + before - likelihood(right, k)
        if gain > best:
            best, where = gain, BINS
    return best, where
