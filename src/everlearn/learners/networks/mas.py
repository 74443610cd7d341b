"""Memory-aware synapses (Aljundi et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from everlearn.learners.networks.importance import Anchored, each_gradient
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class MemoryAwareSynapses(Anchored):
    """Weights are held where the last task left them, by how much the scores depend on them (MAS).

    The parameters are ``hold`` and ``sample`` of the penalty, and those of every network. It needs no labels
    to tell what matters, and keeps no example for good.
    """

    name: ClassVar[str] = "mas"
    good_for: ClassVar[str] = "a network that must keep no examples, where all classes come in every task"

    def begin(self) -> None:
        """Nothing matters yet, and a sample of the task's rows."""
        super().begin()
        self.recent = self.keep("recent", self.reservoir(self.sample))

    def observe(self, batch: Batch) -> None:
        """One step on the block and the penalty (equation 4)."""
        task = self.gradient_for(batch.x, batch.y)
        self.descend([a + b for a, b in zip(task, self.pull(), strict=True)] if self.past else task)
        self.recent.add(self.draw, batch.rows, batch.targets)

    def consolidate(self) -> None:
        """Add the mean size of the gradient of the scores' squared length (equation 3)."""
        rows = len(self.recent)
        x, y = self.tensors(self.recent.rows[:rows], self.recent.targets[:rows])
        found = each_gradient(self.net, _length, x, y, torch.abs)
        for kept, new in zip(self.importance.parameters(), found, strict=True):
            kept.add_(new)
        self.copy_to(self.anchor)
        self.recent.clear()


def _length(scores: Tensor, _: Tensor) -> Tensor:
    return (scores * scores).sum()
