"""A policy that is told what no policy can know: what a fresh version would have lost, 500 rows late.

It acts by the rule of ``cost_aware`` (:mod:`everlearn.loop.forecast`), with the excess itself in the place of
its estimate: on every chunk whose labels are known, the wrong answers of the champion less those of the
version that was trained at the chunk's start. What it costs more than the best fixed cadence in hindsight is
what hindsight is worth; what ``cost_aware`` costs more than it, what the estimate is.
"""

from __future__ import annotations

import math
from typing import Any

from everlearn.loop.cost import DEFAULT
from policy_grid import DELAY, STEP, Grid

NEWEST = 4
"""Chunks that the excess of now is taken from."""


def informed(grid: Grid, price: float) -> list[int]:
    """The grid points at which it updates."""
    losses, updates, champion = grid.losses, list[int](), 0
    excess_sum = age_sum = 0.0  # over all earlier reigns: the slope of the excess is their ratio
    for point in range(1, len(losses)):
        chunks = range(champion, point - DELAY // STEP + 1)
        excess = [float(losses[champion, one] - losses[one, one]) for one in chunks]
        if not excess:
            continue
        ages = len(excess) * (len(excess) - 1) / 2
        slope = max(0.0, excess_sum + sum(excess)) / max(1.0, age_sum + ages)
        newest = excess[-NEWEST:]
        older = point - champion - len(excess) + (len(newest) - 1) / 2
        now = sum(newest) / len(newest) + slope * older
        if now >= least(price, slope, DEFAULT.horizon * grid.points[point] / STEP):
            updates.append(point)
            champion, excess_sum, age_sum = point, excess_sum + sum(excess), age_sum + ages
    return updates


def least(price: float, slope: float, horizon: Any) -> float:
    """The least average cost of a chunk of the cycle to come, with an excess that grows by a slope."""
    chunks = min(float(horizon), math.sqrt(2 * price / slope) if slope else math.inf)
    return price / chunks + slope * chunks / 2
