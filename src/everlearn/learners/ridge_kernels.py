"""The compiled part of :mod:`everlearn.learners.ridge`.

Sizes: d columns, m random features, M = inputs + m + 1 features of a row, the last of which is 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled, dot, scale_learn, scale_row, softmax

# Places in ``numbers``, float64 (7,); FADING is by how many powers of two a row's weight halves as one more
# row comes: -log2(gamma).
GAMMA, ALPHA, LINEAR, CLIP, MEMORY, RELU, FADING = range(7)
SEEN, LEARNED = range(2)

# ``how`` is what maps a row to features: (numeric columns, categorical columns, slots of each of these,
# what the numeric ones are divided by, frequencies (inputs, m), phases (m,), numbers).


@compiled
def spread(row: Any, numeric: Any, coded: Any, slots: int, divide: Any, out: Any) -> None:
    """The inputs of a row: its numbers divided by ``divide``, then a one-hot for each category column.

    A missing number is 0, and so is a missing category; codes beyond the slots share them.
    """
    n = numeric.shape[0]
    for j in range(n):
        x = row[numeric[j]] / divide[j]
        out[j] = x if x == x else 0.0
    for j in range(n, out.shape[0]):
        out[j] = 0.0
    for q in range(coded.shape[0]):
        code = row[coded[q]]
        if code >= 0.0:
            out[n + q * slots + int(min(code, 1e9)) % slots] = 1.0


@compiled
def features(inputs: Any, frequencies: Any, phases: Any, numbers: Any, out: Any) -> None:
    """Inputs, random features of them, and 1: random Fourier (Rahimi and Recht 2007) or ReLU."""
    d, m = inputs.shape[0], phases.shape[0]
    drawn = out[d : d + m]
    for k in range(m):
        drawn[k] = phases[k]
    for j in range(d):
        x = inputs[j]
        out[j] = numbers[LINEAR] * x
        if x != 0.0:
            frequency = frequencies[j]
            for k in range(m):
                drawn[k] += x * frequency[k]
    norm = math.sqrt(2.0 / max(m, 1))
    if numbers[RELU] > 0.0:
        for k in range(m):
            drawn[k] = norm * max(drawn[k], 0.0)
    else:
        for k in range(m):
            drawn[k] = norm * math.cos(drawn[k])
    out[d + m] = 1.0


@compiled
def map_row(row: Any, how: Any, out: Any) -> None:
    """The features (M,) of a row (d,)."""
    numeric, coded, slots, divide, frequencies, phases, numbers = how
    inputs = np.empty(frequencies.shape[0])
    spread(row, numeric, coded, slots, divide, inputs)
    features(inputs, frequencies, phases, numbers, out)


@compiled
def map_rows(rows: Any, how: Any, out: Any) -> None:
    """The features (n, M) of rows (n, d)."""
    for i in range(rows.shape[0]):
        map_row(rows[i], how, out[i])


# Recursive: the inverse is kept, the scale of the columns is learned on the way.


@compiled
def recursive_answer(phi: Any, solution: Any, k: int, out: Any) -> None:
    """Scores (k,) of one row of features; ``solution`` is (K, M)."""
    for c in range(k):
        out[c] = dot(solution[c], phi)


@compiled
def recursive_learn(
    phi: Any, label: int, value: float, weight: float, k: int, inverse: Any, solution: Any, gamma: float,
    scores: Any, gain: Any,
) -> None:  # fmt: skip
    """One step of recursive least squares with forgetting (Haykin 2002, table 9.1); label -1 is a value."""
    size = phi.shape[0]
    for j in range(size):
        gain[j] = 0.0
    for j in range(size):
        x = phi[j]
        if x != 0.0:
            row = inverse[j]
            for i in range(size):
                gain[i] += row[i] * x
    total = gamma / weight + dot(phi, gain)
    for c in range(k):
        truth = value if label < 0 else (1.0 if c == label else 0.0)
        step = (truth - scores[c]) / total
        row = solution[c]
        for j in range(size):
            row[j] += step * gain[j]
    scale, grown = 1.0 / total, 1.0 / gamma
    for j in range(size):
        x, row = gain[j], inverse[j]
        for i in range(size):
            row[i] = (
                row[i] - x * gain[i] * scale
            ) * grown  # in this order it stays symmetric to the last bit


@compiled
def recursive_penalty(at: int, amount: float, inverse: Any, solution: Any, gain: Any) -> None:
    """Learn that coefficient ``at`` is 0, with a weight: what forgetting took from the penalty.

    Without it the inverse would grow where no row brings anything new (Gunnarsson 1996, section 4).
    """
    size = gain.shape[0]
    for j in range(size):
        gain[j] = inverse[at, j]
    total = 1.0 / amount + gain[at]
    for c in range(solution.shape[0]):
        step = solution[c, at] / total
        row = solution[c]
        for j in range(size):
            row[j] -= step * gain[j]
    scale = 1.0 / total
    for j in range(size):
        x, row = gain[j], inverse[j]
        for i in range(size):
            row[i] -= x * gain[i] * scale


@compiled
def _mapped(row: Any, scale: Any, how: Any, inputs: Any, phi: Any) -> None:
    numeric, coded, slots, ones, frequencies, phases, numbers = how
    spread(row, numeric, coded, slots, ones, inputs)
    n = numeric.shape[0]
    for j in range(n):
        if row[numeric[j]] != row[numeric[j]]:
            inputs[j] = np.nan  # a missing number is the mean here
    scale_row(scale, inputs[:n], numbers[CLIP], inputs[:n])
    features(inputs, frequencies, phases, numbers, phi)


@compiled
def recursive_rows(
    asked: Any,
    rows: Any,
    targets: Any,
    weights: Any,
    values: bool,
    how: Any,
    scale: Any,
    target: Any,
    inverse: Any,
    solution: Any,
    link: Any,
    counts: Any,
    answers: Any,
) -> None:
    """Answer ``asked[i]`` into ``answers`` (n, k), then learn ``rows[i]``; rows without targets are asked.

    ``link`` (2,) is the factor of the scores before the softmax, and its gradients' squares.
    """
    numeric, numbers, size, n = how[0], how[6], inverse.shape[0], how[0].shape[0]
    inputs, phi, gain = np.empty(how[4].shape[0]), np.empty(size), np.empty(size)
    scores, raw, value = np.empty(solution.shape[0]), np.empty(n), np.empty(1)
    missing = size * (1.0 - numbers[GAMMA]) * numbers[ALPHA]
    for i in range(asked.shape[0]):
        if answers.shape[0] and counts[LEARNED] > 0:
            _mapped(asked[i], scale, how, inputs, phi)
            k = 1 if values else counts[SEEN]
            recursive_answer(phi, solution, k, scores)
            if values:
                answers[i, 0] = scores[0] * math.sqrt(target[2, 0]) + target[1, 0]
            else:
                for c in range(k):
                    scores[c] *= link[0]
                softmax(scores, k)
                for c in range(k):
                    answers[i, c] = scores[c]
        if i >= rows.shape[0]:
            continue
        counts[LEARNED] += 1
        label, truth = -1, 0.0
        if values:
            value[0] = targets[i]
            scale_learn(target, value, numbers[MEMORY], numbers[CLIP])
            scale_row(target, value, numbers[CLIP], value)
            truth = value[0]
        else:
            label = int(targets[i])
            counts[SEEN] = max(counts[SEEN], label + 1)
        for j in range(n):
            raw[j] = rows[i, numeric[j]]
        scale_learn(scale, raw, numbers[MEMORY], numbers[CLIP])
        _mapped(rows[i], scale, how, inputs, phi)
        k = 1 if values else counts[SEEN]
        recursive_answer(phi, solution, k, scores)
        if not values:
            _learn_link(link, scores, k, label, gain)
        recursive_learn(phi, label, truth, weights[i], k, inverse, solution, numbers[GAMMA], scores, gain)
        if missing > 0.0:
            recursive_penalty(counts[LEARNED] % size, missing, inverse, solution, gain)


@compiled
def _learn_link(link: Any, scores: Any, k: int, label: int, work: Any) -> None:
    """AdaGrad on the logarithm of the scores' factor, by the log loss of a row not yet learned."""
    if k < 2 or k > work.shape[0]:
        return
    for c in range(k):
        work[c] = link[0] * scores[c]
    softmax(work, k)
    gradient = 0.0
    for c in range(k):
        gradient += (work[c] - (1.0 if c == label else 0.0)) * link[0] * scores[c]
    link[1] = 0.999 * link[1] + gradient * gradient
    link[0] = min(max(link[0] * math.exp(-0.05 * gradient / (math.sqrt(link[1]) + 1e-6)), 0.1), 100.0)
