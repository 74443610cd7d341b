"""How much less do rows tell that depend on their neighbours? The integrated autocorrelation time.

The mean of n rows of a stationary series varies like that of n / τ independent ones, with
τ = 1 + 2 Σ ρ(lag); the sum is cut at the first pair of lags that is not above noise (Geyer 1992,
section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

BLOCK = 500
"""Rows around whose mean a long column is taken, so that a change of level is no autocorrelation."""


def autocorrelation_time(codes: Sequence[float], ordered: bool) -> float:
    """τ >= 1 of a column in time order; ``codes`` (n,) are its cells, or values.

    Ordered codes correlate by their ranks. Of others it is how much oftener than by chance two rows are
    the same. It is 1 where the first lag is not above noise (three standard errors).

    >>> autocorrelation_time([0, 1] * 50, ordered=True), autocorrelation_time([0] * 50 + [1] * 50, True) > 20
    (1.0, True)
    """
    array = np.asarray(codes)
    signals = _in_blocks(_ranks(array)[:, None] if ordered else _indicators(array))
    scale = float((signals**2).sum())
    if len(array) < 20 or scale <= 0.0:
        return 1.0
    noise = 1.0 / math.sqrt(len(array))
    if _correlation(signals, 1, scale) < 3.0 * noise:
        return 1.0
    total = 1.0
    for lag in range(1, min(len(array), BLOCK) // 3, 2):
        pair = _correlation(signals, lag, scale) + _correlation(signals, lag + 1, scale)
        if pair < noise:
            break
        total += 2.0 * pair
    return total


def _in_blocks(signals: FloatArray) -> FloatArray:
    """Signals (n, k) around the mean of their block; the blocks are equally long."""
    blocks = np.array_split(signals, max(1, round(len(signals) / BLOCK)))
    return np.concatenate([block - block.mean(axis=0) for block in blocks]) if len(signals) else signals


def _correlation(signals: FloatArray, lag: int, scale: float) -> float:
    return float((signals[lag:] * signals[:-lag]).sum()) / scale


def _ranks(codes: NDArray[Any]) -> FloatArray:
    """Average ranks; (n,)."""
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - counts / 2.0)[place]
    return ranks


def _indicators(codes: NDArray[Any]) -> FloatArray:
    """An indicator of each code; (n, k)."""
    _, place = np.unique(codes, return_inverse=True)
    hot: FloatArray = np.eye(int(place.max(initial=0)) + 1)[place]
    return hot
