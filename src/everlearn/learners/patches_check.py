"""Whether a stored state of :mod:`everlearn.learners.patches` would keep its compiled loops in their arrays.

Each check raises ValueError. Every node and histogram that was ever used must be in exactly one place: under
the root of one tree, or in the list of free ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.patches_grove import (
    BINS,
    COLUMN,
    DEEPEST,
    DEPTH,
    FREE,
    HIST,
    HIST_FREE,
    HIST_USED,
    KIND,
    LEAF,
    LEARNED,
    LEFT,
    LEVELS,
    MAX_NODES,
    NODE_FREE,
    NODE_USED,
    RIGHT,
    RING,
    ROOT,
    SEEN,
    SIZE,
    THRESHOLD,
    VALUES,
    Grove,
)


def check(
    grove: Grove, ring: NDArray[Any], numbers: tuple[NDArray[Any], ...], most: NDArray[Any], classes: int
) -> None:
    """Raise ValueError unless the arrays fit each other; ``numbers`` are those that must be finite alone."""
    _pools(grove, most)
    _counts(grove, ring, classes)
    nodes, hists = _free_ones(grove)
    for tree in range(len(grove.trees)):
        found = _tree(grove, tree)
        nodes += found
        hists += [int(grove.links[node, HIST]) for node in found if grove.links[node, COLUMN] == LEAF]
    _each_once("nodes", nodes, int(grove.pool[NODE_USED]))
    _each_once("histograms", hists, int(grove.pool[HIST_USED]))
    for name in ("nodes", "counts", "lines", "hists", "edges", "mixes"):
        _need(bool(np.isfinite(getattr(grove, name)).all()), f"{name} holds values that are not finite")
    _need(all(bool(np.isfinite(some).all()) for some in numbers), "it holds values that are not finite")
    _need(grove.limits[VALUES] or not (grove.hists < 0.0).any(), "a histogram holds less than nothing")


def _need(sound: bool, message: str) -> None:
    if not sound:
        raise ValueError(message)


def _pools(grove: Grove, most: NDArray[Any]) -> None:
    """Whether what is of a node, or of a histogram, is there for as many."""
    nodes = {len(some) for some in (grove.links, grove.nodes, grove.counts, grove.lines)}
    hists = {len(some) for some in (grove.hists, grove.edges)}
    _need(len(nodes) == len(hists) == 1, "its pools are not of one length")
    for have, bound, used, free in (
        (nodes.pop(), most[0], NODE_USED, NODE_FREE),
        (hists.pop(), most[1], HIST_USED, HIST_FREE),
    ):
        _need(len(grove.trees) <= have <= bound, f"a pool has {have} places")
        _need(0 <= grove.pool[used] <= have, f"{grove.pool[used]} of {have} places are used")
        _need(-1 <= grove.pool[free] < grove.pool[used], "a list of free places begins outside")


def _counts(grove: Grove, ring: NDArray[Any], classes: int) -> None:
    """Whether the rows and classes that it says to have learned can be."""
    seen, learned, put = (int(grove.pool[at]) for at in (SEEN, LEARNED, RING))
    have = min(put, len(ring))
    _need(learned >= 0 and put == learned, f"{put} of {learned} rows were remembered")
    _need(bool((grove.trees[::2, ROOT] >= 0).all()) == (learned > 0), "a member has no tree")
    _need(bool((grove.trees >= -1).all()), "a tree has learned less than nothing")
    _need(bool(np.isfinite(ring[:have, -2:]).all() and (ring[:have, -1] > 0.0).all()), "a remembered row")
    if not grove.limits[VALUES]:
        _need((1 if learned else 0) <= seen <= classes, f"{seen} of {classes} classes are seen")
        labels = ring[:have, -2]
        numbers = (labels >= 0.0) & (labels < seen) & (labels == np.floor(labels))
        _need(bool(numbers.all()), "it remembers a row of a class that it has not seen")
    width = len(grove.kinds)
    columns = not grove.spaces.size or 0 <= grove.spaces.min() <= grove.spaces.max() < max(width, 1)
    _need(bool(columns), f"a tree sees a column that is not one of {width}")


def _free_ones(grove: Grove) -> tuple[list[int], list[int]]:
    """The free nodes and histograms, by their lists."""
    nodes: list[int] = []
    at = int(grove.pool[NODE_FREE])
    while at != -1:
        _need(0 <= at < grove.pool[NODE_USED] and grove.links[at, COLUMN] == FREE, f"node {at} is not free")
        _need(len(nodes) < grove.pool[NODE_USED], "the list of free nodes has no end")
        nodes.append(at)
        at = int(grove.links[at, LEFT])
    hists: list[int] = []
    at = int(grove.pool[HIST_FREE])
    while at != -1:
        _need(0 <= at < grove.pool[HIST_USED], f"histogram {at} is not free")
        _need(len(hists) < grove.pool[HIST_USED], "the list of free histograms has no end")
        hists.append(at)
        at = int(grove.edges[at, 0, 0])
    return nodes, hists


def _tree(grove: Grove, tree: int) -> list[int]:
    """The nodes of a tree, if they are one."""
    root, size = int(grove.trees[tree, ROOT]), int(grove.trees[tree, SIZE])
    found: list[int] = []
    waiting = [(root, 0)] if root >= 0 else []
    while waiting:
        node, depth = waiting.pop()
        _need(0 <= node < grove.pool[NODE_USED], f"node {node} is not there")
        _need(len(found) < size, f"tree {tree} has more than {size} nodes")
        link = grove.links[node]
        _need(link[DEPTH] == depth <= DEEPEST, f"node {node} is {link[DEPTH]} deep, not {depth}")
        found.append(node)
        if link[COLUMN] == LEAF:
            continue
        _need(0 <= link[COLUMN] < grove.hists.shape[1], f"node {node} splits on {link[COLUMN]}")
        _need(link[HIST] == -1 and 0 <= link[KIND] <= 3, f"node {node} is no inner node")
        _need(not link[KIND] & 1 or 0.0 <= grove.nodes[node, THRESHOLD] < LEVELS * BINS, "a threshold")
        waiting += [(int(link[LEFT]), depth + 1), (int(link[RIGHT]), depth + 1)]
    _need(len(found) == size <= grove.limits[MAX_NODES], f"tree {tree} has {len(found)} nodes, not {size}")
    return found


def _each_once(what: str, found: list[int], used: int) -> None:
    _need(sorted(found) == list(range(used)), f"its {what} are not each in one place")
