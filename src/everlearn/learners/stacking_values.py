"""The compiled part of :mod:`everlearn.learners.blend` for regression.

One row's evidence is float64 (M + 1,): the members' estimates in deviations from the running mean of
the target, then a constant 1. Three layers, as for classes:

* **Newton stacks**, one a forgetting rate: a linear regression of the target on the estimates, by
  recursive least squares whose residuals are clipped (Huber's loss), pulled to the prior mean.
* **Fixed share** over the members' estimates by their absolute errors (Herbster and Warmuth 1998), in
  units of the running mean absolute error of the mixture.
* **Top**: fixed share over those S + 1 answers, with a faster rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from everlearn.learners.kernels import compiled
from everlearn.learners.stacking_kernels import (
    MIDDLE,
    RATE,
    SHARE,
    TOP_RATE,
    TOP_SHARE,
    hash_row,
    recall,
    remember,
    share_learn,
    solve,
    track,
)

# Places in ``scale``, float64 (6,): the target's count, mean and variance; the mean absolute errors.
COUNT, MEAN, VARIANCE, ERROR, LOW, HIGH = range(6)


@compiled
def standardise(estimates: Any, awake: Any, scale: Any, out: Any) -> None:
    """Estimates (M,) to evidence (M + 1,); a sleeper, or one that knows nothing, says the mean."""
    deviation = np.sqrt(scale[VARIANCE])
    members = estimates.shape[0]
    for m in range(members):
        x = estimates[m]
        if not awake[m] or x != x or deviation <= 0.0:
            out[m] = 0.0
        else:
            out[m] = min(max((x - scale[MEAN]) / deviation, -20.0), 20.0)
    out[members] = 1.0


@compiled
def combine(theta: Any, shares: Any, top: Any, says: Any, awake: Any, parts: Any) -> None:
    """Fill ``parts`` (S + 2,) from the evidence: the stacks' answers, the fixed share's, the top's."""
    stacks, members = theta.shape[0], shares.shape[0]
    low = high = says[0]
    for m in range(members):
        low, high = min(low, says[m]), max(high, says[m])
    slack = 0.5 * (high - low) + 0.1
    for s in range(stacks):
        score = 0.0
        for j in range(members + 1):
            score += theta[s, j] * says[j]
        parts[s] = min(max(score, low - slack), high + slack)
    mixed = total = 0.0
    for m in range(members):
        if awake[m]:
            mixed += shares[m] * says[m]
            total += shares[m]
    parts[stacks] = mixed / total
    best = 0.0
    for s in range(stacks + 1):
        best += top[s] * parts[s]
    parts[stacks + 1] = best


@compiled
def judge(
    estimates: Any,
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
    scale: Any,
    target: float,
    weight: float,
    told: Any,
    says: Any,
    parts: Any,
    work: Any,
) -> None:
    """Learn from one row's estimates (M,) and its target what each member is worth.

    ``told`` (S + 1, 1) is what the layers below the top said when the row was asked, in units of the
    target; empty if it was never asked: then what they say now.
    """
    stacks, members = theta.shape[0], shares.shape[0]
    deviation = np.sqrt(scale[VARIANCE])
    if deviation <= 0.0:
        return
    standardise(estimates, awake, scale, says)
    combine(theta, shares, top, says, awake, parts)
    truth = (target - scale[MEAN]) / deviation
    error = abs(parts[stacks + 1] - truth)
    rate = max(0.02, 1.0 / scale[COUNT])
    scale[ERROR] += (min(error, 10.0 * scale[ERROR] + 1e-3) - scale[ERROR]) * rate
    unit = scale[ERROR] + 1e-12
    gain, everyone, gradient = work[0], work[1], work[2]
    for s in range(stacks + 1):
        off = abs(told[s, 0] - target) / deviation if told.shape[0] else abs(parts[s] - truth)
        gain[s] = np.exp(-min(off / unit, 10.0)) if off == off else np.exp(-10.0)
        everyone[s] = 1.0
    share_learn(top, gain, everyone, numbers[TOP_RATE] * weight, numbers[TOP_SHARE])
    for m in range(members):
        loss = abs(says[m] - truth) / unit
        gain[m] = np.exp(-min(loss, 10.0))
    share_learn(shares, gain, awake, numbers[RATE] * weight, numbers[SHARE])
    shadow(says, truth, unit, without, awake, theta, start, keeps[MIDDLE], pull[MIDDLE], merit, weight, work)
    for s in range(stacks):
        stack_learn(
            theta[s], start, hessian[s], keeps[s], pull[s], says, truth, 3.0 * unit, weight, gradient, work
        )  # fmt: skip


@compiled
def stack_learn(
    theta: Any,
    start: Any,
    hessian: Any,
    keep: float,
    pull: Any,
    says: Any,
    truth: float,
    bound: float,
    weight: float,
    gradient: Any,
    work: Any,
) -> float:
    """One step of one stack, along its error clipped at ``bound``; returns the error before it."""
    size = says.shape[0]
    error = -truth
    for j in range(size):
        error += theta[j] * says[j]
    off = weight * min(max(error, -bound), bound)
    for j in range(size):
        back = (1.0 - keep) * pull[j]
        gradient[j] = off * says[j] + back * (theta[j] - start[j])
        for k in range(j + 1):
            hessian[j, k] = hessian[j, k] * keep + weight * says[j] * says[k]
        hessian[j, j] += back
    solve(hessian, gradient, size, work[3:])
    for j in range(size):
        theta[j] -= gradient[j]
    return float(error)


@compiled
def shadow(
    says: Any,
    truth: float,
    unit: float,
    without: Any,
    awake: Any,
    theta: Any,
    start: Any,
    keep: float,
    pull: Any,
    merit: Any,
    weight: float,
    work: Any,
) -> None:
    """As for classes: what each member in question is worth, in mean absolute errors of the mixture."""
    spans, deaf_theta, deaf_hessian = without
    loss = -truth
    for j in range(says.shape[0]):
        loss += theta[MIDDLE, j] * says[j]
    loss = min(abs(loss) / unit, 10.0)
    track(merit, spans.shape[0], loss)
    if spans.shape[0] == 0:
        return
    deaf = np.empty(says.shape[0])
    for c in range(spans.shape[0]):
        if awake[spans[c, 0]]:
            deaf[:] = says
            deaf[spans[c, 0] : spans[c, 1]] = 0.0
            error = stack_learn(
                deaf_theta[c], start, deaf_hessian[c], keep, pull, deaf, truth, 3.0 * unit, weight,
                work[2], work,
            )  # fmt: skip
            merit[c] += (min(abs(error) / unit, 10.0) - loss - merit[c]) * 0.002


@compiled
def scale_target(scale: Any, target: float, weight: float) -> None:
    """Take one target into the running mean and variance."""
    scale[COUNT] = min(scale[COUNT] + weight, 10_000.0)
    delta = target - scale[MEAN]
    if scale[COUNT] > 10.0 and scale[VARIANCE] > 0.0:
        bound = 5.0 * np.sqrt(scale[VARIANCE])
        delta = min(max(delta, -bound), bound)
    step = delta * min(weight / scale[COUNT], 1.0)
    scale[MEAN] += step
    scale[VARIANCE] += (delta * (delta - step) - scale[VARIANCE]) * min(weight / scale[COUNT], 1.0)


@compiled
def answer_rows(
    estimates: Any,
    awake: Any,
    theta: Any,
    shares: Any,
    top: Any,
    scale: Any,
    hashes: Any,
    keys: Any,
    kept: Any,
    kept_awake: Any,
    told: Any,
    ends: Any,
    out: Any,
) -> None:
    """Answer rows from their members' estimates (n, M, 1), and remember those if the ring has room."""
    says = np.empty(estimates.shape[1] + 1)
    parts = np.empty(theta.shape[0] + 2)
    values = np.empty((theta.shape[0] + 2, 1))
    for i in range(estimates.shape[0]):
        out[i] = _answer(estimates[i, :, 0], awake, theta, shares, top, scale, says, parts)
        if keys.shape[0]:
            key = hash_row(hashes[i])
            _in_units(parts, scale, values)
            remember(keys, kept, kept_awake, told, ends, key, estimates[i], awake, values, 1)


@compiled
def _in_units(parts: Any, scale: Any, out: Any) -> None:
    """Parts (S + 2,) in units of the target, (S + 2, 1); NaN while nothing is known."""
    deviation = np.sqrt(scale[VARIANCE])
    for s in range(parts.shape[0]):
        out[s, 0] = parts[s] * deviation + scale[MEAN] if scale[COUNT] > 0.0 else np.nan


@compiled
def _answer(
    estimates: Any, awake: Any, theta: Any, shares: Any, top: Any, scale: Any, says: Any, parts: Any
) -> float:
    if scale[COUNT] == 0.0:
        return np.nan
    standardise(estimates, awake, scale, says)
    combine(theta, shares, top, says, awake, parts)
    return float(parts[theta.shape[0] + 1] * np.sqrt(scale[VARIANCE]) + scale[MEAN])


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
    scale: Any,
    keys: Any,
    kept: Any,
    kept_awake: Any,
    told: Any,
    ends: Any,
    out: Any,
) -> None:
    """As :func:`everlearn.learners.stacking_kernels.learn_rows`, for targets; ``fresh`` is (n, M, 1)."""
    says = np.empty(theta.shape[1])
    parts = np.empty(theta.shape[0] + 2)
    values = np.empty((theta.shape[0] + 2, 1))
    work = np.empty((theta.shape[1] + 4, max(theta.shape[1], theta.shape[0] + 2)))
    for i in range(targets.shape[0]):
        if out.shape[0]:
            out[i] = _answer(fresh[i, :, 0], awake, theta, shares, top, scale, says, parts)
            key = hash_row(asked[i])
            _in_units(parts, scale, values)
            remember(keys, kept, kept_awake, told, ends, key, fresh[i], awake, values, 1)
        place = recall(keys, ends, hash_row(rows[i]))
        if place >= 0:
            judge(
                kept[place, :, 0], kept_awake[place], theta, start, hessian, keeps, pull, shares, top,
                numbers, merit, without, scale, targets[i], weights[i], told[place], says, parts, work,
            )  # fmt: skip
        elif fresh_of_rows:
            judge(
                fresh[i, :, 0], awake, theta, start, hessian, keeps, pull, shares, top, numbers,
                merit, without, scale, targets[i], weights[i], told[0, :0], says, parts, work,
            )  # fmt: skip
        scale_target(scale, targets[i], weights[i])
