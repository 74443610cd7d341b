"""Isotonic regression of a probability: the rising steps that fit 0/1 outcomes best."""

from __future__ import annotations

import numpy as np

from everlearn.types import FloatArray


def isotonic_knots(chances: FloatArray, outcomes: FloatArray) -> FloatArray:
    """Knots (2, m), probabilities and what they mean, of the isotonic regression of ``outcomes`` (n,).

    Pool adjacent violators (Ayer et al. 1955; Best & Chakravarti 1990): runs of rows in order of
    ``chances`` (n,) whose means would fall are joined. A run's mean is held as far from 0 and 1 as one
    more outcome of either kind among all rows would put it, so that no outcome becomes impossible.

    >>> isotonic_knots(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.0, 1.0, 0.0, 1.0])).round(2)
    array([[0.1 , 0.2 , 0.3 , 0.9 ],
           [0.17, 0.5 , 0.5 , 0.83]])
    """
    places, which = np.unique(chances, return_inverse=True)
    weights = np.bincount(which).astype(np.float64)
    sums = np.bincount(which, weights=outcomes)
    blocks: list[tuple[float, float, float, float]] = []  # first and last place, sum, weight
    for place, total, weight in zip(places.tolist(), sums.tolist(), weights.tolist(), strict=True):
        first = last = place
        while blocks and blocks[-1][2] * weight >= total * blocks[-1][3]:
            first, _, before, heavier = blocks.pop()
            total, weight = total + before, weight + heavier
        blocks.append((first, last, total, weight))
    edge = 1 / (len(chances) + 2)
    knots = []
    for first, last, total, weight in blocks:
        mean = min(max(total / weight, edge), 1 - edge)
        knots += [(first, mean)] if first == last else [(first, mean), (last, mean)]
    return np.array(knots).T.copy()
