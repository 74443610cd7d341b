"""How the trees of :mod:`everlearn.learners.patches` grow: learning a row, splitting a leaf, planting.

A leaf splits when the log likelihood which that saves is more than ``caution`` times what it costs to say:
where to split, and the frequencies of another leaf (the minimum description length principle, Rissanen 1978),
in place of Hoeffding's bound, which asks for far more rows. A node that has been better than what is below
it for long is made a leaf again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.hoeffding_kernels import (
    best_split,
    edges_of_bins,
    edges_of_rows,
    mass_of,
    observe,
    widen,
)
from everlearn.learners.kernels import compiled, random
from everlearn.learners.patches_grove import (
    AGE,
    BINS,
    CENTRE,
    COLUMN,
    DEEPEST,
    DEPTH,
    EQUALS,
    GRACE,
    HIST,
    KIND,
    LEAF_COLUMNS,
    LEFT,
    LEVELS,
    MAX_NODES,
    MISSING_LEFT,
    NEXT_LOOK,
    NOTHING,
    RIGHT,
    ROOT,
    SEEN,
    SIZE,
    SPREAD,
    THRESHOLD,
    TRUST_BAYES,
    TRUST_MEAN,
    TRUST_OWN,
    VALUES,
    WEIGHT,
    has_room,
    nominal,
    see,
    take_hist,
    take_node,
)
from everlearn.learners.patches_models import (
    learn_line_classes,
    learn_line_values,
    learn_mean,
    look,
    loss_of,
    moved,
)

MEMORY, CAUTION, BAG, WARNING, DRIFT, STEPS = range(6)
"""Of ``settings`` float64 (5 + T,), named as the learner's parameters; the last are the steps of the lines of
each member."""
LOSS = 4
"""Of ``records``, beside what :mod:`everlearn.learners.patches_kernels` has there: the tree's fading loss."""

HORIZON = 50.0  # rows that a tree's mean loss looks back
NEW_TRUST = -1.0  # in a new node's naive Bayes, and in a node that has just got children
INHERITED = 20.0  # the most weight of its part of its parent's counts that a new leaf begins with
FIRST_INVERSE = 10.0  # of a least-squares line's matrix: 1 over the ridge penalty


@compiled
def learn_tree(
    grove: Any,
    records: Any,
    tree: int,
    row: Any,
    z: Any,
    y: float,
    weight: float,
    times: float,
    numbers: Any,
    usual: float,
    settings: Any,
    generator: Any,
    survey: Any,
) -> float:
    """Learn a row so many times; how wrong the tree was about it: 1 - p, or the absolute error.

    The row's weight is what its loss counts; it learns ``weight`` ``times`` over.
    """
    values = grove.limits[VALUES]
    k = 1 if values else int(grove.pool[SEEN])
    length = look(grove, tree, row, z, k, numbers, survey)
    said = survey.mixed[0]
    wrong = abs(said[0] - y) if values else 1.0 - said[int(y)]
    loss = loss_of(said, y, usual, values)
    rows = min(grove.trees[tree, AGE] + 1.0, HORIZON)
    records[tree, LOSS] += (loss - records[tree, LOSS]) * min(weight / rows, 1.0)
    if times <= 0.0:
        return float(wrong)
    grove.trees[tree, AGE] += 1
    learn_nodes(grove, tree, length, y, weight, times, usual, settings, survey)
    learn_leaf(grove, tree, survey.path[length - 1], y, weight * times, settings, generator, survey)
    return float(wrong)


@compiled
def learn_nodes(
    grove: Any,
    tree: int,
    length: int,
    y: float,
    weight: float,
    times: float,
    usual: float,
    settings: Any,
    survey: Any,
) -> None:
    """The models of the nodes on a row's way, and the trusts between them, learn it."""
    nodes, values, mass = grove.nodes, grove.limits[VALUES], weight * times
    k = 1 if values else int(grove.pool[SEEN])
    for i in range(length):
        node = survey.path[i]
        by_line = loss_of(survey.lines[i], y, usual, values)
        by_mean = loss_of(survey.means[i], y, usual, values)
        own = loss_of(survey.owns[i], y, usual, values)
        nodes[node, TRUST_MEAN] = moved(nodes[node, TRUST_MEAN], by_line - by_mean, weight)
        if i < length - 1:
            below = loss_of(survey.mixed[i + 1], y, usual, values)
            nodes[node, TRUST_OWN] = moved(nodes[node, TRUST_OWN], below - own, weight)
        elif not values:
            by_bayes = loss_of(survey.bayes, y, usual, values)
            nodes[node, TRUST_BAYES] = moved(nodes[node, TRUST_BAYES], own - by_bayes, weight)
        line = grove.lines[node]
        if values:
            learn_line_values(line, survey.inputs, y, mass)
        else:
            step = settings[STEPS + tree // 2]
            learn_line_classes(line, survey.inputs, k, survey.lines[i], int(y), mass, step)
        learn_mean(grove.counts[node], y, mass, k, settings[MEMORY], values)
        nodes[node, WEIGHT] += mass


@compiled
def learn_leaf(
    grove: Any, tree: int, leaf: int, y: float, weight: float, settings: Any, generator: Any, survey: Any
) -> None:
    """A leaf's histogram learns a row, and from time to time the leaf is looked at whether to split it."""
    nodes, hist, target = grove.nodes, grove.links[leaf, HIST], y
    if grove.limits[VALUES]:
        target = min(max((y - nodes[leaf, CENTRE]) / nodes[leaf, SPREAD], -1e3), 1e3)
    widen(grove, tree, hist, survey.seen)
    observe(grove, hist, survey.bins, target, weight)
    if nodes[leaf, WEIGHT] >= nodes[leaf, NEXT_LOOK]:
        nodes[leaf, NEXT_LOOK] = nodes[leaf, WEIGHT] + grove.limits[GRACE]
        try_split(grove, tree, leaf, settings[CAUTION], generator)


# -- splits --------------------------------------------------------------------------------------------


@compiled
def try_split(grove: Any, tree: int, leaf: int, caution: float, generator: Any) -> None:
    """Split a leaf if that saves more than it costs to say."""
    links, limits = grove.links, grove.limits
    values, hist, width = limits[VALUES], links[leaf, HIST], grove.hists.shape[1]
    full = grove.trees[tree, SIZE] + 2 > limits[MAX_NODES] or not has_room(grove)
    if full or links[leaf, DEPTH] >= DEEPEST:
        return
    k = 3 if values else int(grove.pool[SEEN])
    h = grove.hists[hist, 0]
    total, present = 0.0, 0
    for b in range(BINS + 1):
        total += mass_of(h[b], k, values)
    for c in range(k):
        for b in range(BINS + 1):
            if h[b, c] > 0.0:
                present += 1
                break
    if not values and present < 2:
        return
    sides = np.zeros((3, grove.hists.shape[3]))
    best, where, at = 0.0, -1, -1
    tried, left_over = limits[LEAF_COLUMNS], width
    for s in range(width):
        if random(generator) * left_over < tried:
            tried -= 1
            gain, b = best_split(grove, tree, hist, s, k, sides)
            if gain > best:
                best, where, at = gain, b, s
        left_over -= 1
    where_costs = math.log(limits[LEAF_COLUMNS] * (BINS - 1.0))
    what_costs = 0.5 * (2 if values else present - 1) * math.log(total + 1.0)
    if where >= 0 and best > caution * (where_costs + what_costs):
        split(grove, tree, leaf, at, where, k, generator)


@compiled
def split(grove: Any, tree: int, leaf: int, s: int, where: int, k: int, generator: Any) -> None:
    """Make two leaves under a leaf, which take over its line and their part of its counts."""
    links, nodes = grove.links, grove.nodes
    values, hist, equals = grove.limits[VALUES], links[leaf, HIST], nominal(grove, tree, s)
    other = take_hist(grove)
    left = take_node(grove, links[leaf, DEPTH] + 1)
    right = take_node(grove, links[leaf, DEPTH] + 1)
    old, cells = grove.edges[hist].copy(), grove.hists[hist].copy()
    grove.trees[tree, SIZE] += 2
    grove.hists[hist] = 0.0
    inside, weights = np.zeros(BINS + 1, np.bool_), np.zeros(2)
    for side in range(2):
        node = left if side == 0 else right
        choose_bins(where, equals, side, inside)
        for b in range(BINS + 1):
            if inside[b]:
                weights[side] += mass_of(cells[s, b], k, values)
        links[node, HIST] = hist if side == 0 else other
        shift = random(generator) - 0.5
        edges_of_child(grove, tree, s, cells, old, inside, k, shift, grove.edges[links[node, HIST]])
        begin_child(grove, leaf, node, cells[s], inside, k)
    if where == BINS:
        nodes[leaf, THRESHOLD], links[leaf, KIND] = NOTHING, MISSING_LEFT
    else:
        links[leaf, KIND] = EQUALS * equals + (MISSING_LEFT if weights[0] >= weights[1] else 0)
        nodes[leaf, THRESHOLD] = BINS * old[s, 0] + where if equals else old[s, where + 1]
        if equals:  # alone in its bin, a category's next digit can be told
            grove.edges[hist, s, 0] = min(old[s, 0] + 1.0, LEVELS - 1.0)
    nodes[leaf, TRUST_OWN] = NEW_TRUST
    links[leaf, COLUMN], links[leaf, LEFT], links[leaf, RIGHT] = s, left, right
    links[leaf, HIST] = -1


@compiled
def choose_bins(where: int, equals: int, side: int, inside: Any) -> None:
    """Which bins a split at ``where`` gives its left (0) or right (1) side."""
    for b in range(BINS + 1):
        alone = equals or where == BINS
        inside[b] = (b == where if alone else b <= where) == (side == 0)
    if where < BINS:
        inside[BINS] = False  # missing values are not part of it


@compiled
def edges_of_child(
    grove: Any, tree: int, at: int, cells: Any, old: Any, inside: Any, k: int, shift: float, edges: Any
) -> None:
    """Edges (S, B + 1) for a leaf that gets the bins ``inside`` of the number ``at`` of its parent's."""
    mass = np.zeros(BINS)
    for s in range(cells.shape[0]):
        if nominal(grove, tree, s):
            edges[s] = old[s]
            continue
        for b in range(BINS):
            taken = s != at or inside[b]
            mass[b] = mass_of(cells[s, b], k, grove.limits[VALUES]) if taken else 0.0
        edges_of_bins(mass, old[s], shift, edges[s])


@compiled
def begin_child(grove: Any, leaf: int, node: int, cells: Any, inside: Any, k: int) -> None:
    """What a new leaf knows at first, from its parent and the bins that it gets of it."""
    nodes, counts = grove.nodes, grove.counts[node]
    sums = np.zeros(cells.shape[1])
    for b in range(BINS + 1):
        if inside[b]:
            for c in range(k):
                sums[c] += cells[b, c]
    if grove.limits[VALUES]:
        n = max(sums[0], 1e-9)
        mean = sums[1] / n
        counts[0] = min(n, INHERITED)
        counts[1] = nodes[leaf, CENTRE] + nodes[leaf, SPREAD] * mean
        counts[2] = nodes[leaf, SPREAD] ** 2 * max(sums[2] / n - mean * mean, 0.0)
        nodes[node, CENTRE] = counts[1]
        nodes[node, SPREAD] = max(math.sqrt(counts[2]), 1e-6 * nodes[leaf, SPREAD])
    else:
        total = 1e-9
        for c in range(k):
            total += sums[c]
        for c in range(k):
            counts[c] = sums[c] * min(1.0, INHERITED / total)
    grove.lines[node] = grove.lines[leaf]
    nodes[node, TRUST_MEAN] = nodes[leaf, TRUST_MEAN]
    nodes[node, TRUST_BAYES] = NEW_TRUST
    nodes[node, NEXT_LOOK] = grove.limits[GRACE]


# -- new trees -----------------------------------------------------------------------------------------


@compiled
def plant(grove: Any, tree: int, ring: Any, have: int, scale: Any, generator: Any) -> None:
    """A new tree: a root, with edges at the quantiles of the first ``have`` rows of the ring."""
    trees, nodes, limits = grove.trees, grove.nodes, grove.limits
    hist, root = take_hist(grove), take_node(grove, 0)
    choose_space(grove, tree, scale, generator)
    trees[tree, ROOT], trees[tree, SIZE], trees[tree, AGE] = root, 1, 0
    grove.links[root, HIST] = hist
    nodes[root, NEXT_LOOK], nodes[root, TRUST_BAYES] = limits[GRACE], NEW_TRUST
    views = np.zeros((have, grove.hists.shape[1]))
    for i in range(have):
        see(grove, tree, ring[i], views[i])
    edges_of_rows(grove, tree, views, random(generator) - 0.5, grove.edges[hist])
    if limits[VALUES]:
        line, targets = grove.lines[root], ring[:have, ring.shape[1] - 2]
        for i in range(line.shape[1]):
            line[1 + i, i] = FIRST_INVERSE
        nodes[root, CENTRE] = targets.mean()
        nodes[root, SPREAD] = targets.std() if targets.std() > 0.0 else 1.0


@compiled
def choose_space(grove: Any, tree: int, scale: Any, generator: Any) -> None:
    """Draw the columns that a tree sees, in order, and its sums of two of them, in deviations."""
    space, mixes, kinds = grove.spaces[tree], grove.mixes[tree], grove.kinds
    d, wanted, sums = kinds.shape[0], grove.lines.shape[2] - 1, mixes.shape[0] // 2
    for e in range(sums):
        one, two = int(random(generator) * d), int(random(generator) * (d - 1))
        two += int(two >= one)
        angle = 2.0 * math.pi * random(generator)
        space[wanted + e], space[wanted + sums + e] = one, two
        mixes[e], mixes[sums + e] = 0.0, 0.0
        if scale[2, one] > 0.0 and scale[2, two] > 0.0 and not kinds[one] and not kinds[two]:
            mixes[e] = math.cos(angle) / math.sqrt(scale[2, one])
            mixes[sums + e] = math.sin(angle) / math.sqrt(scale[2, two])
    at = 0
    for j in range(d):
        if random(generator) * (d - j) < wanted - at:
            space[at] = j
            at += 1
