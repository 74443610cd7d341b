"""Confidence bounds of a metric from a window of scored rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided confidence interval, from ``rows`` rows."""

    value: float
    lower: float
    upper: float
    rows: int


@lru_cache(maxsize=4096)
def proportion_interval(successes: int, rows: int, confidence: float) -> Interval:
    """The exact interval of a proportion (Clopper & Pearson 1934): it never covers less than it says.

    ``confidence`` is one-sided: each bound holds with this probability by itself.

    >>> interval = proportion_interval(90, 100, 0.95)
    >>> round(interval.lower, 3), round(interval.upper, 3)
    (0.836, 0.945)
    """
    if rows == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    from scipy.special import betaincinv

    failures = rows - successes
    lower = float(betaincinv(successes, failures + 1, 1 - confidence)) if successes else 0.0
    upper = float(betaincinv(successes + 1, failures, confidence)) if failures else 1.0
    return Interval(successes / rows, lower, upper, rows)


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
