"""The blend's cheapest pool in one compiled call: for one row, calling costs more than computing.

Gives what the members and the stacking give one after the other, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import additive_kernels, linear_kernels, stacking_kernels
from everlearn.learners.additive import Additive
from everlearn.learners.kernels import compiled
from everlearn.learners.linear import Linear
from everlearn.learners.rates import Rates, answer_classes
from everlearn.learners.stacking import Stacking
from everlearn.learners.streaming import Streaming
from everlearn.types import FloatArray

ORDER = (Rates, Linear, Additive)
"""The pool that is fused, in this order, for a classification."""


class Fused:
    """A pool and its stacking, answered in one call."""

    def __init__(self, pool: list[Any], stacking: Stacking) -> None:
        self._pool, self._stacking = pool, stacking
        self._arrays: Any = None

    @staticmethod
    def can(pool: list[Streaming]) -> bool:
        """Whether a pool is the one that is fused."""
        return tuple(type(member) for member in pool) == ORDER and pool[0].task == "classification"

    def forget(self) -> None:
        """The members' arrays may be others than they were: they are gathered anew before the next answer."""
        self._arrays = None

    def answer(self, rows: FloatArray, classes: int, ask: bool) -> FloatArray:
        """The stacking's answers (n, classes) to tidy rows; remembered until their labels come if ``ask``."""
        keys = self._stacking.ready(classes, len(rows), ask)
        if self._arrays is None or self._arrays[-1][0] is not keys:
            self._arrays = self._gathered(keys)
        out = np.zeros((len(rows), classes))
        _answer(rows, rows.view(np.uint64), out, *self._arrays)
        return out

    def _gathered(self, keys: NDArray[np.uint64]) -> Any:
        rates, linear, additive = self._pool
        stacking, ring = self._stacking, self._stacking.asked
        return (
            (rates._means, rates._counts),
            (
                linear._columns, linear._slots, linear._scale, linear._weights, linear._slot_weights,
                linear._worth, linear._counts, linear._numbers,
            ),
            (
                additive._kinds, additive._starts, additive._pairs, additive._edges, additive._coarse,
                additive._numbers, additive._scale, additive._tables, additive._crosses, additive._worth,
                additive._counts,
            ),
            (stacking.theta, stacking.shares, stacking.top, stacking._numbers, stacking.counts),
            (keys, ring.kept, ring.awake, ring.told, ring.ends),
        )  # fmt: skip


@compiled
def _answer(
    rows: Any, bits: Any, out: Any, rates: Any, linear: Any, additive: Any, stack: Any, ring: Any
) -> None:
    means, rates_counts = rates
    columns, slots, scale, weights, slot_weights, worth, counts, numbers = linear
    theta, shares, top, stack_numbers, stack_counts = stack
    keys, kept, kept_awake, told, ends = ring
    n, d = rows.shape
    first, second = means.shape[0], means.shape[0] + weights.shape[2]
    answers, awake = np.zeros((n, shares.shape[0], out.shape[1])), np.ones(shares.shape[0], np.bool_)
    nothing = np.zeros((0, out.shape[1]))
    answer_classes(means, rates_counts, answers[:, :first])
    linear_kernels.answer_classes(
        rows, columns, slots, scale, weights, slot_weights, worth, counts, numbers, nothing,
        answers[:, first:second],
    )  # fmt: skip
    kinds, starts, pairs, edges, coarse, settings, spread, tables, crosses, mixture, seen = additive
    at = np.zeros(2 * d + 1 + pairs.shape[0], np.int64)
    scores = np.zeros((2, tables.shape[3]))
    for i in range(n):
        additive_kernels.answer_row(
            rows[i], kinds, starts, pairs, edges, coarse, settings, spread, tables, crosses, mixture, seen,
            at, scores, nothing, answers[:, second:], i,
        )  # fmt: skip
    stacking_kernels.answer_rows(
        answers, awake, theta, shares, top, stack_numbers, stack_counts, bits, keys, kept, kept_awake, told,
        ends, out,
    )  # fmt: skip
