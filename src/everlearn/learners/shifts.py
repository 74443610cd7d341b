"""Which members of a blend are at work, and what each has weighed over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.contract import State
from everlearn.types import FloatArray

BLOCK = 512
"""Rows between looks at what the members are worth."""

_USELESS = 0.015  # the share of the mixture's loss that a costly member must save, or it is put to sleep
_FIRST_NAP, _LONGEST = 8, 64  # blocks
_TRIAL = 4  # blocks that a member works before it can be put to sleep
_WORSE, _MARGIN = 1.25, 0.02  # how much the loss must have grown of late for all to be woken


class Sleep:
    """Puts costly members that do not help to sleep, one a block, and wakes them to be tried again.

    A sleeper neither answers nor learns. Its first nap is 8 blocks of rows; each later one is twice as
    long, up to 64, until it has stayed awake for as long as it slept. When the mixture's loss grows, as
    after a drift, all are woken.
    """

    def __init__(self, spans: Sequence[slice], costly: Sequence[bool]) -> None:
        self._spans, self._costly = list(spans), np.array(costly, dtype=np.bool_)
        members = int(self._costly.sum())
        self._left = np.zeros(members, dtype=np.int64)  # blocks left to sleep
        self._nap = np.full(members, _FIRST_NAP, dtype=np.int64)  # the length of the next nap
        self._worked = np.zeros(members, dtype=np.int64)  # blocks since it woke
        self._follow()

    def _follow(self) -> None:
        sleeping = np.zeros(len(self._spans), dtype=np.bool_)
        sleeping[self._costly] = self._left > 0
        self.asleep: list[bool] = sleeping.tolist()
        sizes = [span.stop - span.start for span in self._spans]
        self.awake: NDArray[np.bool_] = np.repeat(~sleeping, sizes)

    def review(self, merit: FloatArray) -> None:
        """Decide for the next block.

        ``merit`` (C + 2,) is the loss that each of the C costly members has saved lately, then the
        mixture's loss lately and in the long run.
        """
        saved, (lately, usually) = merit[:-2], merit[-2:]
        sleeping = self._left > 0
        self._left[sleeping] -= 1
        if lately > _WORSE * usually + _MARGIN:
            self._left[:] = 0
        self._worked = np.where(sleeping, 0, self._worked + 1)
        rested = ~sleeping & (self._worked >= 2 * self._nap)
        self._nap[rested] = _FIRST_NAP
        able = ~sleeping & (self._worked >= _TRIAL)
        if able.any():
            least = int(np.argmin(np.where(able, saved, np.inf)))
            if saved[least] < _USELESS * lately:
                self._left[least] = self._nap[least]
                self._nap[least] = min(2 * self._nap[least], _LONGEST)
        self._follow()

    def state(self) -> State:
        """Who sleeps, for how long."""
        return {"left": self._left.copy(), "nap": self._nap.copy(), "worked": self._worked.copy()}

    def restore(self, state: State) -> None:
        """Take over a state; raises ValueError for one that does not fit."""
        for name in ("left", "nap", "worked"):
            values = np.array(state[name], dtype=np.int64)
            if values.shape != self._left.shape:
                raise ValueError(f"{name} has shape {values.shape}, not {self._left.shape}")
            setattr(self, f"_{name}", values)
        self._follow()


class History:
    """What each expert weighed over time, in at most 256 samples, evenly apart."""

    LIMIT = 256

    def __init__(self, experts: int) -> None:
        self.learned = np.zeros(2, dtype=np.int64)  # rows learned; rows between samples
        self.learned[1] = BLOCK
        self.weights = np.zeros((0, experts))
        self.rows = np.zeros(0, dtype=np.int64)

    def append(self, weights: FloatArray) -> None:
        """Sample the weights (M,), if it is time; when there are too many, keep every second sample."""
        if self.learned[0] % self.learned[1]:
            return
        self.weights = np.vstack([self.weights, weights])
        self.rows = np.append(self.rows, self.learned[0])
        if len(self.rows) == self.LIMIT:
            self.weights, self.rows = self.weights[1::2].copy(), self.rows[1::2].copy()
            self.learned[1] *= 2

    def state(self) -> State:
        """The samples."""
        return {"learned": self.learned.copy(), "weights": self.weights.copy(), "rows": self.rows.copy()}

    def restore(self, state: State) -> None:
        """Take over a state; raises ValueError for one that does not fit."""
        learned, rows = (np.array(state[name], dtype=np.int64) for name in ("learned", "rows"))
        weights = np.array(state["weights"], dtype=np.float64)
        if learned.shape != (2,) or learned[1] < 1 or weights.shape != (len(rows), self.weights.shape[1]):
            raise ValueError("the history of weights is not whole")
        self.learned, self.rows, self.weights = learned, rows, weights
