"""The compiled part of :mod:`everlearn.learners.knn`: a row's neighbours in memories of several lengths.

A *stage* is a memory to take neighbours from: the newest 16, 32, … rows, the window, then (with a long
memory) the window and the long memory, and the long memory alone; S stages for each of M metrics. A
*survey* of a row is ``(point, dist, near, votes, found)``, which :func:`look` fills:

* ``point`` (M d,), ``dist`` float32 (M, columns): the row as the metrics see it, and its distances.
* ``near`` int64 (M S, wide), ``found`` int64 (M S,): the nearest columns of each stage.
* ``votes`` float64 (M S, 2, wide): theirs, of all (wide) and of the first few (narrow); each adds to 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, inlined
from everlearn.learners.knn_memory import (
    HAVE,
    HEAD,
    KEPT,
    LEAST,
    LONG,
    METRICS,
    NARROW,
    SIZE,
    STAGES,
    WIDE,
    filled,
)
from everlearn.learners.knn_metrics import SHARPNESS, measure, place


@compiled
def new_survey(limits: Any, d: int, columns: int) -> Any:
    """Room for a survey."""
    stages, wide = limits[METRICS] * limits[STAGES], limits[WIDE]
    point, dist = np.zeros(limits[METRICS] * d), np.empty((limits[METRICS], columns), np.float32)
    near, votes = np.zeros((stages, wide), np.int64), np.zeros((stages, 2, wide))
    return point, dist, near, votes, np.zeros(stages, np.int64)


@compiled
def look(row: Any, memory: Any, lens: Any, limits: Any, counts: Any, survey: Any) -> None:
    """Fill the survey of a row."""
    point, dist = survey[0], survey[1]
    place(row, lens, point)
    for m in range(limits[METRICS]):
        measure(memory[3], point, lens, m * row.shape[0], filled(counts), dist[m])
        _stages(dist[m], memory[2], limits, counts, m * limits[STAGES], survey)


@compiled
def _stages(dist: Any, weights: Any, limits: Any, counts: Any, first: int, survey: Any) -> None:
    """Every stage by one metric, whose stages begin at ``first``: one pass from new rows to old."""
    size, wide, kept = limits[SIZE], limits[WIDE], counts[KEPT]
    gaps, near = np.full(wide, np.inf, np.float32), np.zeros(wide, np.int64)
    last = first + limits[STAGES] - (2 if limits[LONG] else 0)
    bound, done = limits[LEAST], 0
    for s in range(first, last):
        upto = counts[HAVE] if s == last - 1 else min(bound, counts[HAVE])
        if upto > done:
            _newest(dist, done, upto, counts[HEAD], size, gaps, near)
            _vote(gaps, near, weights, upto, limits, survey, s)
        else:
            _same_as(survey, s - 1, s)
        bound, done = bound * 4, upto
    if limits[LONG] and kept == 0:
        _same_as(survey, last - 1, last)
        survey[4][last + 1] = 0
    elif limits[LONG]:
        _scan(dist, size + kept - 1, size - 1, gaps, near)
        _vote(gaps, near, weights, counts[HAVE] + kept, limits, survey, last)
        gaps[:] = np.inf
        _scan(dist, size + kept - 1, size - 1, gaps, near)
        _vote(gaps, near, weights, kept, limits, survey, last + 1)


@compiled
def _newest(dist: Any, before: int, after: int, head: int, size: int, gaps: Any, near: Any) -> None:
    """Take the rows of ages ``before`` to ``after - 1`` into the list; the newest has age 0."""
    start, stop = head - 1 - before, head - 1 - after
    if start < 0:
        _scan(dist, start + size, stop + size, gaps, near)
    elif stop >= -1:
        _scan(dist, start, stop, gaps, near)
    else:
        _scan(dist, start, -1, gaps, near)
        _scan(dist, size - 1, stop + size, gaps, near)


@compiled
def _scan(dist: Any, start: int, stop: int, gaps: Any, near: Any) -> None:
    """Take columns ``start``, ``start - 1``, … above ``stop`` into the sorted list of the nearest."""
    end = gaps.shape[0] - 1
    worst = gaps[end]
    for i in range(start, stop, -1):
        gap = dist[i]
        if gap < worst:
            a = end
            while a > 0 and gaps[a - 1] > gap:
                gaps[a], near[a] = gaps[a - 1], near[a - 1]
                a -= 1
            gaps[a], near[a] = gap, i
            worst = gaps[end]


@compiled
def _vote(gaps: Any, near: Any, weights: Any, rows: int, limits: Any, survey: Any, s: int) -> None:
    """Write the list, as far as a stage of ``rows`` fills it, and its votes."""
    _, _, nearest, votes, found = survey
    found[s] = min(rows, limits[WIDE])
    for a in range(found[s]):
        nearest[s, a] = near[a]
    _weigh(gaps, near, weights, found[s], votes[s, 0])
    _weigh(gaps, near, weights, min(found[s], limits[NARROW]), votes[s, 1])


@inlined
def _weigh(gaps: Any, near: Any, weights: Any, n: int, out: Any) -> None:
    """Votes of the nearest ``n``: they fall with squared distance, in units of its mean."""
    mean = 0.0
    for a in range(n):
        mean += gaps[a]
    mean = mean / n + 1e-6
    total = 0.0
    for a in range(n):
        out[a] = weights[near[a]] * math.exp(-SHARPNESS * (gaps[a] - gaps[0]) / mean)
        total += out[a]
    for a in range(n):
        out[a] /= total


@compiled
def _same_as(survey: Any, a: int, b: int) -> None:
    _, _, near, votes, found = survey
    found[b] = found[a]
    near[b] = near[a]
    votes[b] = votes[a]
