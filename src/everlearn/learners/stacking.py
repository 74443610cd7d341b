"""How the blend makes one answer of its members', and learns what each of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import stacking_kernels, stacking_values
from everlearn.learners.contract import State
from everlearn.learners.streaming import room
from everlearn.types import FloatArray, Task

FORGETTING = (0.99999, 0.9995, 0.997)
"""How much of its evidence each Newton stack keeps from row to row."""

_PULLS = (
    100.0,
    10.0,
    3.0,
)  # how many rows' worth of evidence each stack's start is: the slow one is cautious
_BIAS_PULL = 100.0
_RING = 8192  # rows asked whose labels are awaited, at most
_RING_BYTES = 1 << 24
_LEAST_SHARE = 1e-4
_NO_RING = np.zeros(0, dtype=np.uint64)


class Stacking:
    """What each of M experts is worth, for one task; see the kernels' modules for the algorithm.

    ``prior`` (M,) is what each is taken to be worth before anything is known (even by default); ``costly``
    are the spans of experts whose worth is measured, in :attr:`merit`, by stacks that do without them.
    """

    arrays: ClassVar[tuple[str, ...]] = (
        "theta", "hessian", "shares", "top", "merit", "counts", "scale", "deaf_theta", "deaf_hessian",
    )  # fmt: skip

    def __init__(
        self,
        task: Task,
        experts: int,
        *,
        prior: FloatArray | None = None,
        costly: Sequence[slice] = (),
    ) -> None:
        biases = 1 if task == "regression" else stacking_kernels.BIASES
        size, stacks = experts + biases, len(FORGETTING)
        self.experts = experts
        self._values = task == "regression"
        # FLOOR, SHARE, RATE, TOP_SHARE, TOP_RATE
        self._numbers = np.array([3e-3, 1e-3, 0.3, 1e-3, 0.1])
        self._keeps = np.array(FORGETTING)
        self._start = np.zeros(size)
        self._start[:experts] = 1.0 / experts if prior is None else prior / prior.sum()
        self._pull = np.full((stacks, size), _BIAS_PULL)
        self._pull[:, :experts] = np.array(_PULLS)[:, None]
        self._spans = np.array([[span.start, span.stop] for span in costly], dtype=np.int64).reshape(-1, 2)
        self.theta: FloatArray = np.tile(self._start, (stacks, 1))
        self.hessian = np.stack([np.diag(pull) for pull in self._pull])
        self.deaf_theta: FloatArray = np.tile(self._start, (len(costly), 1))
        self.deaf_hessian = np.tile(np.diag(self._pull[stacking_kernels.MIDDLE]), (len(costly), 1, 1))
        self.shares = np.maximum(self._start[:experts], _LEAST_SHARE)
        self.shares /= self.shares.sum()
        self.top = np.full(stacks + 1, 1.0 / (stacks + 1))
        self.merit = np.zeros(len(costly) + 2)
        self.counts = np.zeros(2, dtype=np.int64)  # classes seen, rows judged
        self.scale = np.zeros(6)  # of the target
        self.asked = Asked(experts)

    def answer(
        self, answers: FloatArray, rows: FloatArray, awake: NDArray[np.bool_], ask: bool
    ) -> FloatArray:
        """One answer a row from the experts' (n, M, k) or (n, M); remembered until its label if ``ask``."""
        keys, ring = self.ready(1 if self._values else answers.shape[2], len(rows), ask), self.asked
        bits = rows.view(np.uint64)
        if self._values:
            out = np.empty(len(rows))
            stacking_values.answer_rows(
                answers[:, :, None], awake, self.theta, self.shares, self.top, self.scale, bits,
                keys, ring.kept, ring.awake, ring.told, ring.ends, out,
            )  # fmt: skip
            return out
        out = np.zeros((len(rows), answers.shape[2]))
        stacking_kernels.answer_rows(
            answers, awake, self.theta, self.shares, self.top, self._numbers, self.counts, bits,
            keys, ring.kept, ring.awake, ring.told, ring.ends, out,
        )  # fmt: skip
        return out

    def ready(self, classes: int, rows: int, ask: bool) -> NDArray[np.uint64]:
        """The ring's keys, with room for so many rows; no keys unless answers are to be remembered."""
        self.asked.grow(classes, rows if ask else 0)
        return self.asked.keys if ask else _NO_RING

    def learn(
        self,
        asked: FloatArray,
        rows: FloatArray,
        fresh: FloatArray,
        fresh_of_rows: bool,
        targets: NDArray[Any],
        weights: FloatArray,
        awake: NDArray[np.bool_],
        answers: FloatArray,
    ) -> None:
        """Answer ``asked[i]`` and judge by ``rows[i]``, row by row: see the kernels' ``learn_rows``."""
        ring = self.asked
        ring.grow(1 if self._values else fresh.shape[2], len(answers))
        learn_rows = stacking_values.learn_rows if self._values else stacking_kernels.learn_rows
        learn_rows(
            asked.view(np.uint64), rows.view(np.uint64), fresh[:, :, None] if self._values else fresh,
            fresh_of_rows, targets, weights, awake,
            self.theta, self._start, self.hessian, self._keeps, self._pull, self.shares, self.top,
            self._numbers, self.merit, (self._spans, self.deaf_theta, self.deaf_hessian),
            self.scale if self._values else self.counts,
            ring.keys, ring.kept, ring.awake, ring.told, ring.ends, answers,
        )  # fmt: skip

    def weights(self) -> FloatArray:
        """What each expert weighs in the answers now, (M,): the stacks' weights as the top mixes them."""
        mixed: FloatArray = self.top[:-1] @ self.theta[:, : self.experts] + self.top[-1] * self.shares
        return mixed

    def state(self) -> State:
        """The weights and the evidence for them."""
        return {name: getattr(self, name).copy() for name in self.arrays}

    def restore(self, state: State) -> None:
        """Take over a state; raises ValueError for one that does not fit."""
        for name in self.arrays:
            made = getattr(self, name)
            values = np.array(state[name], dtype=made.dtype, order="C")
            if values.shape != made.shape:
                raise ValueError(f"{name} has shape {values.shape}, not {made.shape}")
            setattr(self, name, values)


class Asked:
    """What experts and stacks answered to rows whose labels are awaited: a ring, the oldest falls out.

    Not part of a learner's state: a restored learner judges its members by fresh answers until it has
    been asked again.
    """

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self.ends = np.zeros(2, dtype=np.int64)  # how many rows were taken out, and put in
        self._make(16, 1)

    def _make(self, size: int, classes: int) -> None:
        self.keys = np.zeros(size, dtype=np.uint64)
        self.kept = np.zeros((size, self.experts, classes))
        self.awake = np.zeros((size, self.experts), dtype=np.bool_)
        self.told = np.zeros((size, len(FORGETTING) + 1, classes))

    def limit(self, classes: int) -> int:
        """How many rows it holds at most."""
        return min(_RING, max(64, _RING_BYTES // (8 * self.experts * room(classes))))

    def grow(self, classes: int, rows: int) -> None:
        """Make room for more rows of so many classes; over the limit the oldest are forgotten."""
        size, _, width = self.kept.shape
        first, end = self.ends.tolist()
        waiting = end - first + rows
        if classes <= width and waiting <= size:
            return
        needed = min(waiting, self.limit(classes))
        if classes <= width and needed <= size:
            return
        keys, kept, awake, told = self.keys, self.kept, self.awake, self.told
        classes = max(classes, width)
        self._make(min(max(room(needed), size), self.limit(classes)), room(classes))
        old = np.arange(max(first, end - len(self.keys)), end) % size
        n = len(old)
        self.keys[:n], self.awake[:n] = keys[old], awake[old]
        self.kept[:n, :, :width], self.told[:n, :, :width] = kept[old], told[old]
        self.ends[:] = 0, n
