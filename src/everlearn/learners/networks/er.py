"""Experience replay (Ratcliff 1990; Chaudhry et al. 2019, "On tiny episodic memories")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from everlearn.learners.inputs import at_least, invalid
from everlearn.learners.networks.buffers import Balanced, Reservoir
from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class ExperienceReplay(Network):
    """Each block is learned beside ``replay`` rows of a buffer that samples all that was learned.

    ``size`` rows are kept: with ``buffer="reservoir"`` each row that ever came as likely as another, with
    ``"balanced"`` as many of each class as can be. With ``offer="row"`` a row may be learned again from the
    next block on; with ``"task"`` from the end of its task on, so that all rows beside a block are older
    than the task (what Avalanche's plugin does), at twice the memory: the sample that is learned from, and
    the one that is being drawn. The other parameters are those of every network:
    :class:`~everlearn.learners.networks.network.Network`.
    """

    name: ClassVar[str] = "er"
    good_for: ClassVar[str] = "a network that keeps old classes: simple, and hard to beat with a large buffer"

    size: int = 500
    replay: int = 10
    buffer: str = "reservoir"
    offer: str = "row"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("size", self.size, 1)
        at_least("replay", self.replay, 1)
        if self.buffer not in ("reservoir", "balanced"):
            raise invalid("buffer", f"{self.buffer!r} is neither 'reservoir' nor 'balanced'")
        if self.offer not in ("row", "task"):
            raise invalid("offer", f"{self.offer!r} is neither 'row' nor 'task'")
        if self.buffer == "balanced" and self.task == "regression":
            raise invalid("buffer", "'balanced' is for classes: use 'reservoir' in a regression")

    def begin(self) -> None:
        """An empty buffer."""
        self.memory = self.keep("memory", self._buffer())
        self.replayed = self.memory if self.offer == "row" else self.keep("replayed", self._buffer())

    def _buffer(self) -> Reservoir:
        made = self.reservoir(self.size)
        if self.buffer == "balanced":
            made = Balanced(self.size, made.rows.shape[1], dtype=made.rows.dtype, classes=self.max_classes)
        return made

    def consolidate(self) -> None:
        """From now on rows of the task that has ended are learned again, too."""
        if self.replayed is not self.memory:
            self.replayed.copy_from(self.memory)

    def observe(self, batch: Batch) -> None:
        """One step on the block and rows of the buffer together; then the block is offered to the buffer."""
        x, y = batch.x, batch.y
        if len(self.replayed):
            _, old_x, old_y = self.drawn(self.replayed, self.replay)
            x, y = torch.cat((x, old_x)), torch.cat((y, old_y))
        self.descend(self.gradient_for(x, y))
        self.memory.add(self.draw, batch.rows, batch.targets)
