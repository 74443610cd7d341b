"""Networks that are trained afresh, on the rows that they keep, whenever they are asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from everlearn.learners.inputs import at_least
from everlearn.learners.networks.network import Batch, Network
from everlearn.types import FloatArray


@dataclass(kw_only=True, eq=False)
class Refitted(Network):
    """Rows are only kept; a new network learns them, ``epochs`` times over, when an answer is wanted.

    The rate falls from ``rate`` to a hundredth along half a cosine.
    """

    prefers: ClassVar[Literal["stream", "triggered"]] = "triggered"

    size: int = 500
    epochs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("size", self.size, 2)
        at_least("epochs", self.epochs, 1)

    def begin(self) -> None:
        """Nothing is kept."""
        self.memory = self.keep("memory", self.reservoir(self.size))

    def collect(self, rows: FloatArray, targets: FloatArray) -> None:
        """Decide which of some rows to keep."""
        raise NotImplementedError

    def _take(self, rows: FloatArray, targets: FloatArray) -> None:
        if self.task == "classification":
            self._meet(int(targets.max()) + 1)
        self.collect(rows, targets)
        self.counters[5] = 1  # not trained since

    def ready(self) -> None:
        """Train, if anything was learned since it was."""
        if not self.counters[5]:
            return
        kept = len(self.memory)
        rows, targets = self.memory.rows[:kept].astype(np.float64), self.memory.targets[:kept]
        self._afresh(rows, targets)
        blocks = -(-kept // self.batch)
        steps, full = self.epochs * blocks, self.rate
        try:
            for epoch in range(self.epochs):
                self.counters[0] = epoch
                self.reseed(0)
                order = self.draw.permutation(kept)
                for block in range(blocks):
                    place = np.sort(order[block * self.batch : (block + 1) * self.batch])
                    turn = math.pi * (epoch * blocks + block) / steps
                    self.rate = full * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(turn)))
                    self._train(rows[place], targets[place])
        finally:
            self.rate = full
        self.counters[0], self.counters[5] = 0, 0

    def _afresh(self, rows: FloatArray, targets: FloatArray) -> None:
        """A new network, and columns and targets scaled by the rows kept."""
        self.net.load_state_dict(self.build(self.net.head.out_features).state_dict())
        if self.momentum:
            for values in self.velocity:
                values.zero_()
        self.inputs.seen[:], self.target[:] = 0.0, 0.0
        self.inputs.learn(rows)
        if self.task == "regression":
            self.standardise(targets)

    def _train(self, rows: FloatArray, targets: FloatArray) -> None:
        self._shown(Batch(rows, targets, *self.tensors(rows, targets)))

    def observe(self, batch: Batch) -> None:
        """One step of descent on a block of the rows kept."""
        self.descend(self.gradient_for(batch.x, batch.y))
