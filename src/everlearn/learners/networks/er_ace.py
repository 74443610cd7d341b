"""Experience replay with asymmetric cross-entropy (Caccia et al. 2022, "New insights on reducing abrupt
representation change in online continual learning")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from everlearn.learners.networks.er import ExperienceReplay
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class AsymmetricReplay(ExperienceReplay):
    """Replay in which new rows compete among their own classes alone, rows of the buffer among all (ER-ACE).

    So the first rows of a new class do not push the old ones about. The parameters are those of ``er``.
    """

    name: ClassVar[str] = "er_ace"
    good_for: ClassVar[str] = "a network that keeps old classes and does not falter while new ones come"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def observe(self, batch: Batch) -> None:
        """One step on the block among its classes (equation 5) and on rows of the buffer among all."""
        scores = self.scored(batch.x)
        here = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        here[batch.y] = True
        loss = self.loss(scores.masked_fill(~here, -torch.inf), batch.y)
        if len(self.replayed):
            _, x, y = self.drawn(self.replayed, self.replay)
            loss = loss + self.loss(self.scored(x), y)
        self.descend(self.gradient(loss))
        self.memory.add(self.draw, batch.rows, batch.targets)
