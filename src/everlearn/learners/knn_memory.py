"""The two memories of :mod:`everlearn.learners.knn`: a window, and what is kept of the rows before it.

A *memory* is ``(rows, targets, weights, points)``, by columns, so that a distance loop runs along rows
that lie side by side. With d features, ``size`` rows of window, ``long`` of long memory and M metrics:

* ``rows`` float64 (size + long, d): as learned. The window is a ring in the first ``size``.
* ``targets`` int64 (1, size + long), or float64 (2, size + long): value, and what the line leaves of it.
* ``weights`` float64 (size + long,) of the examples.
* ``points`` float32 (M d, size + long): the rows as the metrics see them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, random
from everlearn.learners.knn_metrics import place

SIZE, LONG, WIDE, NARROW, LEAST, METRICS, STAGES, REFRESH = range(8)
"""Of ``limits`` int64, which are set when the learner is made."""

HEAD, HAVE, KEPT, LEARNED, NEXT, SEEN = range(6)
"""Of ``counts`` int64: the next place in the ring, rows in the window and in the long memory, rows
learned, after how many the metrics are fitted next, and classes seen."""


@compiled
def filled(counts: Any) -> int:
    """The first columns that hold rows (the long memory begins to fill when the window is full)."""
    return int(counts[HAVE] + counts[KEPT])


@compiled
def store(
    memory: Any, lens: Any, limits: Any, counts: Any, generator: Any, row: Any, weight: float, point: Any
) -> int:
    """Give a row a place in the window (returned); the row that leaves it goes to the long memory."""
    rows, _, weights, points = memory
    at: int = counts[HEAD]
    if counts[HAVE] < limits[SIZE]:
        counts[HAVE] += 1
    elif limits[LONG]:
        _keep(memory, lens, limits, counts, generator, at)
    rows[at] = row
    weights[at] = weight
    place(row, lens, point)
    _show(points, at, point)
    counts[HEAD] = (at + 1) % limits[SIZE]
    counts[LEARNED] += 1
    return at


@compiled
def show_all(memory: Any, lens: Any, start: int, stop: int) -> None:
    """Show columns ``start`` to ``stop - 1`` to the metrics anew."""
    rows, _, _, points = memory
    point = np.zeros(points.shape[0])
    for i in range(start, stop):
        place(rows[i], lens, point)
        _show(points, i, point)


@compiled
def _show(points: Any, at: int, point: Any) -> None:
    for j in range(point.shape[0]):
        points[j, at] = point[j]


@compiled
def _copy(memory: Any, a: int, b: int) -> None:
    """Put what is in column ``a`` into column ``b`` too."""
    rows, targets, weights, points = memory
    rows[b] = rows[a]
    weights[b] = weights[a]
    for t in range(targets.shape[0]):
        targets[t, b] = targets[t, a]
    for j in range(points.shape[0]):
        points[j, b] = points[j, a]


@compiled
def _keep(memory: Any, lens: Any, limits: Any, counts: Any, generator: Any, at: int) -> None:
    """Copy a column into the long memory, which is halved when it is full."""
    if counts[KEPT] == limits[LONG]:
        compress(memory, lens, limits, counts, generator)
    if counts[KEPT] == limits[LONG]:  # as many classes as places
        _copy(memory, at, limits[SIZE] + int(random(generator) * limits[LONG]))
        return
    _copy(memory, at, limits[SIZE] + counts[KEPT])
    counts[KEPT] += 1


@compiled
def clean(memory: Any, limits: Any, counts: Any, dist: Any, near: Any, found: int, label: int) -> None:
    """Take out of the long memory what a new row contradicts (Losing et al. 2016, section IV-B).

    That is each row of another class that is no farther from the new row than the farthest of its own
    class among its ``found`` nearest in the window, ``near``. ``dist`` are its distances.
    """
    targets = memory[1]
    reach = np.float32(-1.0)
    for a in range(found):
        if targets[0, near[a]] == label:
            reach = max(reach, dist[near[a]])
    for i in range(limits[SIZE] + counts[KEPT] - 1, limits[SIZE] - 1, -1):
        if dist[i] <= reach and targets[0, i] != label:
            counts[KEPT] -= 1
            _copy(memory, limits[SIZE] + counts[KEPT], i)


@compiled
def compress(memory: Any, lens: Any, limits: Any, counts: Any, generator: Any) -> None:
    """Halve the long memory class by class, to means of groups around k-means++ seeds.

    Seeds by Arthur and Vassilvitskii 2007, by the first metric; one step of Lloyd's for the means.
    """
    rows, targets, weights, points = memory
    kinds = lens[2]
    start, n = limits[SIZE], counts[KEPT]
    old_rows, old_weights = rows[start : start + n].copy(), weights[start : start + n].copy()
    old_targets = targets[0, start : start + n].copy()
    seen = np.ascontiguousarray(points[: kinds.shape[0], start : start + n].T)
    kept = start
    for c in range(counts[SEEN]):
        members = np.flatnonzero(old_targets == c)
        if members.shape[0] == 0:
            continue
        seeds, group = _seeds(seen, members, lens, generator)
        for g in range(seeds.shape[0]):
            mine = members[group == g]
            rows[kept] = old_rows[seeds[g]]
            weights[kept] = old_weights[mine].mean()
            targets[0, kept] = c
            _average(old_rows, mine, kinds, rows[kept])
            kept += 1
    counts[KEPT] = kept - start
    show_all(memory, lens, start, kept)


@compiled
def _seeds(seen: Any, members: Any, lens: Any, generator: Any) -> Any:
    """Half as many seeds as members, or one for all that are alike; and who is nearest to which."""
    n = members.shape[0]
    seeds, group = np.zeros((n + 1) // 2, np.int64), np.zeros(n, np.int64)
    far = np.full(n, np.inf)
    pick = int(random(generator) * n)
    for g in range(seeds.shape[0]):
        seeds[g] = members[pick]
        for i in range(n):
            gap = _gap(seen[members[i]], seen[seeds[g]], lens[2])
            if gap < far[i]:
                far[i] = gap
                group[i] = g
        far[pick] = 0.0
        group[pick] = g
        if far.max() <= 0.0:
            return seeds[: g + 1], group
        pick = _draw(far, random(generator))
    return seeds, group


@compiled
def _draw(odds: Any, chance: float) -> int:
    """A place drawn in proportion to ``odds`` (n,), of which one is above 0."""
    goal = chance * odds.sum()
    for i in range(odds.shape[0]):
        if odds[i] > goal:
            return i
        goal -= odds[i]
    return int(np.argmax(odds))


@compiled
def _gap(a: Any, b: Any, kinds: Any) -> float:
    total = 0.0
    for j in range(a.shape[0]):
        gap = a[j] - b[j]
        if not kinds[j]:
            total += gap * gap
        elif a[j] != b[j]:
            total += 1.0
    return total


@compiled
def _average(rows: Any, mine: Any, kinds: Any, out: Any) -> None:
    """The mean of some rows, of those that have a value; a category stays as it is in ``out``."""
    for j in range(out.shape[0]):
        if kinds[j]:
            continue
        total, count = 0.0, 0
        for i in mine:
            if rows[i, j] == rows[i, j]:
                total += rows[i, j]
                count += 1
        if count:
            out[j] = total / count
