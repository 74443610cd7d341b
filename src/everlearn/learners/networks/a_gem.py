"""Averaged gradient episodic memory (Chaudhry et al. 2019, "Efficient lifelong learning with A-GEM")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from everlearn.learners.inputs import at_least
from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class AveragedGem(Network):
    """A step may not raise the loss on ``replay`` rows of earlier tasks: else it is projected (A-GEM).

    The buffer of ``size`` rows has an equal part for each task that has ended. The other parameters are
    those of every network: :class:`~everlearn.learners.networks.network.Network`.
    """

    name: ClassVar[str] = "a_gem"
    good_for: ClassVar[str] = "a network whose tasks share their classes, at little cost"

    size: int = 500
    replay: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("size", self.size, 1)
        at_least("replay", self.replay, 1)

    def begin(self) -> None:
        """Two buffers: of the tasks that have ended, and a sample of this one."""
        self.memory = self.keep("memory", self.reservoir(self.size))
        self.recent = self.keep("recent", self.reservoir(self.size))

    def observe(self, batch: Batch) -> None:
        """One step, projected where it would raise the loss on the memory (equation 11)."""
        step = self.gradient_for(batch.x, batch.y)
        if len(self.memory):
            _, x, y = self.drawn(self.memory, self.replay)
            old = self.gradient_for(x, y)
            along = torch.stack([(a * b).sum() for a, b in zip(step, old, strict=True)]).sum()
            if along < 0:
                length = torch.stack([(part * part).sum() for part in old]).sum()
                step = [a - along / length * b for a, b in zip(step, old, strict=True)]
        self.descend(step)
        self.recent.add(self.draw, batch.rows, batch.targets)

    def consolidate(self) -> None:
        """Give this task its part of the memory; the others make room."""
        tasks = self.past + 1
        share, rows = max(self.size // tasks, 1), len(self.memory)
        old = np.array_split(np.arange(rows), tasks - 1) if tasks > 1 else []
        kept = [places[:share] for places in old]
        new = self.recent.sample(self.draw, share)
        places = np.concatenate([*kept, np.empty(0, dtype=np.int64)])
        for mine, theirs in (
            (self.memory.rows, self.recent.rows),
            (self.memory.targets, self.recent.targets),
        ):
            together = np.concatenate([mine[places], theirs[new]])[: self.size]
            mine[:] = 0.0
            mine[: len(together)] = together
        self.memory.counts[0] = min(len(places) + len(new), self.size)
        self.recent.clear()
