"""Small compiled pieces that the learners' hot loops share.

All are compiled by numba on first use and kept on disk (``cache=True``); ``make`` compiles them ahead
and the doors warm them before they answer (:mod:`everlearn.learners.ahead`). No kernel uses ``fastmath``:
sums are written in the order in which they are made, so that a machine cannot reorder them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Decorates a hot loop."""
    return _compiled(function)


def inlined(function: _Function) -> _Function:
    """Decorates a few lines that a hot loop calls for every number."""
    return _compiled(function, inline="always")


def _compiled(function: _Function, **options: Any) -> _Function:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return cast("_Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder that numba could keep it in: each process compiles for itself
        return cast("_Function", numba.njit(**options)(function))


@compiled
def tidy(rows: Any, largest: float) -> bool:
    """Whether every number of ``rows`` (n, d) is missing (NaN) or smaller than ``largest``."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            if abs(rows[i, j]) >= largest:
                return False
    return True


@compiled
def random(generator: Any) -> float:
    """A number in [0, 1) from the generator's state, ``uint64 (1,)`` (SplitMix64, Steele et al. 2014)."""
    generator[0] += np.uint64(0x9E3779B97F4A7C15)
    z = generator[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def exponential(generator: Any) -> float:
    """A draw from the exponential distribution with rate 1."""
    return -math.log1p(-random(generator))


@compiled
def normal(generator: Any) -> float:
    """A draw from the standard normal distribution (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log1p(-random(generator)))
    return radius * math.cos(2.0 * math.pi * random(generator))


@compiled
def poisson(generator: Any, mean: float) -> int:
    """A draw from the Poisson distribution (Knuth's product of uniforms; for means under about 30)."""
    bound = math.exp(-mean)
    draws, product = 0, random(generator)
    while product > bound:
        draws += 1
        product *= random(generator)
    return draws


@compiled
def softmax(scores: Any, k: int) -> None:
    """Turn the first ``k`` scores into probabilities, in place."""
    top = scores[0]
    for c in range(1, k):
        top = max(top, scores[c])
    total = 0.0
    for c in range(k):
        scores[c] = math.exp(scores[c] - top)
        total += scores[c]
    for c in range(k):
        scores[c] /= total


@compiled
def dot(a: Any, b: Any) -> float:
    """The inner product of two vectors, summed in eight lanes (so that it is fast in a fixed order)."""
    n = a.shape[0]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = n - n % 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    rest = 0.0
    for i in range(whole, n):
        rest += a[i] * b[i]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7)) + rest


# Online standardisation. ``scale`` is float64 (3, d): how many values a column has shown (at most the
# memory), their mean and their variance (Welford 1962, with a window that fades).


@compiled
def scale_learn(scale: Any, row: Any, memory: float, clip: float) -> None:
    """Take one row into the scale. A value farther than ``clip`` deviations counts as if it lay there."""
    for j in range(row.shape[0]):
        x = row[j]
        if x != x:
            continue
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
def scale_row(scale: Any, row: Any, clip: float, out: Any) -> None:
    """``row`` in deviations from the mean, clipped; 0 where missing or constant."""
    for j in range(row.shape[0]):
        x = row[j]
        if x != x or scale[2, j] <= 0.0:
            out[j] = 0.0
        else:
            z = (x - scale[1, j]) / math.sqrt(scale[2, j])
            out[j] = min(max(z, -clip), clip)
