"""Confidence bounds of a metric from a window of scored rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided confidence interval, from ``rows`` rows."""

    value: float
    lower: float
    upper: float
    rows: int


def wilson(successes: int, rows: int, confidence: float) -> Interval:
    """The score interval of a proportion (Wilson 1927): sound for few rows and near 0 and 1.

    ``confidence`` is one-sided: each bound holds with this probability by itself.

    >>> interval = wilson(90, 100, 0.95)
    >>> round(interval.lower, 3), round(interval.upper, 3)
    (0.838, 0.94)
    """
    if rows == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(confidence)
    share = successes / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    spread = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return Interval(share, max(0.0, centre - spread), min(1.0, centre + spread), rows)


def mean_interval(values: list[float], confidence: float) -> Interval:
    """The normal interval of a mean; each bound holds with ``confidence`` by itself."""
    rows = len(values)
    mean = math.fsum(values) / rows
    if rows < 2:
        return Interval(mean, -math.inf, math.inf, rows)
    variance = math.fsum((value - mean) ** 2 for value in values) / (rows - 1)
    spread = NormalDist().inv_cdf(confidence) * math.sqrt(variance / rows)
    return Interval(mean, mean - spread, mean + spread, rows)


def jackknife_interval(whole: float, left_out: list[float], rows: int, confidence: float) -> Interval:
    """The delete-a-block jackknife interval of any smooth metric (Künsch 1989, for serial dependence).

    ``whole`` is the metric on all rows, ``left_out[i]`` the metric without the i-th contiguous block.
    """
    blocks = len(left_out)
    centre = math.fsum(left_out) / blocks
    variance = (blocks - 1) / blocks * math.fsum((value - centre) ** 2 for value in left_out)
    spread = NormalDist().inv_cdf(confidence) * math.sqrt(variance)
    return Interval(whole, whole - spread, whole + spread, rows)
