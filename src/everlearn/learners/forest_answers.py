"""What the trees of :mod:`everlearn.learners.forest` learn and answer: the mean over all their prunings.

A node's own answer counts by the exponential of its past losses; the recursion of context-tree weighting
keeps the sum over all prunings in one number a node (:mod:`everlearn.learners.forest_nodes` has the arrays).
"""

from __future__ import annotations

import math
from typing import Any

from everlearn.learners.forest_nodes import (
    ALL,
    COLUMN,
    KEEP,
    LEFT,
    MASS,
    OWN,
    PARENT,
    PRIOR,
    RIGHT,
    ROOT,
    SEEN,
    STEP,
    child_of,
)
from everlearn.learners.kernels import compiled

HALF = math.log(0.5)
WORST = 10.0  # the greatest loss that a regression's node is charged for a row, so that outliers stay small


@compiled
def own(g: Any, node: int, c: int, total: float) -> float:
    """What a node alone says of class c (Krichevsky and Trofimov 1981, for k classes), or its mean."""
    if g.numbers[SEEN] < 0:
        return float(g.counts[node, 0])
    prior = g.settings[PRIOR]
    return float((g.counts[node, c] + prior) / (total + prior * g.numbers[SEEN]))


@compiled
def share_of(g: Any, node: int) -> float:
    """How much of the aggregated answer at a node is its own; the rest is its child's."""
    if g.links[node, COLUMN] < 0:
        return 1.0
    return min(math.exp(HALF + g.facts[node, OWN] - g.facts[node, ALL]), 1.0)


@compiled
def charge(g: Any, said: float, target: float, unit: float) -> float:
    """The loss of an answer: logarithmic, or squared in units of twice the forest's usual squared error."""
    if g.numbers[SEEN] < 0:
        off = target - said
        return min(off * off / (2.0 * unit), WORST) if off != 0.0 else 0.0
    return -math.log(said)


@compiled
def teach(g: Any, leaf: int, target: float, weight: float, unit: float) -> float:
    """Learn a row in all nodes above a leaf, from below; what the tree had said (of the row's class)."""
    node, said, values, keep = leaf, 0.0, g.numbers[SEEN] < 0, g.settings[KEEP]
    label = 0 if values else int(target)
    while node >= 0:
        total = g.facts[node, MASS]
        mine = own(g, node, label, total)
        share = share_of(g, node)
        said = share * mine + (1.0 - share) * said
        loss = g.settings[STEP] * weight * charge(g, mine, target, unit)
        g.facts[node, OWN] = keep * g.facts[node, OWN] - loss
        g.facts[node, MASS] = keep * total + weight
        if values:
            g.counts[node, 0] += (target - mine) * weight / g.facts[node, MASS]
        else:
            for c in range(g.numbers[SEEN]):
                g.counts[node, c] *= keep
            g.counts[node, label] += weight
        _aggregate(g, node)
        node = g.links[node, PARENT]
    return said


@compiled
def _aggregate(g: Any, node: int) -> None:
    """The weight of all prunings of the tree below a node (Willems et al. 1995; Mourtada et al., eq. 10)."""
    if g.links[node, COLUMN] < 0:
        g.facts[node, ALL] = g.facts[node, OWN]
        return
    alone = g.facts[node, OWN]
    below = g.facts[g.links[node, LEFT], ALL] + g.facts[g.links[node, RIGHT], ALL]
    top = max(alone, below)
    g.facts[node, ALL] = HALF + top + math.log1p(math.exp(min(alone, below) - top))


@compiled
def ask(g: Any, tree: int, row: Any, part: float, out: Any) -> None:
    """Add ``part`` of a tree's answer to a row to ``out`` (k,)."""
    node, rest = g.trees[tree, ROOT], part
    while True:
        share = rest * share_of(g, node)
        total = g.facts[node, MASS]
        for c in range(out.shape[0]):
            out[c] += share * own(g, node, c, total)
        rest -= share
        if g.links[node, COLUMN] < 0 or rest <= 1e-9 * part:
            break
        node = child_of(g, node, row)
    if rest > 0.0:  # what was left out is the last node's
        for c in range(out.shape[0]):
            out[c] += rest * own(g, node, c, total)


@compiled
def explain(g: Any, tree: int, row: Any, part: float, out: Any) -> None:
    """Add ``part`` of what each column of a row does to a tree's answer to ``out`` (d + 1, k).

    Each cut on the way is credited with the change from the answer of the tree pruned at its node to that of
    the tree pruned at the child; the root's own answer is the constant.
    """
    node, rest, d = g.trees[tree, ROOT], part, row.shape[0]
    total = g.facts[node, MASS]
    for c in range(out.shape[1]):
        out[d, c] += part * own(g, node, c, total)
    while g.links[node, COLUMN] >= 0:
        rest -= rest * share_of(g, node)
        child, column = child_of(g, node, row), g.links[node, COLUMN]
        below = g.facts[child, MASS]
        for c in range(out.shape[1]):
            out[column, c] += rest * (own(g, child, c, below) - own(g, node, c, total))
        node, total = child, below
