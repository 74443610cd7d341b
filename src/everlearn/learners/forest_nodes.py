"""The nodes of :mod:`everlearn.learners.forest`: how one Mondrian tree grows.

All trees share one pool of nodes; an index of -1 is none. With C places in the pool, d columns, K places for
classes (for a regression 1: the mean of the targets):

* ``links`` int32 (C, 4): parent, left child, right child, column of the cut (-1 in a leaf).
* ``facts`` float64 (C, 6): the time of the cut (infinite in a leaf), the cut, the logarithms of the node's
  own weight and of the aggregated weight of the tree below and at it, the last row learned, the rows' weight.
* ``boxes`` float64 (C, 3, d): the least and greatest value of each column (least above greatest: none),
  and, in a leaf, their mean.
* ``counts`` float64 (C, K).
* ``spare`` int32 (C,): the free places, a stack; how many there are stands in ``numbers[SPARE]``.
* ``trees`` int64 (M, 4): root, nodes, rows learned, and the seed of the order of the categories.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from everlearn.learners.kernels import compiled, exponential, random

PARENT, LEFT, RIGHT, COLUMN = range(4)
TIME, CUT, OWN, ALL, LAST, MASS = range(6)
ROOT, NODES, AGE, ORDER = range(4)
SEEN, LEARNED, SPARE, BORN = range(4)  # places in ``numbers``; SEEN is -1 for a regression
# Places in ``settings``.
STEP, PRIOR, KEEP, CLIP, MEMORY, SHARPNESS, HORIZON, TRUST, MOST_NODES, MEMBERS, PATIENCE = range(11)
PURE = 0.02  # the share of other classes (or squared error in units of the variance) that starts no cut


class Grove(NamedTuple):
    """All that a forest has learned, and its settings, for the compiled loops."""

    links: Any
    facts: Any
    boxes: Any
    counts: Any
    spare: Any
    trees: Any
    losses: Any
    numbers: Any
    scale: Any
    table: Any
    rates: Any
    generator: Any
    kinds: Any
    settings: Any


@compiled
def take(g: Any, tree: int) -> int:
    """A place for a node; the caller has seen to it that there is one."""
    g.numbers[SPARE] -= 1
    g.trees[tree, NODES] += 1
    node = g.spare[g.numbers[SPARE]]
    g.links[node, :] = -1
    g.facts[node, TIME] = math.inf
    g.facts[node, CUT:] = 0.0
    g.facts[node, LAST] = g.numbers[LEARNED]
    g.boxes[node, 0, :] = math.inf
    g.boxes[node, 1, :] = -math.inf
    g.boxes[node, 2, :] = math.nan
    g.counts[node, :] = 0.0
    return int(node)


@compiled
def drop(g: Any, tree: int) -> None:
    """Free all nodes of a tree, the deepest first."""
    node = g.trees[tree, ROOT]
    while node >= 0:
        if g.links[node, LEFT] >= 0:
            child = g.links[node, LEFT]
            g.links[node, LEFT] = -1
        elif g.links[node, RIGHT] >= 0:
            child = g.links[node, RIGHT]
            g.links[node, RIGHT] = -1
        else:
            g.spare[g.numbers[SPARE]] = node
            g.numbers[SPARE] += 1
            child = g.links[node, PARENT]
        node = child
    g.trees[tree, ROOT] = -1
    g.trees[tree, NODES] = g.trees[tree, AGE] = 0


@compiled
def child_of(g: Any, node: int, row: Any) -> int:
    """The child that a row goes to; a missing value goes to the heavier one."""
    x = row[g.links[node, COLUMN]]
    left, right = g.links[node, LEFT], g.links[node, RIGHT]
    if x != x:
        return int(left) if g.facts[left, MASS] >= g.facts[right, MASS] else int(right)
    return int(left) if x <= g.facts[node, CUT] else int(right)


@compiled
def _beyond(g: Any, node: int, row: Any, j: int) -> float:
    """How far a value lies outside a box: below (negative) or above; 0 where either is missing."""
    low, high, x = g.boxes[node, 0, j], g.boxes[node, 1, j], row[j]
    if low > high or x != x:
        return 0.0
    return float(min(x - low, 0.0) + max(x - high, 0.0))


@compiled
def _settled(g: Any, leaf: int, target: float, variance: float) -> bool:
    """Whether a leaf already says what the row says, so that no cut is needed."""
    if g.numbers[SEEN] < 0:
        off = target - g.counts[leaf, 0]
        return bool(off * off <= PURE * variance)
    total = g.facts[leaf, MASS]
    return bool(total - g.counts[leaf, int(target)] <= PURE * total)


@compiled
def _cut_above(g: Any, tree: int, node: int, row: Any, time: float, total: float) -> int:
    """Put a cut between a node's box and a row outside it; the row's new leaf (Lakshminarayanan et al.)."""
    left_over, column, beyond = random(g.generator) * total, -1, 0.0
    for j in range(row.shape[0]):
        off = _beyond(g, node, row, j)
        if off * g.rates[j] != 0.0:
            column, beyond = j, off
            left_over -= abs(off) * g.rates[j]
            if left_over < 0.0:
                break
    above, leaf, over = take(g, tree), take(g, tree), g.links[node, PARENT]
    g.counts[above] = g.counts[node]
    g.facts[above, OWN], g.facts[above, MASS] = g.facts[node, OWN], g.facts[node, MASS]
    edge = g.boxes[node, 1, column] if beyond > 0.0 else row[column]
    g.facts[above, TIME] = time
    g.facts[above, CUT] = edge + abs(beyond) * random(g.generator)
    if beyond > 0.0 and not g.facts[above, CUT] < row[column]:  # rounded up: the row must lie beyond
        g.facts[above, CUT] = edge
    if beyond < 0.0 and not g.facts[above, CUT] < g.boxes[node, 0, column]:
        g.facts[above, CUT] = edge
    g.links[above, PARENT], g.links[above, COLUMN] = over, column
    g.links[above, LEFT] = node if beyond > 0.0 else leaf
    g.links[above, RIGHT] = leaf if beyond > 0.0 else node
    g.links[node, PARENT] = g.links[leaf, PARENT] = above
    if over < 0:
        g.trees[tree, ROOT] = above
    else:
        side = LEFT if g.links[over, LEFT] == node else RIGHT
        g.links[over, side] = above
    g.boxes[above] = g.boxes[node]
    _extend(g, above, row)
    _extend(g, leaf, row)
    _centre(g, leaf, row)
    if g.numbers[SEEN] < 0:  # an empty leaf says what the node above it says
        g.facts[leaf, MASS] = g.settings[PRIOR]
        g.counts[leaf, 0] = g.counts[above, 0]
    return leaf


@compiled
def _make_room(g: Any, tree: int, keep: int) -> bool:
    """See to it that a tree may have two more nodes: else take out a stale leaf and the cut above it.

    From the root down, the way goes to the child that has not learned for longer. A node that is learning the
    row has just been marked, so that the way leaves the row's own at the first cut.
    """
    if g.trees[tree, NODES] + 2 <= g.settings[MOST_NODES]:
        return True
    node = g.trees[tree, ROOT]
    while g.links[node, COLUMN] >= 0:
        left, right = g.links[node, LEFT], g.links[node, RIGHT]
        node = left if g.facts[left, LAST] < g.facts[right, LAST] else right
    above = g.links[node, PARENT]
    if above < 0 or above == keep or node == keep:
        return False
    other = g.links[above, LEFT] + g.links[above, RIGHT] - node
    over = g.links[above, PARENT]
    g.links[other, PARENT] = over
    if over < 0:
        g.trees[tree, ROOT] = other
    else:
        g.links[over, LEFT if g.links[over, LEFT] == above else RIGHT] = other
    g.spare[g.numbers[SPARE]], g.spare[g.numbers[SPARE] + 1] = node, above
    g.numbers[SPARE] += 2
    g.trees[tree, NODES] -= 2
    return True


@compiled
def _cut_leaf(g: Any, tree: int, leaf: int, row: Any, start: float) -> int:
    """Part a row of another class from a leaf's centre though it lies in its box; the row's new leaf, or -1.

    The leaf is made narrow, as if all that it has learned were at its centre.
    """
    total = 0.0
    for j in range(row.shape[0]):
        off = row[j] - g.boxes[leaf, 2, j]
        if off == off:
            total += abs(off) * g.rates[j]
    if not total > 0.0 or not _make_room(g, tree, leaf):
        return -1
    g.boxes[leaf, :2] = g.boxes[leaf, 2]
    for j in range(row.shape[0]):
        if g.boxes[leaf, 0, j] != g.boxes[leaf, 0, j]:
            g.boxes[leaf, 0, j] = math.inf
            g.boxes[leaf, 1, j] = -math.inf
    time = start + exponential(g.generator) / total
    return _cut_above(g, tree, leaf, row, time, total)


@compiled
def _extend(g: Any, node: int, row: Any) -> None:
    for j in range(row.shape[0]):
        x = row[j]
        if x == x:
            g.boxes[node, 0, j] = min(g.boxes[node, 0, j], x)
            g.boxes[node, 1, j] = max(g.boxes[node, 1, j], x)


@compiled
def _centre(g: Any, leaf: int, row: Any) -> None:
    """Move a leaf's centre towards a row."""
    pace = 1.0 / (1.0 + g.facts[leaf, MASS])
    for j in range(row.shape[0]):
        x, centre = row[j], g.boxes[leaf, 2, j]
        if x == x:
            g.boxes[leaf, 2, j] = x if centre != centre else centre + (x - centre) * pace


@compiled
def grow(g: Any, tree: int, row: Any, target: float, variance: float) -> int:
    """Extend a tree by a row; the leaf that it falls into.

    On the way down, a cut that parts the row from a node's box is drawn with the rate of the box's growth; it
    is made if it comes before the node's own. A tree of ``max_nodes`` first loses a cut that was not met with
    for long.
    """
    node, start = g.trees[tree, ROOT], 0.0
    if node < 0:
        node = take(g, tree)
        g.trees[tree, ROOT] = node
        if g.numbers[SEEN] < 0:
            g.counts[node, 0] = target
    d, rates, boxes, facts = row.shape[0], g.rates, g.boxes, g.facts
    while True:
        total = 0.0
        for j in range(d):
            x, low, high = row[j], boxes[node, 0, j], boxes[node, 1, j]
            if x > high and low <= high:
                total += (x - high) * rates[j]
            elif x < low and low <= high:
                total += (low - x) * rates[j]
        facts[node, LAST] = g.numbers[LEARNED]
        leaf = g.links[node, COLUMN] < 0
        if total > 0.0 or leaf:
            cuts = not (leaf and _settled(g, node, target, variance))
            if cuts and total > 0.0:
                time = start + exponential(g.generator) / total
                if time < facts[node, TIME] and _make_room(g, tree, node):
                    return _cut_above(g, tree, node, row, time, total)
            elif cuts:
                cut = _cut_leaf(g, tree, node, row, start)
                if cut >= 0:
                    return cut
        _extend(g, node, row)
        if leaf:
            _centre(g, node, row)
            return int(node)
        start = g.facts[node, TIME]
        node = child_of(g, node, row)


@compiled
def place_of(code: float, order: int, j: int) -> float:
    """Where a tree's random order puts a category, in [0, 1) (the finaliser of SplitMix64)."""
    z = np.uint64(int(min(max(code, -1e15), 1e15))) * np.uint64(0x9E3779B97F4A7C15)
    z ^= np.uint64(order) * np.uint64(0xD1B54A32D192ED03) + np.uint64(j + 1) * np.uint64(0x2545F4914F6CDD1D)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)
