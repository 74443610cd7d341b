"""Learning without forgetting (Li and Hoiem 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from everlearn.learners.inputs import positive
from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class WithoutForgetting(Network):
    """The network of before the task answers the new rows, too, and is a teacher for the old classes (LwF).

    ``alpha`` weighs the distillation, ``temperature`` softens it. It keeps no example, but a second network.
    The other parameters are those of every network.
    """

    name: ClassVar[str] = "lwf"
    good_for: ClassVar[str] = "a network that must keep no examples, where new tasks resemble the old ones"

    alpha: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha, self.temperature = (
            positive("alpha", self.alpha),
            positive("temperature", self.temperature),
        )

    def begin(self) -> None:
        """The teacher; ``shown`` is how many classes it knows."""
        self.teacher = self.twin("teacher")

    def observe(self, batch: Batch) -> None:
        """One step on the block and on the teacher's answers to it (figure 3)."""
        scores = self.scored(batch.x)
        loss = self.loss(scores, batch.y)
        if self.past:
            with torch.no_grad():
                taught = self.teacher(batch.x)
            loss = loss + self.alpha * self._distil(scores, taught)
        self.descend(self.gradient(loss))

    def _distil(self, scores: Tensor, taught: Tensor) -> Tensor:
        """Cross-entropy with the teacher's softened answers, over the classes that it knows (equation 2)."""
        if self.task == "regression":
            return functional.mse_loss(scores, taught)
        old = int(self.counters[5])
        soft = (taught[:, :old] / self.temperature).softmax(1)
        return functional.cross_entropy(scores[:, :old] / self.temperature, soft)

    def consolidate(self) -> None:
        """The network of now is the teacher of what follows."""
        self.copy_to(self.teacher)
        self.counters[5] = self.known
