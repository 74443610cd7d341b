"""The compiled part of :mod:`everlearn.learners.additive`: cells, scores and steps.

Sizes: d columns, P pairs of columns, K places for outputs (classes, or 1), two models: the first of columns
alone, the second of columns and pairs. All arrays of a learner:

* ``scale`` float64 (3, d + 1): running count, mean and variance of each column, then of the target.
* ``tables`` float64 (2, 2, cells, K): for each model the weights of the columns' cells (column j begins at
  ``starts[j]``; the last cell is the constant), then the weights' fading sums of squared gradients.
* ``crosses`` float64 (2, P side side, K): the same for the second model's cells of pairs.
* ``worth`` float64 (2, 2): the mixture of the two models; then a regression's mean loss in ``worth[1, 0]``.
* ``counts`` int64 (2,): classes seen, rows learned.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, softmax

FLOOR = 1e-4  # the least probability that the mixture charges a model for
MOST = 64  # the greatest weight that a row can have

# Places in ``numbers``, float64.
BINS, SIDE, STEP, PAIR_STEP, FADE, MEMORY, CLIP, DAMPING, SHARE, RATE = range(10)
SEEN, LEARNED = range(2)


@compiled
def bin_of(z: float, edges: Any) -> int:
    """Which of ``len(edges) + 1`` bins a standardised value lies in, by halving."""
    low, high = 0, edges.shape[0]
    while low < high:
        middle = (low + high) // 2
        if z < edges[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def find_cells(
    row: Any, kinds: Any, starts: Any, pairs: Any, scale: Any, edges: Any, coarse: Any, numbers: Any, at: Any
) -> None:
    """The cells of one row, to ``at`` int64 (2 d + 1 + P,): columns, the constant, pairs, and coarse bins.

    ``kinds`` int64 (d,) are 0 for a number, or how many cells a category's codes are hashed into. A missing
    value has a cell of its own.
    """
    d, side = row.shape[0], int(numbers[SIDE])
    rough = at[d + 1 + pairs.shape[0] :]
    for j in range(d):
        x = row[j]
        if kinds[j]:
            missing = not x >= 0.0
            code = 0 if missing else int(min(x, 1e15))
            at[j] = starts[j] + (kinds[j] if missing else code % kinds[j])
            rough[j] = side - 1 if missing else code % (side - 1)
        elif x != x:
            at[j] = starts[j] + edges.shape[0] + 1
            rough[j] = side - 1
        else:
            z = (x - scale[1, j]) / math.sqrt(scale[2, j]) if scale[2, j] > 0.0 else 0.0
            at[j] = starts[j] + bin_of(z, edges)
            rough[j] = bin_of(z, coarse)
    at[d] = starts[d]
    for p in range(pairs.shape[0]):
        at[d + 1 + p] = (p * side + rough[pairs[p, 0]]) * side + rough[pairs[p, 1]]


@compiled
def score(at: Any, d: int, pairs: int, tables: Any, crosses: Any, outputs: int, out: Any) -> None:
    """The scores of both models from a row's cells, to ``out`` (2, outputs)."""
    for c in range(outputs):
        out[0, c] = 0.0
        out[1, c] = 0.0
    for j in range(d + 1):
        first, second = tables[0, 0, at[j]], tables[1, 0, at[j]]
        for c in range(outputs):
            out[0, c] += first[c]
            out[1, c] += second[c]
    for p in range(pairs):
        cross = crosses[0, at[d + 1 + p]]
        for c in range(outputs):
            out[1, c] += cross[c]


@compiled
def _descend(
    at: Any, d: int, pairs: int, tables: Any, crosses: Any, gradient: Any, outputs: int, weight: float, n: Any
) -> None:
    """One AdaGrad step of both models along the gradient of their scores, ``gradient`` (2, outputs)."""
    for m in range(2):
        for j in range(d + 1):
            w, s = tables[m, 0, at[j]], tables[m, 1, at[j]]
            for c in range(outputs):
                g = gradient[m, c]
                s[c] = s[c] * n[FADE] + weight * g * g
                w[c] -= weight * n[STEP] * g / (math.sqrt(s[c]) + n[DAMPING])
    for p in range(pairs):
        w, s = crosses[0, at[d + 1 + p]], crosses[1, at[d + 1 + p]]
        for c in range(outputs):
            g = gradient[1, c]
            s[c] = s[c] * n[FADE] + weight * g * g
            w[c] -= weight * n[PAIR_STEP] * g / (math.sqrt(s[c]) + n[DAMPING])


@compiled
def _learn_class(
    at: Any, d: int, pairs: int, tables: Any, crosses: Any, worth: Any, seen: int, label: int, weight: float,
    numbers: Any, out: Any,
) -> None:  # fmt: skip
    repeats = max(1, math.ceil(weight))
    for r in range(repeats):
        score(at, d, pairs, tables, crosses, seen, out)
        for m in range(2):
            softmax(out[m], seen)
            if r == 0:
                worth[0, m] *= max(out[m, label], FLOOR) ** (numbers[RATE] * weight)
            out[m, label] -= 1.0
        _descend(at, d, pairs, tables, crosses, out, seen, weight / repeats, numbers)
    _share(worth, numbers[SHARE])


@compiled
def _share(worth: Any, share: float) -> None:
    """Fixed share (Herbster and Warmuth 1998) between the two models."""
    total = worth[0, 0] + worth[0, 1]
    for m in range(2):
        worth[0, m] = (1.0 - share) * worth[0, m] / total + 0.5 * share


@compiled
def _learn_value(
    at: Any, d: int, pairs: int, tables: Any, crosses: Any, worth: Any, truth: float, weight: float,
    numbers: Any, out: Any,
) -> None:  # fmt: skip
    """Squared loss; implicit steps (Toulis and Airoldi 2017) along errors clipped at three mean errors."""
    score(at, d, pairs, tables, crosses, 1, out)
    off = abs(worth[0, 0] * out[0, 0] + worth[0, 1] * out[1, 0] - truth)
    unit = worth[1, 0] + 1e-9
    worth[1, 0] += (min(off, 10.0 * unit + 1e-3) - worth[1, 0]) * 0.01
    for m in range(2):
        worth[0, m] *= math.exp(-numbers[RATE] * min(weight, 4.0) * min(abs(out[m, 0] - truth) / unit, 10.0))
    _share(worth, numbers[SHARE])
    repeats = max(1, math.ceil(weight))
    for _ in range(repeats):
        for m in range(2):
            reach = 0.0
            for j in range(d + 1):
                reach += numbers[STEP] / (math.sqrt(tables[m, 1, at[j], 0]) + numbers[DAMPING])
            for p in range(pairs if m else 0):
                reach += numbers[PAIR_STEP] / (math.sqrt(crosses[1, at[d + 1 + p], 0]) + numbers[DAMPING])
            error = out[m, 0] - truth
            out[m, 0] = min(max(error, -5.0), 5.0) / (1.0 + reach)
        _descend(at, d, pairs, tables, crosses, out, 1, weight / repeats, numbers)
        score(at, d, pairs, tables, crosses, 1, out)


@compiled
def scale_one(scale: Any, j: int, x: float, memory: float, clip: float) -> None:
    """Take one value into the running mean and variance of place ``j``; far ones count as ``clip`` away."""
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
def answer_row(
    row: Any, kinds: Any, starts: Any, pairs: Any, edges: Any, coarse: Any, numbers: Any, scale: Any,
    tables: Any, crosses: Any, worth: Any, counts: Any, at: Any, out: Any, answers: Any, each: Any, i: int,
) -> None:  # fmt: skip
    """Answer a row as i-th of ``answers`` (n, k) or of ``each`` (n, 2, k), whichever has rows."""
    d, seen = row.shape[0], counts[SEEN]
    values = seen < 0
    if counts[LEARNED] == 0:
        return
    find_cells(row, kinds, starts, pairs, scale, edges, coarse, numbers, at)
    score(at, d, pairs.shape[0], tables, crosses, 1 if values else seen, out)
    if values:
        deviation, mean = math.sqrt(scale[2, d]), scale[1, d]
        for m in range(2):
            out[m, 0] = min(max(out[m, 0], -20.0), 20.0) * deviation + mean
            if each.shape[0]:
                each[i, m, 0] = out[m, 0]
        if answers.shape[0]:
            answers[i, 0] = worth[0, 0] * out[0, 0] + worth[0, 1] * out[1, 0]
        return
    for m in range(2):
        softmax(out[m], seen)
        for c in range(seen):
            if each.shape[0]:
                each[i, m, c] = out[m, c]
            if answers.shape[0]:
                answers[i, c] += worth[0, m] * out[m, c]


@compiled
def run(
    asked: Any, rows: Any, targets: Any, weights: Any, kinds: Any, starts: Any, pairs: Any, edges: Any,
    coarse: Any, numbers: Any, scale: Any, tables: Any, crosses: Any, worth: Any, counts: Any, answers: Any,
    each: Any,
) -> None:  # fmt: skip
    """For each i: answer ``asked[i]``, if there is room for answers, then learn ``rows[i]``, if there is one.

    ``targets`` float64 (n,) are class numbers or values; a regression has ``counts[SEEN]`` -1.
    """
    d = max(asked.shape[1], rows.shape[1])
    at = np.zeros(2 * d + 1 + pairs.shape[0], np.int64)
    out = np.zeros((2, tables.shape[3]))
    for i in range(max(asked.shape[0], rows.shape[0])):
        if answers.shape[0] or each.shape[0]:
            answer_row(
                asked[i], kinds, starts, pairs, edges, coarse, numbers, scale, tables, crosses, worth, counts,
                at, out, answers, each, i,
            )  # fmt: skip
        if i < rows.shape[0]:
            _learn(
                rows[i], targets[i], weights[i], kinds, starts, pairs, edges, coarse, numbers, scale, tables,
                crosses, worth, counts, at, out,
            )  # fmt: skip


@compiled
def _learn(
    row: Any, target: float, weight: float, kinds: Any, starts: Any, pairs: Any, edges: Any, coarse: Any,
    numbers: Any, scale: Any, tables: Any, crosses: Any, worth: Any, counts: Any, at: Any, out: Any,
) -> None:  # fmt: skip
    d, many, weight = row.shape[0], pairs.shape[0], min(weight, float(MOST))
    find_cells(row, kinds, starts, pairs, scale, edges, coarse, numbers, at)
    if counts[SEEN] >= 0:
        counts[SEEN] = max(counts[SEEN], int(target) + 1)
        _learn_class(
            at, d, many, tables, crosses, worth, counts[SEEN], int(target), weight, numbers, out
        )  # fmt: skip
    else:
        scale_one(scale, d, target, numbers[MEMORY], numbers[CLIP])
        if scale[2, d] > 0.0:
            truth = (target - scale[1, d]) / math.sqrt(scale[2, d])
            truth = min(max(truth, -2.0 * numbers[CLIP]), 2.0 * numbers[CLIP])
            _learn_value(at, d, many, tables, crosses, worth, truth, weight, numbers, out)
    for j in range(d):
        if row[j] == row[j] and not kinds[j]:
            scale_one(scale, j, row[j], numbers[MEMORY], numbers[CLIP])
    counts[LEARNED] += 1


@compiled
def add_up(
    rows: Any, kinds: Any, starts: Any, pairs: Any, edges: Any, coarse: Any, numbers: Any, scale: Any,
    tables: Any, crosses: Any, worth: Any, added: Any,
) -> None:  # fmt: skip
    """What each column adds to the mixed score, to ``added`` (n, d + 1, k); a pair adds half to each."""
    d, k = rows.shape[1], added.shape[2]
    at = np.zeros(2 * d + 1 + pairs.shape[0], np.int64)
    for i in range(rows.shape[0]):
        find_cells(rows[i], kinds, starts, pairs, scale, edges, coarse, numbers, at)
        for c in range(k):
            for j in range(d + 1):
                for m in range(2):
                    added[i, j, c] += worth[0, m] * tables[m, 0, at[j], c]
            for p in range(pairs.shape[0]):
                half = 0.5 * worth[0, 1] * crosses[0, at[d + 1 + p], c]
                added[i, pairs[p, 0], c] += half
                added[i, pairs[p, 1], c] += half
