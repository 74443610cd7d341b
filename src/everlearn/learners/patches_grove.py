"""The trees of :mod:`everlearn.learners.patches` in memory: nodes, histograms, and the way of a row.

A *grove* is all trees together. They share N nodes and H histograms, which are taken from pools and given
back; T members have two trees each, tree 2m and its stand-in 2m + 1. A tree *views* a row of d columns as S
numbers: the columns it was given, and behind them E sums of two columns. K is the room for classes, or
3 for a regression; B is ``BINS``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from everlearn.learners.kernels import compiled, inlined

BINS = 16  # of a histogram, and the digits of a category's code are to this base
LEVELS = 13  # such digits that are looked at
DEEPEST = 24  # below the root
LEAF, FREE = -1, -2  # in place of a column


class Grove(NamedTuple):
    """The arrays of all trees."""

    links: Any
    """int64 (N, 6): column split on (``LEAF``, or ``FREE`` in a free node, whose left is the next free one),
    left child, right child, histogram (-1 for none), kind, depth."""
    nodes: Any
    """float64 (N, 8): threshold, weight learned, three trusts, when to look for a split, and (regression)
    by which centre and spread targets are standardised in the histogram."""
    counts: Any
    """float64 (N, K): fading weight of each class; or weight, mean and variance of the target."""
    lines: Any
    """float64 (N, R, S - E + 1): linear models, the last column for the constant. Classification: sums of
    squared gradients, then the weights of each class. Regression: the weights, then the inverse matrix."""
    hists: Any
    """float32 (H, S, B + 1, K): weight of each class in each bin, the last bin for missing values; or weight,
    sum and sum of squares of the standardised target."""
    edges: Any
    """float64 (H, S, B + 1): least value, upper edges of the first B - 1 bins, greatest value. Of a category
    the first is its level: which digit of the code, to base B, is the bin. In a free histogram the very
    first is the next free one."""
    trees: Any
    """int64 (2T, 3): root (-1 for none), nodes, rows learned."""
    spaces: Any
    """int64 (2T, S + E): the columns that a tree sees; of its sums all first, then all second columns."""
    mixes: Any
    """float64 (2T, 2E): by what the sums take their first and second columns."""
    kinds: Any
    """int64 (d,): 1 for a categorical column."""
    pool: Any
    """int64 (7,): heads of the lists of free nodes and histograms (-1 for none), how many were ever used;
    classes seen, rows learned, rows put into the ring."""
    limits: Any
    """int64 (5,): what is set for good."""


COLUMN, LEFT, RIGHT, HIST, KIND, DEPTH = range(6)
"""Of ``links``."""
EQUALS, MISSING_LEFT = 1, 2
"""Of a kind, added: a category's bin goes left, not what is up to a threshold; missing values go left."""
NOTHING = -1e300  # as a threshold: no value goes left
THRESHOLD, WEIGHT, TRUST_MEAN, TRUST_BAYES, TRUST_OWN, NEXT_LOOK, CENTRE, SPREAD = range(8)
"""Of ``nodes``. Trusts are log odds: of the mean against the line, of naive Bayes against both, of the node
against its children."""
ROOT, SIZE, AGE = range(3)
"""Of ``trees``."""
NODE_FREE, NODE_USED, HIST_FREE, HIST_USED, SEEN, LEARNED, RING = range(7)
"""Of ``pool``."""
VALUES, TREES, MAX_NODES, LEAF_COLUMNS, GRACE = range(5)
"""Of ``limits``: 1 for a regression, members, nodes a tree may have, numbers tried at a leaf, weight from one
look for a split to the next."""


# -- the way of a row ----------------------------------------------------------------------------------


@inlined
def category_bin(x: Any, level: Any) -> Any:
    """The bin of a category's code: its digit to base 16 at a level."""
    code = int(min(abs(x), 1e15))
    return (code >> (4 * int(level))) & 15


@inlined
def nominal(grove: Any, tree: Any, s: Any) -> Any:
    """1 if what a tree sees at ``s`` is a category."""
    return grove.kinds[grove.spaces[tree, s]] if s < grove.lines.shape[2] - 1 else 0


@compiled
def see(grove: Any, tree: int, row: Any, view: Any) -> None:
    """A row as a tree sees it, into ``view`` (S,): its columns, then sums of two of them."""
    space, mixes = grove.spaces[tree], grove.mixes[tree]
    sums = mixes.shape[0] // 2
    columns = space.shape[0] - 2 * sums
    for s in range(columns):
        view[s] = row[space[s]]
    for e in range(sums):
        one, two = space[columns + e], space[columns + sums + e]
        view[columns + e] = mixes[e] * row[one] + mixes[sums + e] * row[two]


@compiled
def goes_left(x: float, threshold: float, kind: int) -> bool:
    """Which way a split sends a value."""
    if x != x:
        return kind >= MISSING_LEFT
    if kind & EQUALS:
        level = int(threshold) >> 4
        return bool(category_bin(x, level) == int(threshold) & 15)
    return x <= threshold


@compiled
def descend(grove: Any, root: int, view: Any, path: Any) -> int:
    """The way of a row from the root to its leaf, into ``path``; how many nodes that is."""
    links, nodes = grove.links, grove.nodes
    node, length = root, 1
    path[0] = node
    while links[node, COLUMN] >= 0:
        left = goes_left(view[links[node, COLUMN]], nodes[node, THRESHOLD], links[node, KIND])
        node = links[node, LEFT] if left else links[node, RIGHT]
        path[length] = node
        length += 1
    return length


# -- pools ---------------------------------------------------------------------------------------------


@compiled
def crowded(grove: Any, most_nodes: int, most_hists: int) -> bool:
    """Whether the pools, which may come to hold so many, should grow before another row is learned."""
    pool, trees = grove.pool, grove.limits[TREES]
    nodes, hists = grove.links.shape[0], grove.hists.shape[0]
    few = nodes - pool[NODE_USED] < 4 * trees and nodes < most_nodes
    return bool(few or (hists - pool[HIST_USED] < 3 * trees and hists < most_hists))


@compiled
def has_room(grove: Any) -> bool:
    """Whether two nodes and a histogram can be taken."""
    pool, links = grove.pool, grove.links
    nodes = links.shape[0] - pool[NODE_USED]
    free = pool[NODE_FREE]
    if free >= 0:
        nodes += 1 if links[free, LEFT] < 0 else 2
    return bool(nodes >= 2 and (pool[HIST_FREE] >= 0 or pool[HIST_USED] < grove.hists.shape[0]))


@compiled
def take_node(grove: Any, depth: int) -> int:
    """A node, as an empty leaf without a histogram. There must be one."""
    links, pool = grove.links, grove.pool
    node = pool[NODE_FREE]
    if node >= 0:
        pool[NODE_FREE] = links[node, LEFT]
    else:
        node = pool[NODE_USED]
        pool[NODE_USED] += 1
    clear_node(grove, node)
    links[node, COLUMN], links[node, HIST], links[node, DEPTH] = LEAF, -1, depth
    grove.nodes[node, SPREAD] = 1.0
    return int(node)


@compiled
def clear_node(grove: Any, node: int) -> None:
    """Forget what a node learned."""
    grove.links[node, :] = 0
    grove.nodes[node, :] = 0.0
    grove.counts[node, :] = 0.0
    grove.lines[node, :, :] = 0.0


@compiled
def give_node(grove: Any, node: int) -> None:
    """Give a node back."""
    clear_node(grove, node)
    grove.links[node, COLUMN], grove.links[node, LEFT] = FREE, grove.pool[NODE_FREE]
    grove.pool[NODE_FREE] = node


@compiled
def take_hist(grove: Any) -> int:
    """An empty histogram. There must be one."""
    pool = grove.pool
    hist = pool[HIST_FREE]
    if hist >= 0:
        pool[HIST_FREE] = int(grove.edges[hist, 0, 0])
    else:
        hist = pool[HIST_USED]
        pool[HIST_USED] += 1
    grove.hists[hist] = 0.0
    grove.edges[hist] = 0.0
    return int(hist)


@compiled
def give_hist(grove: Any, hist: int) -> None:
    """Give a histogram back, if it is one."""
    if hist >= 0:
        grove.hists[hist] = 0.0
        grove.edges[hist] = 0.0
        grove.edges[hist, 0, 0] = grove.pool[HIST_FREE]
        grove.pool[HIST_FREE] = hist


@compiled
def give_tree(grove: Any, tree: int) -> None:
    """Give all of a tree back, if it is one."""
    trees, links = grove.trees, grove.links
    if trees[tree, ROOT] < 0:
        return
    stack = np.empty(DEEPEST + 2, np.int64)
    stack[0], waiting = trees[tree, ROOT], 1
    while waiting:
        waiting -= 1
        node = stack[waiting]
        if links[node, COLUMN] >= 0:
            stack[waiting], stack[waiting + 1] = links[node, LEFT], links[node, RIGHT]
            waiting += 2
        give_hist(grove, links[node, HIST])
        give_node(grove, node)
    trees[tree, ROOT], trees[tree, SIZE], trees[tree, AGE] = -1, 0, 0
