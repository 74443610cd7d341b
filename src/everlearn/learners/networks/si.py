"""Synaptic intelligence (Zenke et al. 2017, "Continual learning through synaptic intelligence")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from everlearn.learners.inputs import positive
from everlearn.learners.networks.importance import Anchored
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class SynapticIntelligence(Anchored):
    """Weights are held where the last task left them, by how much they lowered its loss on their way (SI).

    ``damping`` keeps the importance of a weight that hardly moved finite. The other parameters are ``hold``
    of the penalty, and those of every network (``sample`` has no effect). It keeps no example at all.
    """

    name: ClassVar[str] = "si"
    good_for: ClassVar[str] = "a network that must keep no examples, where all classes come in every task"

    damping: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.damping = positive("damping", self.damping)

    def begin(self) -> None:
        """No weight has done anything yet."""
        super().begin()
        self.work = self.twin("work", blank=True)

    def observe(self, batch: Batch) -> None:
        """One step on the block and the penalty; each weight is credited with its share (equation 3)."""
        task = self.gradient_for(batch.x, batch.y)
        whole = [a + b for a, b in zip(task, self.pull(), strict=True)] if self.past else task
        before = [parameter.detach().clone() for parameter in self.parameters]
        self.descend([part.clamp(-1.0, 1.0) for part in whole])
        with torch.no_grad():
            work = [
                w
                for w, p in zip(self.work.parameters(), self.net.parameters(), strict=True)
                if p.requires_grad
            ]
            for credit, slope, old, new in zip(work, task, before, self.parameters, strict=True):
                credit.addcmul_(slope, new - old, value=-1.0)

    def consolidate(self) -> None:
        """Importance per length of the way (equation 5), and hold the weights where they are now."""
        weights = zip(
            self.importance.parameters(), self.work.parameters(), self.net.parameters(),
            self.anchor.parameters(), strict=True,
        )  # fmt: skip
        for kept, credit, now, start in weights:
            way = (now.detach() - start).square()
            kept.add_((credit / (way + self.damping)).clamp(min=0.0))
            credit.zero_()
        self.copy_to(self.anchor)
