"""The threshold of the loss's CUSUM, from a block bootstrap of the model's own stable losses.

A CUSUM alarms when the sum of what the losses were above their mean and an allowance passes a threshold.
How high the sum climbs by chance depends on the losses' distribution and on how they follow each other, so
both are taken from the losses themselves: moving blocks (Künsch 1989) of them are strung together, the
CUSUM runs over many such paths, and the threshold is where so few paths alarm as the budget allows. The
mean was itself estimated, from as many losses as are known; so each path starts from one that is wrong by
as much.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALE = 255
"""A loss of 1 in the stored history; losses are kept in so many steps."""

RISE = 0.13
"""The rise that the detector is made for, in standard deviations of one loss: 10% to 14% errors."""

MARGIN = 0.55
"""The share of the budget that the bootstrap is asked to use: the rest is for its own errors."""

BLOCK = 8
"""The length of a block, in inefficiencies."""
LEVEL = 5.0
MOST_CAUTION = 1.5

STRIDE = 2
"""Losses that make a step of a path, times the root of the inefficiency."""
STEPS = 256
"""Steps of a path that count, at most."""
BURN_IN = 64
"""Steps of a path before those that count: the sum forgets that it began at 0."""
POINTS = 32_768
"""Steps of all paths that count; half of it if the history is but a part: others are joined with it."""
TAIL = 0.25
"""The share of paths, the highest ones, from which the tail is extrapolated."""


class Calibration(NamedTuple):
    """How far above the mean a loss must be to count, when to alarm, and how the losses hang together.

    ``spread`` is the variance of a loss, ``inefficiency`` the variance of a long mean over that of as many
    independent losses, at least 1.
    """

    allowance: float
    threshold: float
    spread: float
    inefficiency: float


def calibrate(history: bytes | bytearray, count: int, budget: float) -> Calibration:
    """Calibrate on a history of losses (in steps of ``1 / SCALE``, oldest first).

    ``count`` losses are known to the mean, some of them perhaps not in the history any more. ``budget`` is
    the false alarms allowed in 10,000 losses.
    """
    losses = np.frombuffer(history, np.uint8)
    inefficiency = long_run(losses)
    burst = math.ceil(inefficiency / 2)
    world = np.concatenate([losses, np.repeat(np.array([SCALE, 0], np.uint8), burst)])
    spread = _variance(world)
    allowance = RISE / 2 * math.sqrt(spread) * inefficiency**0.25
    rng = np.random.default_rng([count, int(losses.sum())])
    stride = int(STRIDE * math.sqrt(inefficiency))
    steps = min(STEPS, count // stride)
    points = POINTS if count <= len(losses) else POINTS // 2
    paths = _paths(world, stride, inefficiency, (points // steps, BURN_IN + steps), rng)
    error = math.sqrt(spread * inefficiency / count)
    start = float(losses.mean()) / SCALE + error * rng.standard_normal(len(paths))
    highest = _highest(paths, stride * start, count / stride, stride * allowance)
    bursts = float(losses.mean()) / SCALE * count / burst
    target = MARGIN * budget / 10_000 * _caution(BLOCK * inefficiency / count, bursts)
    threshold = _level(highest, target * steps * stride)
    return Calibration(*map(_rounded, (allowance, threshold, spread, inefficiency)))


def long_run(losses: NDArray[np.uint8]) -> float:
    """The statistical inefficiency: 1 + 2 sum of autocorrelations, by Geyer's initial positive sequence.

    Geyer 1992, section 3.3. The sums are of whole numbers, hence the same on every machine.
    """
    x = losses.astype(np.float64)
    n, total = len(x), float(x.sum())
    centre = total / n

    def covariance(lag: int) -> float:
        ends = 2 * total - float(x[:lag].sum()) - float(x[n - lag :].sum()) if lag else 2 * total
        return (float(x[: n - lag] @ x[lag:]) - centre * ends + (n - lag) * centre**2) / n

    variance = covariance(0)
    if variance <= 0.0:
        return 1.0
    whole = -variance
    for lag in range(0, n // 4, 2):
        pair = covariance(lag) + covariance(lag + 1)
        if pair <= 0.0:
            break
        whole += 2 * pair
    return max(1.0, whole / variance)


def _variance(losses: NDArray[np.uint8]) -> float:
    x = losses.astype(np.float64)
    n = len(x)
    return max(0.0, float(x @ x) / n - (float(x.sum()) / n) ** 2) / SCALE**2


def _caution(block: float, bursts: float) -> float:
    """What to make of the budget because the losses' long-run variance is not known exactly.

    Its relative variance is about 2 b with blocks of a share b of the losses, and 1 / n with n rare bursts of
    errors. The rate of alarms goes as exp(-level / variance), with ``LEVEL`` a typical exponent; this makes
    up for the mean of that.
    """
    error = LEVEL**2 * (2 * block + 1 / (1 + bursts))
    return math.exp(-min(error / 2, MOST_CAUTION))


def _paths(
    world: NDArray[np.uint8],
    stride: int,
    inefficiency: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Blocks of the world, taken as a circle, strung together at random: (paths, steps).

    A step is the sum of ``stride`` losses; peaks within a step are small. Where losses hang together, the
    CUSUM takes longer to come and go by as much, and so a path as long as it needs costs the same. A block is
    long enough that it cuts little dependence, and short enough that there are several.
    """
    whole = len(world) // stride * stride
    sums = world[len(world) - whole :].reshape(-1, stride).sum(axis=1).astype(np.float32) / np.float32(SCALE)
    block = int(max(1, min(BLOCK * inefficiency / stride, len(sums) / 8)))
    circle = np.concatenate([sums, sums[: block - 1]])
    views = np.lib.stride_tricks.sliding_window_view(circle, block)
    starts = rng.integers(0, len(sums), (shape[0], -(-shape[1] // block)))
    drawn: NDArray[np.float32] = views[starts].reshape(shape[0], -1)[:, : shape[1]]
    return drawn


def _highest(
    paths: NDArray[np.float32], start: NDArray[np.float64], count: float, allowance: float
) -> NDArray[np.float64]:
    """The highest value of the CUSUM on each path, after the burn-in; the mean learns on as it does live.

    It hardly learns on such a path if it knows many losses, and then is taken as fixed.
    """
    steps = np.arange(1, paths.shape[1] + 1, dtype=np.float32)
    if count >= 4 * len(steps):
        sums = paths - (start + allowance).astype(np.float32)[:, None]
        np.cumsum(sums, axis=1, out=sums)
    else:
        sums = np.cumsum(paths, axis=1)
        means = (sums + (start * count).astype(np.float32)[:, None]) / (steps + np.float32(count))
        sums -= np.cumsum(means, axis=1)
        sums -= np.float32(allowance) * steps
    lowest = np.minimum.accumulate(sums, axis=1)[:, BURN_IN:]
    np.minimum(lowest, 0, out=lowest)
    np.subtract(sums[:, BURN_IN:], lowest, out=lowest)
    highest: NDArray[np.float32] = lowest.max(axis=1)
    return highest.astype(np.float64)


def _level(highest: NDArray[np.float64], alarms: float) -> float:
    """The level that a path passes so many times on average, alarms being rare and memoryless.

    Then a path stays below with probability exp(-alarms); above a high level the maxima fall off
    exponentially, at the rate of their mean excess.
    """
    ordered = np.sort(highest)
    kept = max(2, int(len(ordered) * TAIL))
    base = float(ordered[-kept - 1])
    excess = float((ordered[-kept:] - base).mean())
    rate = -math.log1p(-kept / len(ordered))
    return max(base + excess * math.log(rate / alarms), float(np.finfo(np.float32).eps))


def _rounded(value: float) -> float:
    """Six digits: the last bits of a sum may differ between processors."""
    return float(f"{value:.6g}")
