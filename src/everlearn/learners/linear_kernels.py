"""The compiled part of :mod:`everlearn.learners.linear`.

* Scaling: running mean and variance, clipped (:func:`everlearn.learners.kernels.scale_row`). A missing
  value is the running mean; a category is one of a growing table of slots.
* Steps: AdaGrad (Duchi, Hazan and Singer 2011, equation 1, diagonal) with sums that fade, as in RMSProp
  (Tieleman and Hinton 2012): ``G <- fade G + g^2``, ``W <- W - step g / (sqrt(G) + DAMPING)``.
* Regression takes implicit steps (Toulis and Airoldi 2017): squared loss divides the step by
  ``1 + step sum(z^2 / (sqrt(G) + DAMPING))``, the others stop where the error is 0. Any step is stable.
* Passive-aggressive: PA-I and PA-II of Crammer et al. (2006, sections 3 and 7) against the best wrong class.
* ALMA: Gentile (2001, figure 1) with p = 2, each class against the rest, rows of unit length.
* The last two have no probabilities of their own: each model learns one scale of its scores, by gradient on
  the log loss of their softmax, from scores made before the row was learned.
* Mixture: ``w <- w likelihood^RATE``, then fixed share ``w <- (1 - SHARE) w + SHARE / n`` (Herbster and
  Warmuth 1998).
* A row of weight w is learned ``ceil(w)`` times, at most ``MOST`` times, with a part of the weight each time:
  steps stay as small as those of rows of weight 1, and after so many the row has little left to teach.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, scale_learn, scale_row, softmax

FLOOR = 1e-4  # the least probability that the mixture charges a model for
MOST = 64  # the greatest weight that a row can have
ALPHA = 0.9  # of ALMA: how much of the greatest margin it seeks

# Places in ``numbers``, float64: these, then each model's step, then each model's fade.
CLIP, MEMORY, QUANTILE, KIND, DAMPING, SHARE, RATE, STEPS = range(8)
# Places in ``counts``, int64 (3,): classes seen, rows learned, slots in use.
SEEN, LEARNED, SLOTS = range(3)
# What ``numbers[KIND]`` says: the update of a classification, or the loss of a regression.
ADAGRAD, AGGRESSIVE, AGGRESSIVE_2, ALMA = range(4)
SQUARED, ABSOLUTE, QUANTILES = range(3)

# ``columns`` int64 (d,) are the numeric columns, then the categorical ones. ``scale`` (3, m + 1) is that of
# the m numeric columns, then the target's. ``weights`` (2, m + 1, models, room) are the weights of the
# numeric columns and of the constant 1, then their sums of squares; ``slot_weights`` (slots, 2, models, room)
# those of the categories. ALMA counts the corrections of each (model, class) in the sums of the constant.
# ``worth`` (3, models) are the mixture, the scale of each model's scores, and that scale's sum of squares;
# a regression has its mixture's mean loss in ``worth[1, 0]``.


@compiled
def slot_of(code: float, slots: Any) -> int:
    """The slot of a category code in its column's table; -1 for a missing or unknown one."""
    if not code >= 0.0:
        return -1
    return int(slots[int(min(code, slots.shape[0] - 1.0))])


@compiled
def place(rows: Any, columns: Any, slots: Any, counts: Any) -> None:
    """Give slots to new categories in order of appearance."""
    m = columns.shape[0] - slots.shape[0]
    for i in range(rows.shape[0]):
        for q in range(slots.shape[0]):
            code = rows[i, columns[m + q]]
            if code >= 0.0:
                at = int(min(code, slots.shape[1] - 1.0))
                if slots[q, at] < 0:
                    slots[q, at] = counts[SLOTS]
                    counts[SLOTS] += 1


@compiled
def _bring(row: Any, columns: Any, slots: Any, z: Any, at: Any) -> None:
    """Bring one row's numbers into ``z`` (m + 1,), as they are and ending in 1, and its slots into ``at``."""
    m = z.shape[0] - 1
    for j in range(m):
        z[j] = row[columns[j]]
    z[m] = 1.0
    for q in range(at.shape[0]):
        at[q] = slot_of(row[columns[m + q]], slots[q])


@compiled
def _score(z: Any, at: Any, weights: Any, slot_weights: Any, scores: Any) -> None:
    """The scores of each model (models, room)."""
    n = scores.size
    out = scores.reshape(n)
    table = weights.reshape((2, z.shape[0], n))[0]
    for t in range(n):
        out[t] = 0.0
    for j in range(z.shape[0]):
        zj, row = z[j], table[j]
        if zj != 0.0:
            for t in range(n):
                out[t] += zj * row[t]
    for q in range(at.shape[0]):
        if at[q] >= 0:
            row = slot_weights[at[q], 0].reshape(n)
            for t in range(n):
                out[t] += row[t]


@compiled
def _tell_classes(scores: Any, worth: Any, seen: int, answers: Any, each: Any, i: int) -> None:
    """Turn scores (models, room) into probabilities, and put them where they are wanted."""
    for e in range(scores.shape[0]):
        for c in range(seen):
            scores[e, c] *= worth[1, e]
        softmax(scores[e], seen)
        if each.shape[0]:
            for c in range(seen):
                each[i, e, c] = scores[e, c]
        if answers.shape[0]:
            for c in range(seen):
                answers[i, c] += worth[0, e] * scores[e, c]


@compiled
def answer_classes(
    rows: Any,
    columns: Any,
    slots: Any,
    scale: Any,
    weights: Any,
    slot_weights: Any,
    worth: Any,
    counts: Any,
    numbers: Any,
    answers: Any,
    each: Any,
) -> None:
    """Fill ``answers`` (n, k) with the mixture's probabilities, or ``each`` (n, models, k)."""
    seen = counts[SEEN]
    if seen == 0:
        return
    z, at = np.empty(weights.shape[1]), np.empty(slots.shape[0], dtype=np.int64)
    m = z.shape[0] - 1
    scores = np.empty((weights.shape[2], weights.shape[3]))
    for i in range(rows.shape[0]):
        _bring(rows[i], columns, slots, z, at)
        scale_row(scale, z[:m], numbers[CLIP], z[:m])
        _score(z, at, weights, slot_weights, scores)
        _tell_classes(scores, worth, seen, answers, each, i)


@compiled
def step_classes(
    asked: Any,
    rows: Any,
    targets: Any,
    example_weights: Any,
    columns: Any,
    slots: Any,
    scale: Any,
    weights: Any,
    slot_weights: Any,
    worth: Any,
    counts: Any,
    numbers: Any,
    answers: Any,
    each: Any,
) -> None:
    """Answer ``asked[i]``, then learn ``rows[i]``."""
    models, room = weights.shape[2], weights.shape[3]
    z, at = np.empty(weights.shape[1]), np.empty(slots.shape[0], dtype=np.int64)
    m = z.shape[0] - 1
    scores, errors = np.empty((models, room)), np.zeros((models, room))
    merit = np.empty(models)
    paces = _paces(numbers, models, room)
    kind, clip = int(numbers[KIND]), numbers[CLIP]
    for i in range(rows.shape[0]):
        if (answers.shape[0] or each.shape[0]) and counts[SEEN] > 0:
            _bring(asked[i], columns, slots, z, at)
            scale_row(scale, z[:m], clip, z[:m])
            _score(z, at, weights, slot_weights, scores)
            _tell_classes(scores, worth, counts[SEEN], answers, each, i)
        label, weight = targets[i], min(example_weights[i], MOST)
        counts[SEEN] = max(counts[SEEN], label + 1)
        counts[LEARNED] += 1
        seen = counts[SEEN]
        _bring(rows[i], columns, slots, z, at)
        scale_learn(scale, z[:m], numbers[MEMORY], clip)
        scale_row(scale, z[:m], clip, z[:m])
        times = math.ceil(weight)
        for time in range(times):
            _score(z, at, weights, slot_weights, scores)
            for e in range(models):
                for c in range(seen):
                    errors[e, c] = worth[1, e] * scores[e, c]
                softmax(errors[e], seen)
                merit[e] = max(errors[e, label], FLOOR)
                errors[e, label] -= 1.0
            if time == 0:
                for e in range(models):
                    merit[e] = merit[e] ** (numbers[RATE] * weight)
                _mix(worth[0], merit, numbers[SHARE])
            if kind == ADAGRAD:
                _descend(z, at, errors, weights, slot_weights, paces, numbers[DAMPING], weight / times)
                continue
            for e in range(models):
                step = numbers[STEPS + e] * weight / times
                if time == 0:
                    _learn_scale(worth, e, scores[e], errors[e], seen)
                if seen > 1 and kind == ALMA:
                    _alma(e, z, at, scores[e], seen, label, step, weights, slot_weights)
                elif seen > 1:
                    _aggressive(e, z, at, scores[e], seen, label, step, kind, weights, slot_weights)


@compiled
def _paces(numbers: Any, models: int, room: int) -> Any:
    """The steps and fades of the models, as (2, models * room)."""
    paces = np.empty((2, models * room))
    for e in range(models):
        for c in range(room):
            paces[0, e * room + c] = numbers[STEPS + e]
            paces[1, e * room + c] = numbers[STEPS + models + e]
    return paces


@compiled
def _mix(mixture: Any, merit: Any, share: float) -> None:
    total = 0.0
    for e in range(mixture.shape[0]):
        mixture[e] *= merit[e]
        total += mixture[e]
    for e in range(mixture.shape[0]):
        mixture[e] = (1.0 - share) * mixture[e] / total + share / mixture.shape[0]


@compiled
def _descend(
    z: Any, at: Any, errors: Any, weights: Any, slot_weights: Any, paces: Any, damping: float, part: float
) -> None:
    """One AdaGrad step of each model; ``errors`` (models, room) is the loss's derivative by the scores."""
    n = errors.size
    flat = errors.reshape(n)
    both = weights.reshape((2, z.shape[0], n))
    for j in range(z.shape[0]):
        _descend_row(z[j], flat, both[0, j], both[1, j], paces, damping, part)
    for q in range(at.shape[0]):
        if at[q] >= 0:
            one = slot_weights[at[q]].reshape((2, n))
            _descend_row(1.0, flat, one[0], one[1], paces, damping, part)


@compiled
def _descend_row(
    zj: float, errors: Any, row: Any, sums: Any, paces: Any, damping: float, part: float
) -> None:
    step, fade = paces[0], paces[1]
    for t in range(errors.shape[0]):
        gradient = zj * errors[t]
        total = fade[t] * sums[t] + part * gradient * gradient
        sums[t] = total
        row[t] -= part * step[t] * gradient / (math.sqrt(total) + damping)


@compiled
def _learn_scale(worth: Any, e: int, scores: Any, errors: Any, seen: int) -> None:
    """Learn the scale of a model's scores, by AdaGrad on its logarithm; ``errors`` is p - y."""
    gradient = 0.0
    for c in range(seen):
        gradient += errors[c] * worth[1, e] * scores[c]
    worth[2, e] = 0.999 * worth[2, e] + gradient * gradient
    step = -0.1 * gradient / (math.sqrt(worth[2, e]) + 1e-6)
    worth[1, e] = min(max(worth[1, e] * math.exp(step), 1e-3), 1e3)


@compiled
def _add(e: int, c: int, z: Any, at: Any, amount: float, weights: Any, slot_weights: Any) -> None:
    for j in range(z.shape[0]):
        weights[0, j, e, c] += amount * z[j]
    for q in range(at.shape[0]):
        if at[q] >= 0:
            slot_weights[at[q], 0, e, c] += amount


@compiled
def _length(z: Any, at: Any) -> float:
    """The squared length of a row, its categories' ones included."""
    total = 0.0
    for j in range(z.shape[0]):
        total += z[j] * z[j]
    for q in range(at.shape[0]):
        total += 1.0 if at[q] >= 0 else 0.0
    return total


@compiled
def _aggressive(
    e: int,
    z: Any,
    at: Any,
    scores: Any,
    seen: int,
    label: int,
    step: float,
    kind: int,
    weights: Any,
    slot_weights: Any,
) -> None:
    """Move the label's weights up and its best rival's down until the label leads by 1, or by ``step``."""
    rival = 1 if label == 0 else 0
    for c in range(seen):
        if c != label and scores[c] > scores[rival]:
            rival = c
    lost = 1.0 - (scores[label] - scores[rival])
    if lost > 0.0:
        length = 2.0 * _length(z, at)
        amount = min(step, lost / length) if kind == AGGRESSIVE else lost / (length + 0.5 / step)
        _add(e, label, z, at, amount, weights, slot_weights)
        _add(e, rival, z, at, -amount, weights, slot_weights)


@compiled
def _alma(
    e: int,
    z: Any,
    at: Any,
    scores: Any,
    seen: int,
    label: int,
    rate: float,
    weights: Any,
    slot_weights: Any,
) -> None:
    """One step of each class against the rest (``B = 1 / ALPHA``)."""
    length = math.sqrt(_length(z, at))
    corrections = weights[1, z.shape[0] - 1, e]
    for c in range(seen):
        sign = 1.0 if c == label else -1.0
        k = math.sqrt(corrections[c] + 1.0)
        if sign * scores[c] / length > (1.0 - ALPHA) / (ALPHA * k):
            continue
        corrections[c] += 1.0
        _add(e, c, z, at, sign * rate / (k * length), weights, slot_weights)
        norm = 0.0
        for j in range(z.shape[0]):
            norm += weights[0, j, e, c] ** 2
        for s in range(slot_weights.shape[0]):
            norm += slot_weights[s, 0, e, c] ** 2
        if norm > 1.0:
            shrink = 1.0 / math.sqrt(norm)
            for j in range(z.shape[0]):
                weights[0, j, e, c] *= shrink
            for s in range(slot_weights.shape[0]):
                slot_weights[s, 0, e, c] *= shrink


@compiled
def _tell_values(scores: Any, scale: Any, worth: Any, answers: Any, each: Any, i: int) -> None:
    target = scale.shape[1] - 1
    mean, deviation = scale[1, target], math.sqrt(scale[2, target])
    mixed = 0.0
    for e in range(scores.shape[0]):
        mixed += worth[0, e] * scores[e, 0]
        if each.shape[0]:
            each[i, e] = scores[e, 0] * deviation + mean
    if answers.shape[0]:
        answers[i] = mixed * deviation + mean


@compiled
def answer_values(
    rows: Any,
    columns: Any,
    slots: Any,
    scale: Any,
    weights: Any,
    slot_weights: Any,
    worth: Any,
    counts: Any,
    numbers: Any,
    answers: Any,
    each: Any,
) -> None:
    """Fill ``answers`` (n,) with the mixture's estimates, or ``each`` (n, models)."""
    if counts[LEARNED] == 0:
        return
    z, at = np.empty(weights.shape[1]), np.empty(slots.shape[0], dtype=np.int64)
    m = z.shape[0] - 1
    scores = np.empty((weights.shape[2], 1))
    for i in range(rows.shape[0]):
        _bring(rows[i], columns, slots, z, at)
        scale_row(scale, z[:m], numbers[CLIP], z[:m])
        _score(z, at, weights, slot_weights, scores)
        _tell_values(scores, scale, worth, answers, each, i)


@compiled
def step_values(
    asked: Any,
    rows: Any,
    targets: Any,
    example_weights: Any,
    columns: Any,
    slots: Any,
    scale: Any,
    weights: Any,
    slot_weights: Any,
    worth: Any,
    counts: Any,
    numbers: Any,
    answers: Any,
    each: Any,
) -> None:
    """Answer ``asked[i]``, then learn ``rows[i]``."""
    models = weights.shape[2]
    z, at = np.empty(weights.shape[1]), np.empty(slots.shape[0], dtype=np.int64)
    m = z.shape[0] - 1
    value, scores, merit = np.empty(1), np.empty((models, 1)), np.empty(models)
    clip = numbers[CLIP]
    for i in range(rows.shape[0]):
        if (answers.shape[0] or each.shape[0]) and counts[LEARNED] > 0:
            _bring(asked[i], columns, slots, z, at)
            scale_row(scale, z[:m], clip, z[:m])
            _score(z, at, weights, slot_weights, scores)
            _tell_values(scores, scale, worth, answers, each, i)
        counts[LEARNED] += 1
        weight = min(example_weights[i], MOST)
        _bring(rows[i], columns, slots, z, at)
        scale_learn(scale, z[:m], numbers[MEMORY], clip)
        scale_row(scale, z[:m], clip, z[:m])
        value[0] = targets[i]
        scale_learn(scale[:, m:], value, numbers[MEMORY], clip)
        scale_row(scale[:, m:], value, clip, value)
        times = math.ceil(weight)
        for time in range(times):
            _score(z, at, weights, slot_weights, scores)
            mixed = 0.0
            for e in range(models):
                scores[e, 0] = min(max(scores[e, 0] - value[0], -clip), clip)
                mixed += worth[0, e] * scores[e, 0]
            if time == 0:
                worth[1, 0] += (_loss(mixed, numbers) - worth[1, 0]) * 0.01
                for e in range(models):
                    lost = min(_loss(scores[e, 0], numbers) / (worth[1, 0] + 1e-12), 20.0)
                    merit[e] = math.exp(-numbers[RATE] * weight * lost)
                _mix(worth[0], merit, numbers[SHARE])
            for e in range(models):
                _implicit(e, z, at, scores[e, 0], weights, slot_weights, numbers, weight / times)


@compiled
def _loss(error: float, numbers: Any) -> float:
    """The loss of an error of estimate minus target."""
    if numbers[KIND] == SQUARED:
        return error * error
    if numbers[KIND] == ABSOLUTE:
        return abs(error)
    quantile: float = numbers[QUANTILE]
    return error * (1.0 - quantile) if error > 0.0 else -error * quantile


@compiled
def _slope(error: float, numbers: Any) -> float:
    """The loss's derivative by the estimate."""
    if numbers[KIND] == SQUARED:
        return error
    if error == 0.0:
        return 0.0
    if numbers[KIND] == ABSOLUTE:
        return 1.0 if error > 0.0 else -1.0
    quantile: float = numbers[QUANTILE]
    return 1.0 - quantile if error > 0.0 else -quantile


@compiled
def _implicit(
    e: int, z: Any, at: Any, error: float, weights: Any, slot_weights: Any, numbers: Any, part: float
) -> None:
    """One implicit AdaGrad step of one model."""
    step, fade = part * numbers[STEPS + e], numbers[STEPS + weights.shape[2] + e]
    slope, damping, reach = _slope(error, numbers), numbers[DAMPING], 0.0
    for j in range(z.shape[0]):
        gradient = z[j] * slope
        total = fade * weights[1, j, e, 0] + part * gradient * gradient
        weights[1, j, e, 0] = total
        reach += z[j] * z[j] / (math.sqrt(total) + damping)
    for q in range(at.shape[0]):
        if at[q] >= 0:
            total = fade * slot_weights[at[q], 1, e, 0] + part * slope * slope
            slot_weights[at[q], 1, e, 0] = total
            reach += 1.0 / (math.sqrt(total) + damping)
    if numbers[KIND] == SQUARED:
        move = step * slope / (1.0 + step * reach)
    elif abs(step * slope * reach) > abs(error):
        move = error / reach
    else:
        move = step * slope
    for j in range(z.shape[0]):
        weights[0, j, e, 0] -= move * z[j] / (math.sqrt(weights[1, j, e, 0]) + damping)
    for q in range(at.shape[0]):
        if at[q] >= 0:
            slot_weights[at[q], 0, e, 0] -= move / (math.sqrt(slot_weights[at[q], 1, e, 0]) + damping)


@compiled
def add_up(
    rows: Any,
    columns: Any,
    slots: Any,
    scale: Any,
    weights: Any,
    slot_weights: Any,
    worth: Any,
    gains: Any,
    numbers: Any,
    added: Any,
) -> None:
    """What each column and the constant add to the mixture's mean score: ``added`` (n, d + 1, k)."""
    z, at = np.empty(weights.shape[1]), np.empty(slots.shape[0], dtype=np.int64)
    m, d = z.shape[0] - 1, columns.shape[0]
    for i in range(rows.shape[0]):
        _bring(rows[i], columns, slots, z, at)
        scale_row(scale, z[:m], numbers[CLIP], z[:m])
        for e in range(weights.shape[2]):
            share = worth[0, e] * gains[e]
            for c in range(added.shape[2]):
                for j in range(m + 1):
                    to = columns[j] if j < m else d
                    added[i, to, c] += share * z[j] * weights[0, j, e, c]
                for q in range(at.shape[0]):
                    if at[q] >= 0:
                        added[i, columns[m + q], c] += share * slot_weights[at[q], 0, e, c]
