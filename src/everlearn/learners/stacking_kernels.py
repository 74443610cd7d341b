"""The compiled part of :mod:`everlearn.learners.blend`: how answers of members become one answer.

Sizes: M members, K classes of which the first ``seen`` have been learned, S Newton stacks, ``BIASES``
class biases each. One row's *evidence* is float64 (M, K): the logarithm of each member's probabilities,
floored and centred over the seen classes; zero for a member that sleeps, which so says nothing.

Three layers:

* **Newton stacks**, one a forgetting rate: softmax regression on the members' log-odds with one weight
  a member and one bias a class, learned by the online Newton step with exponential forgetting and a
  quadratic pull to the prior mixture (Hazan, Agarwal and Kale 2007; the Hessian is the Gauss-Newton one,
  which for the log loss of a softmax is exact).
* **Fixed share** over the members' probabilities (Herbster and Warmuth 1998).
* **Top**: fixed share over those S + 1 answers, which is what is answered.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled

BIASES = 12
"""With more classes than this the stacks have no biases of classes."""
MIDDLE = 1
"""The stack that is compared with those that are deaf to a member."""

# Places in ``numbers``, float64.
FLOOR, SHARE, RATE, TOP_SHARE, TOP_RATE = range(5)


@compiled
def evidence(answers: Any, awake: Any, seen: int, floor: float, out: Any) -> None:
    """Centred, floored log-probabilities of one row: answers (M, K) to out (M, K)."""
    least = floor / max(seen, 1)
    for m in range(answers.shape[0]):
        if not awake[m]:
            for c in range(seen):
                out[m, c] = 0.0
            continue
        mean = 0.0
        for c in range(seen):
            value = math.log(max(answers[m, c], least))
            out[m, c] = value
            mean += value
        mean /= max(seen, 1)
        for c in range(seen):
            out[m, c] -= mean


@compiled
def stack_answer(theta: Any, logs: Any, seen: int, out: Any) -> None:
    """What one Newton stack says: theta (M + BIASES,), logs (M, K), out (K,)."""
    members = logs.shape[0]
    top = -1e300
    for c in range(seen):
        score = theta[members + c] if seen <= BIASES else 0.0
        for m in range(members):
            score += theta[m] * logs[m, c]
        out[c] = score
        top = max(top, score)
    total = 0.0
    for c in range(seen):
        out[c] = math.exp(out[c] - top)
        total += out[c]
    for c in range(seen):
        out[c] /= total


@compiled
def stack_learn(
    theta: Any,
    start: Any,
    hessian: Any,
    keep: float,
    pull: Any,
    logs: Any,
    said: Any,
    seen: int,
    label: int,
    weight: float,
    work: Any,
) -> None:
    """One Newton step of one stack; ``said`` (K,) is its answer for ``logs``; ``work`` (D + 2, D)."""
    members = logs.shape[0]
    size = members + (seen if seen <= BIASES else 0)
    mean, gradient = work[theta.shape[0]], work[theta.shape[0] + 1]
    for j in range(members):
        total = 0.0
        for c in range(seen):
            total += said[c] * logs[j, c]
        mean[j] = total
        gradient[j] = weight * (total - logs[j, label])
    for j in range(members, size):
        c = j - members
        mean[j] = said[c]
        gradient[j] = weight * (said[c] - (1.0 if c == label else 0.0))
    for j in range(size):
        back = (1.0 - keep) * pull[j]
        for k in range(j + 1):
            hessian[j, k] *= keep
        hessian[j, j] += back
        gradient[j] += back * (theta[j] - start[j])
    for c in range(seen):
        p = said[c] * weight
        if p < 1e-5:
            continue
        for j in range(members):
            slope = p * (logs[j, c] - mean[j])
            for k in range(j + 1):
                hessian[j, k] += slope * (logs[k, c] - mean[k])
        for j in range(members, size):
            slope = p * ((1.0 if j - members == c else 0.0) - mean[j])
            for k in range(members):
                hessian[j, k] += slope * (logs[k, c] - mean[k])
            for k in range(members, j + 1):
                hessian[j, k] += slope * ((1.0 if k - members == c else 0.0) - mean[k])
    solve(hessian, gradient, size, work)
    for j in range(size):
        theta[j] -= gradient[j]


@compiled
def solve(matrix: Any, vector: Any, size: int, work: Any) -> None:
    """Solve ``matrix x = vector`` in place for the lower triangle of a positive definite matrix."""
    for j in range(size):
        for k in range(j + 1):
            total = matrix[j, k]
            for q in range(k):
                total -= work[j, q] * work[k, q]
            if j == k:
                work[j, j] = math.sqrt(max(total, 1e-9))
            else:
                work[j, k] = total / work[k, k]
    for j in range(size):
        total = vector[j]
        for q in range(j):
            total -= work[j, q] * vector[q]
        vector[j] = total / work[j, j]
    for j in range(size - 1, -1, -1):
        total = vector[j]
        for q in range(j + 1, size):
            total -= work[q, j] * vector[q]
        vector[j] = total / work[j, j]


@compiled
def combine(
    answers: Any,
    awake: Any,
    theta: Any,
    shares: Any,
    top: Any,
    numbers: Any,
    seen: int,
    logs: Any,
    parts: Any,
) -> None:
    """Fill ``parts`` (S + 2, K): the stacks' answers, the fixed share's, and (last) the top's."""
    stacks, members = theta.shape[0], answers.shape[0]
    evidence(answers, awake, seen, numbers[FLOOR], logs)
    for s in range(stacks):
        stack_answer(theta[s], logs, seen, parts[s])
    total = 0.0
    for m in range(members):
        if awake[m]:
            total += shares[m]
    for c in range(seen):
        mixed = 0.0
        for m in range(members):
            if awake[m]:
                mixed += shares[m] * answers[m, c]
        parts[stacks, c] = mixed / total
        best = 0.0
        for s in range(stacks + 1):
            best += top[s] * parts[s, c]
        parts[stacks + 1, c] = best


@compiled
def share_learn(shares: Any, likelihood: Any, awake: Any, rate: float, share: float) -> None:
    """Fixed share among those awake; the weight of a sleeper is as it was (Freund et al. 1997)."""
    before = after = 0.0
    for m in range(shares.shape[0]):
        if awake[m]:
            before += shares[m]
            shares[m] *= max(likelihood[m], 1e-5) ** rate
            after += shares[m]
    for m in range(shares.shape[0]):
        if awake[m]:
            shares[m] *= before / after
        shares[m] = (1.0 - share) * shares[m] + share / shares.shape[0]


@compiled
def judge(
    answers: Any,
    awake: Any,
    theta: Any,
    start: Any,
    hessian: Any,
    keeps: Any,
    pull: Any,
    shares: Any,
    top: Any,
    numbers: Any,
    merit: Any,
    without: Any,
    seen: int,
    label: int,
    weight: float,
    told: Any,
    logs: Any,
    parts: Any,
    work: Any,
) -> None:
    """Learn from one row's answers (M, K) and its label what each member is worth.

    ``told`` (S + 1, K) is what the layers below the top said when the row was asked; empty if it was
    never asked: then what they say now.
    """
    stacks, members = theta.shape[0], answers.shape[0]
    combine(answers, awake, theta, shares, top, numbers, seen, logs, parts)
    likelihood = work[0]
    everyone = work[1]
    for s in range(stacks + 1):
        likelihood[s] = told[s, label] if told.shape[0] else parts[s, label]
        everyone[s] = 1.0
    share_learn(top, likelihood, everyone, numbers[TOP_RATE] * weight, numbers[TOP_SHARE])
    for m in range(members):
        likelihood[m] = answers[m, label]
    share_learn(shares, likelihood, awake, numbers[RATE] * weight, numbers[SHARE])
    shadow(
        logs, parts[MIDDLE], without, awake, start, keeps[MIDDLE], pull[MIDDLE], merit, seen, label, weight,
        work,
    )  # fmt: skip
    for s in range(stacks):
        stack_learn(theta[s], start, hessian[s], keeps[s], pull[s], logs, parts[s], seen, label, weight, work)


@compiled
def shadow(
    logs: Any,
    said: Any,
    without: Any,
    awake: Any,
    start: Any,
    keep: float,
    pull: Any,
    merit: Any,
    seen: int,
    label: int,
    weight: float,
    work: Any,
) -> None:
    """Learn stacks that never hear one member each, to know what the members are worth.

    ``without`` holds ``spans`` int64 (C, 2), the experts of the members in question, and the weights (C, D)
    and Hessians of the stacks that are deaf to them; ``said`` (K,) is the answer of the stack with the same
    settings that hears all. ``merit`` (C + 2,) becomes the log loss that each member saves, then the loss of
    that stack over about 500 and about 5,000 rows.
    """
    spans, theta, hessian = without
    members, loss = spans.shape[0], -math.log(max(said[label], 1e-6))
    track(merit, members, loss)
    if members == 0:
        return
    deaf, alone = np.empty(logs.shape), np.empty(logs.shape[1])
    for c in range(members):
        if awake[spans[c, 0]]:
            deaf[:] = logs
            deaf[spans[c, 0] : spans[c, 1]] = 0.0
            stack_answer(theta[c], deaf, seen, alone)
            merit[c] += (-math.log(max(alone[label], 1e-6)) - loss - merit[c]) * 0.002
            stack_learn(theta[c], start, hessian[c], keep, pull, deaf, alone, seen, label, weight, work)


@compiled
def track(merit: Any, members: int, loss: float) -> None:
    """Follow the mean loss at two paces, in the last two places of ``merit``."""
    merit[members] += (loss - merit[members]) * 0.002
    merit[members + 1] += (loss - merit[members + 1]) * 0.0002


# What was asked, until its label comes: a ring of rows' hashes with the members' answers.


@compiled
def hash_row(row: Any) -> Any:
    """A 64-bit hash of a row's numbers, given as uint64 (d,) (the mixing step of MurmurHash3)."""
    h = np.uint64(0x9E3779B97F4A7C15)
    for j in range(row.shape[0]):
        h ^= row[j]
        h ^= h >> np.uint64(33)
        h *= np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(33)
        h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return h | np.uint64(1)  # 0 marks a free place


@compiled
def remember(
    keys: Any,
    kept: Any,
    kept_awake: Any,
    told: Any,
    ends: Any,
    key: Any,
    answers: Any,
    awake: Any,
    parts: Any,
    seen: int,
) -> None:
    """Put one row's answers (M, K) and parts (S + 2, K) into the ring; the oldest falls out of a full one."""
    size = keys.shape[0]
    place = ends[1] % size
    if ends[1] - ends[0] == size:
        ends[0] += 1
    keys[place] = key
    for m in range(answers.shape[0]):
        kept_awake[place, m] = awake[m]
        for c in range(answers.shape[1]):
            kept[place, m, c] = answers[m, c]
        for c in range(answers.shape[1], kept.shape[2]):
            kept[place, m, c] = 0.0
    for s in range(told.shape[1]):
        for c in range(told.shape[2]):
            told[place, s, c] = parts[s, c] if c < seen else 0.0
    ends[1] += 1


@compiled
def recall(keys: Any, ends: Any, key: Any) -> int:
    """The oldest place in the ring that holds a row, and free it; -1 if none does."""
    size = keys.shape[0]
    for position in range(ends[0], ends[1]):
        place = position % size
        if keys[place] == key:
            keys[place] = np.uint64(0)
            while ends[0] < ends[1] and keys[ends[0] % size] == np.uint64(0):
                ends[0] += 1
            return int(place)
    return -1


@compiled
def answer_rows(
    answers: Any,
    awake: Any,
    theta: Any,
    shares: Any,
    top: Any,
    numbers: Any,
    counts: Any,
    hashes: Any,
    keys: Any,
    kept: Any,
    kept_awake: Any,
    told: Any,
    ends: Any,
    out: Any,
) -> None:
    """Answer rows from their members' answers (n, M, K), and remember those if the ring has room."""
    seen = counts[0]
    logs = np.empty((answers.shape[1], max(seen, 1)))
    parts = np.empty((theta.shape[0] + 2, max(seen, 1)))
    for i in range(answers.shape[0]):
        _answer(answers[i], awake, theta, shares, top, numbers, seen, logs, parts, out[i])
        if keys.shape[0]:
            key = hash_row(hashes[i])
            remember(keys, kept, kept_awake, told, ends, key, answers[i], awake, parts, seen)


@compiled
def _answer(
    answers: Any,
    awake: Any,
    theta: Any,
    shares: Any,
    top: Any,
    numbers: Any,
    seen: int,
    logs: Any,
    parts: Any,
    out: Any,
) -> None:
    if seen == 0:
        return
    combine(answers, awake, theta, shares, top, numbers, seen, logs, parts)
    total = 0.0
    for c in range(seen):
        total += parts[theta.shape[0] + 1, c]
    for c in range(seen):
        out[c] = parts[theta.shape[0] + 1, c] / total


@compiled
def learn_rows(
    asked: Any,
    rows: Any,
    fresh: Any,
    fresh_of_rows: bool,
    targets: Any,
    weights: Any,
    awake: Any,
    theta: Any,
    start: Any,
    hessian: Any,
    keeps: Any,
    pull: Any,
    shares: Any,
    top: Any,
    numbers: Any,
    merit: Any,
    without: Any,
    counts: Any,
    keys: Any,
    kept: Any,
    kept_awake: Any,
    told: Any,
    ends: Any,
    out: Any,
) -> None:
    """For each i: answer ``asked[i]`` (if ``out`` has rows), then judge the members by ``rows[i]``.

    A row is judged by the answers remembered from when it was asked; else by ``fresh`` (n, M, K) if
    those are answers to ``rows``. ``asked`` and ``rows`` are the rows' bits, uint64 (n, d).
    """
    members = theta.shape[1] - BIASES
    k = max(counts[0], np.max(targets) + 1)
    logs = np.empty((members, k))
    parts = np.empty((theta.shape[0] + 2, k))
    work = np.empty((theta.shape[1] + 2, theta.shape[1]))
    for i in range(targets.shape[0]):
        if out.shape[0]:
            _answer(fresh[i], awake, theta, shares, top, numbers, counts[0], logs, parts, out[i])
            key = hash_row(asked[i])
            remember(keys, kept, kept_awake, told, ends, key, fresh[i], awake, parts, counts[0])
        counts[0] = max(counts[0], targets[i] + 1)
        counts[1] += 1
        place = recall(keys, ends, hash_row(rows[i]))
        if place >= 0:
            judge(
                kept[place], kept_awake[place], theta, start, hessian, keeps, pull, shares, top, numbers,
                merit, without, counts[0], targets[i], weights[i], told[place], logs, parts, work,
            )  # fmt: skip
        elif fresh_of_rows:
            judge(
                fresh[i], awake, theta, start, hessian, keeps, pull, shares, top, numbers,
                merit, without, counts[0], targets[i], weights[i], told[0, :0], logs, parts, work,
            )  # fmt: skip
