"""Where did a change begin? A detector tells that the loss has risen, and only roughly since when.

ADWIN, for one, cuts at the borders of its buckets, which may lie hundreds of rows before the change: rows of
the old regime would then be taken for the new one's. The likelihood of the losses knows better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

LEAST_AFTER = 5
"""Losses that must follow the change."""

GAIN = 5.0
"""Log-likelihood that a change must gain. Over a few hundred splits of stable losses the best gains as
much in about one or two cases of a hundred."""


def rise(losses: FloatArray, least: int = LEAST_AFTER, gain: float = GAIN) -> int | None:
    """The index at which losses (n,) in [0, 1], oldest first, most probably began to be higher.

    The maximum likelihood estimate of a single change of a Bernoulli mean, upwards (Hinkley & Hinkley
    1970); for losses between 0 and 1 its quasi-likelihood. ``None`` if no change is plain: no split has
    the higher mean after it and gains ``gain`` nats. Give it all losses since the last change, so that
    what is high has something low before it.

    >>> rise(np.repeat([0.0, 1.0, 0.0, 1.0], [40, 1, 40, 20]))
    81
    """
    n = len(losses)
    if n < 2 * least:
        return None
    total = float(losses.sum())
    sums = np.cumsum(losses)[least - 1 : n - least]
    before = np.arange(least, n - least + 1, dtype=np.float64)
    after, rest = n - before, total - sums
    gained = _likelihood(sums, before) + _likelihood(rest, after)
    gained -= _likelihood(np.array([total]), np.array([float(n)]))
    gained[rest / after <= sums / before] = -np.inf
    best = int(gained.argmax())
    return least + best if gained[best] >= gain else None


def _likelihood(sums: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest log-likelihood of so many rows with such a sum of losses."""
    p = np.clip(sums / rows, 1e-12, 1 - 1e-12)
    return np.asarray(sums * np.log(p) + (rows - sums) * np.log1p(-p), dtype=np.float64)
