"""Dark experience replay with labels (Buzzega et al. 2020, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from everlearn.learners.inputs import positive
from everlearn.learners.networks.der import DarkReplay, distance
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class DarkReplayLabels(DarkReplay):
    """Dark replay that is held to the labels of other ``replay`` rows of the buffer, too (DER++).

    ``beta`` weighs their loss (equation 6); the rest is as for ``der``.
    """

    name: ClassVar[str] = "der_pp"
    good_for: ClassVar[str] = (
        "a network that keeps old classes: the best of the replay methods in most settings"
    )

    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.beta = positive("beta", self.beta)

    def observe(self, batch: Batch) -> None:
        """One step on the block, on the distance from old scores, and on old labels (algorithm 2)."""
        scores = self.scored(batch.x)
        loss = self.loss(scores, batch.y)
        if len(self.memory):
            places, x, _ = self.drawn(self.memory, self.replay)
            loss = loss + self.alpha * distance(self.scored(x), self.memory, places)
            _, x, y = self.drawn(self.memory, self.replay)
            loss = loss + self.beta * self.loss(self.scored(x), y)
        self.descend(self.gradient(loss))
        self.memory.add(self.draw, batch.rows, batch.targets, scores.detach().float().cpu().numpy())
