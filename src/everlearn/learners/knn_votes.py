"""The compiled part of :mod:`everlearn.learners.knn`: which votes to follow, and whole batches.

A *knower* is ``(memory, lens, limits, counts, numbers, shares, prior, generator)``, all that is learned:

* ``numbers`` float64 (6,): the constants below; ``prior`` (room for k,): fading counts of the classes.
* ``shares`` float64: what each vote counts. A stage has two votes, all and the nearest few; in a
  regression four, these and both again of what the line leaves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, inlined, scale_learn
from everlearn.learners.knn_kernels import look, new_survey
from everlearn.learners.knn_memory import (
    HAVE,
    KEPT,
    LEARNED,
    LONG,
    METRICS,
    NARROW,
    NEXT,
    REFRESH,
    SEEN,
    SIZE,
    STAGES,
    WIDE,
    clean,
    filled,
    show_all,
    store,
)
from everlearn.learners.knn_metrics import (
    CLIP,
    SHARPNESS,
    SPREAD_Y,
    fit_classes,
    fit_columns,
    fit_line,
    heed,
    on_line,
)

ERROR, SMOOTH, PACE, SHARE = range(2, 6)
"""Of ``numbers``: regression's fading mean absolute error; then settings."""

KEEP = 0.998  # of a class's count, from row to row
LEAST_COUNT = 0.1
HEAVIEST = 10.0  # an example's weight as a judge of the votes
FLOOR = 1e-4  # the least probability that a vote is charged for


@compiled
def follow(shares: Any, share: float) -> None:
    """Make the shares add to 1, and give a little to all (fixed share, Herbster and Warmuth 1998)."""
    total = 0.0
    for e in range(shares.shape[0]):
        total += shares[e]
    for e in range(shares.shape[0]):
        shares[e] = (1.0 - share) * shares[e] / total + share / shares.shape[0]


@compiled
def _due(counts: Any, limits: Any) -> bool:
    """Whether the metrics are to be fitted now: after 2, 4, 8, … rows, later every so many."""
    if counts[LEARNED] < counts[NEXT]:
        return False
    counts[NEXT] = counts[LEARNED] + min(counts[LEARNED], limits[REFRESH])
    return True


@inlined
def _share_of_prior(smooth: float, n: int) -> float:
    return smooth / (smooth + n)


@compiled
def _prior(prior: Any, seen: int, label: int) -> float:
    total = 0.0
    for c in range(seen):
        total += prior[c] + LEAST_COUNT
    return float((prior[label] + LEAST_COUNT) / total)


@compiled
def answer_class(knower: Any, survey: Any, out: Any) -> None:
    """The mixture of all votes: probabilities of the classes seen, to ``out`` (k,), which holds zeros."""
    memory, _, limits, counts, numbers, shares, prior, _ = knower
    targets = memory[1]
    _, _, near, votes, found = survey
    rest = 0.0
    for s in range(found.shape[0]):
        for v in range(2):
            n = min(found[s], limits[NARROW]) if v else found[s]
            blur = _share_of_prior(numbers[SMOOTH], n)
            rest += shares[2 * s + v] * blur
            for a in range(n):
                out[targets[0, near[s, a]]] += shares[2 * s + v] * (1.0 - blur) * votes[s, v, a]
    total = 0.0
    for c in range(counts[SEEN]):
        total += prior[c] + LEAST_COUNT
    for c in range(counts[SEEN]):
        out[c] += rest * (prior[c] + LEAST_COUNT) / total
    total = 0.0
    for c in range(counts[SEEN]):
        total += out[c]
    for c in range(counts[SEEN]):
        out[c] /= total


@compiled
def _judge_class(knower: Any, survey: Any, label: int, weight: float) -> None:
    """Shift shares to the votes that gave the label much probability."""
    memory, _, limits, counts, numbers, shares, prior, _ = knower
    targets = memory[1]
    _, _, near, votes, found = survey
    base = _prior(prior, counts[SEEN], label)
    weight = min(weight, HEAVIEST)
    for s in range(found.shape[0]):
        for v in range(2):
            n = min(found[s], limits[NARROW]) if v else found[s]
            right = 0.0
            for a in range(n):
                if targets[0, near[s, a]] == label:
                    right += votes[s, v, a]
            blur = _share_of_prior(numbers[SMOOTH], n)
            merit = max((1.0 - blur) * right + blur * base, FLOOR)
            shares[2 * s + v] *= merit if weight == 1.0 else merit**weight
    follow(shares, numbers[SHARE])


@compiled
def _heed_class(knower: Any, survey: Any, window: int, label: int) -> None:
    """Let features weigh more by which hits are nearer than misses.

    Gradient of the logarithm of the vote for the label (Goldberger et al. 2004, equation 5, with a
    diagonal matrix), times the vote against it, by the logarithm of the weights.
    """
    memory, lens, limits, _, numbers, _, _, _ = knower
    point, dist, near, _, found = survey
    n = min(found[window], (limits[WIDE] + 1) // 2)
    pull, hit, total = np.zeros(n), 0.0, 0.0
    mean = 1e-6
    for a in range(n):
        mean += dist[0, near[window, a]] / n
    for a in range(n):
        gap = dist[0, near[window, a]] - dist[0, near[window, 0]]
        pull[a] = math.exp(-SHARPNESS * gap / mean)
        total += pull[a]
        if memory[1][0, near[window, a]] == label:
            hit += pull[a]
    if hit <= 0.0 or hit >= total:
        return
    for a in range(n):
        mine = memory[1][0, near[window, a]] == label
        pull[a] = pull[a] / total - (pull[a] / hit if mine else 0.0)
    heed(memory[3], point, lens, near[window], pull, numbers[PACE] * (1.0 - hit / total))


@compiled
def learn_class(knower: Any, survey: Any, row: Any, label: int, weight: float) -> None:
    """Learn a row whose survey has been made."""
    memory, lens, limits, counts, _, _, prior, generator = knower
    counts[SEEN] = max(counts[SEEN], label + 1)
    if counts[HAVE]:
        window = limits[STAGES] - (3 if limits[LONG] else 1)
        _judge_class(knower, survey, label, weight)
        _heed_class(knower, survey, window, label)
        if counts[KEPT]:
            few = min(survey[4][window], limits[NARROW])
            clean(memory, limits, counts, survey[1][0], survey[2][window], few, label)
    for c in range(counts[SEEN]):
        prior[c] = max(prior[c] * KEEP, 1e-3)
    prior[label] += 1.0
    scale_learn(lens[0][:3], row, float(limits[SIZE]), CLIP)
    at = store(memory, lens, limits, counts, generator, row, weight, survey[0])
    memory[1][0, at] = label
    if _due(counts, limits):
        fit_columns(lens[0], lens[2])
        if limits[METRICS] > 1:
            fit_classes(memory[0], memory[1][0], lens[0], counts[HAVE], counts[SEEN], lens[1])
        show_all(memory, lens, 0, filled(counts))


@compiled
def _estimate(knower: Any, survey: Any, line: float, s: int, v: int) -> float:
    """What stage ``s`` says: of all, of the narrow, of both again with what the line leaves."""
    memory, _, limits, _, _, _, _, _ = knower
    _, _, near, votes, found = survey
    n = min(found[s], limits[NARROW]) if v % 2 else found[s]
    total = line if v >= 2 else 0.0
    for a in range(n):
        total += votes[s, v % 2, a] * memory[1][v // 2, near[s, a]]
    return float(total)


@compiled
def answer_value(knower: Any, survey: Any, row: Any) -> float:
    """The mixture of all stages' estimates."""
    _, lens, _, _, numbers, shares, _, _ = knower
    line, total = on_line(row, lens[0], numbers), 0.0
    for s in range(survey[4].shape[0]):
        for v in range(4):
            total += shares[4 * s + v] * _estimate(knower, survey, line, s, v)
    return float(total)


@compiled
def _judge_value(knower: Any, survey: Any, row: Any, value: float, weight: float) -> float:
    """Shift shares to the estimates that came near; returns by how much the mixture missed."""
    _, lens, _, _, numbers, shares, _, _ = knower
    line = on_line(row, lens[0], numbers)
    miss, mixed = np.zeros(shares.shape[0]), 0.0
    for e in range(miss.shape[0]):
        miss[e] = _estimate(knower, survey, line, e // 4, e % 4) - value
        mixed += shares[e] * miss[e]
    numbers[ERROR] += (abs(mixed) - numbers[ERROR]) * 0.02
    unit = max(numbers[ERROR], 1e-9 * abs(value), 1e-300)
    for e in range(miss.shape[0]):
        loss = abs(miss[e]) / unit
        shares[e] *= math.exp(-0.5 * min(weight, HEAVIEST) * min(loss, 10.0))
    follow(shares, numbers[SHARE])
    return float(mixed)


@compiled
def _heed_value(knower: Any, survey: Any, window: int, value: float) -> None:
    """Let features weigh more by which near rows have near values.

    Gradient of the squared error of the window's estimate (Weinberger and Tesauro 2007, equation 7,
    with a diagonal matrix), by the logarithm of the weights.
    """
    memory, lens, _, _, numbers, _, _, _ = knower
    point, _, near, votes, found = survey
    if numbers[SPREAD_Y] <= 0.0:
        return
    said = 0.0
    for a in range(found[window]):
        said += votes[window, 0, a] * memory[1][0, near[window, a]]
    error = min(max((said - value) / numbers[SPREAD_Y], -2.0), 2.0)
    pull = np.zeros(found[window])
    for a in range(pull.shape[0]):
        off = (memory[1][0, near[window, a]] - said) / numbers[SPREAD_Y]
        pull[a] = error * votes[window, 0, a] * min(max(off, -2.0), 2.0)
    heed(memory[3], point, lens, near[window], pull, numbers[PACE])


@compiled
def learn_value(knower: Any, survey: Any, row: Any, value: float, weight: float) -> None:
    """Learn a row whose survey has been made."""
    memory, lens, limits, counts, numbers, _, _, generator = knower
    if counts[HAVE]:
        _judge_value(knower, survey, row, value, weight)
        _heed_value(knower, survey, limits[STAGES] - 1, value)
    scale_learn(lens[0][:3], row, float(limits[SIZE]), CLIP)
    at = store(memory, lens, limits, counts, generator, row, weight, survey[0])
    targets = memory[1]
    targets[0, at] = value
    targets[1, at] = value - on_line(row, lens[0], numbers)
    if _due(counts, limits):
        fit_columns(lens[0], lens[2])
        if limits[METRICS] > 1:
            fit_line(memory[0], targets[0, : counts[HAVE]], lens[0], numbers, lens[1])
        show_all(memory, lens, 0, filled(counts))
        for i in range(counts[HAVE]):
            targets[1, i] = targets[0, i] - on_line(memory[0][i], lens[0], numbers)


@compiled
def same_row(a: Any, b: Any) -> bool:
    """Whether two rows hold the same, missing values included."""
    apart = 0
    for j in range(a.shape[0]):
        if a[j] != b[j] and (a[j] == a[j] or b[j] == b[j]):
            apart += 1
    return apart == 0


@compiled
def answer_classes(knower: Any, asked: Any, answers: Any) -> None:
    """Answer rows (n, d) to ``answers`` (n, k), which holds zeros."""
    memory, lens, limits, counts = knower[:4]
    survey = new_survey(limits, asked.shape[1], memory[0].shape[0])
    if counts[HAVE]:
        for i in range(asked.shape[0]):
            look(asked[i], memory, lens, limits, counts, survey)
            answer_class(knower, survey, answers[i])


@compiled
def step_classes(knower: Any, asked: Any, rows: Any, labels: Any, weights: Any, answers: Any) -> None:
    """For each i: answer ``asked[i]`` if there is room for answers, then learn ``rows[i]``."""
    memory, lens, limits, counts = knower[:4]
    survey = new_survey(limits, rows.shape[1], memory[0].shape[0])
    for i in range(rows.shape[0]):
        looked = False
        if answers.shape[0] and counts[HAVE]:
            look(asked[i], memory, lens, limits, counts, survey)
            answer_class(knower, survey, answers[i])
            looked = same_row(asked[i], rows[i])
        if counts[HAVE] and not looked:
            look(rows[i], memory, lens, limits, counts, survey)
        learn_class(knower, survey, rows[i], labels[i], weights[i])


@compiled
def answer_values(knower: Any, asked: Any, answers: Any) -> None:
    """Answer rows (n, d) to ``answers`` (n,)."""
    memory, lens, limits, counts = knower[:4]
    survey = new_survey(limits, asked.shape[1], memory[0].shape[0])
    if counts[HAVE]:
        for i in range(asked.shape[0]):
            look(asked[i], memory, lens, limits, counts, survey)
            answers[i] = answer_value(knower, survey, asked[i])


@compiled
def step_values(knower: Any, asked: Any, rows: Any, values: Any, weights: Any, answers: Any) -> None:
    """For each i: answer ``asked[i]`` if there is room for answers, then learn ``rows[i]``."""
    memory, lens, limits, counts = knower[:4]
    survey = new_survey(limits, rows.shape[1], memory[0].shape[0])
    for i in range(rows.shape[0]):
        looked = False
        if answers.shape[0] and counts[HAVE]:
            look(asked[i], memory, lens, limits, counts, survey)
            answers[i] = answer_value(knower, survey, asked[i])
            looked = same_row(asked[i], rows[i])
        if counts[HAVE] and not looked:
            look(rows[i], memory, lens, limits, counts, survey)
        learn_value(knower, survey, rows[i], values[i], weights[i])
