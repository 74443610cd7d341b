"""Replay with a fast and a slow memory (Arani et al. 2022, "Learning fast, learning slow")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from everlearn.learners.inputs import invalid, positive
from everlearn.learners.networks.er import ExperienceReplay
from everlearn.learners.networks.modules import Headed
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class ComplementaryReplay(ExperienceReplay):
    """Replay beside two moving averages of the network's weights, a plastic and a stable one (CLS-ER).

    The network is held (``alpha``) to the scores for old rows of whichever of the two is surer of their
    labels; the stable one answers. Each is moved towards the network after a block with a chance of
    ``plastic_chance`` and ``stable_chance``, by one less ``plastic_fade`` and ``stable_fade``. Good with a
    small buffer; costs three networks. The other parameters are those of ``er``.
    """

    name: ClassVar[str] = "cls_er"
    good_for: ClassVar[str] = "a network that keeps old classes with a small buffer, and answers steadily"

    alpha: float = 1.0
    plastic_chance: float = 0.9
    stable_chance: float = 0.5
    plastic_fade: float = 0.99
    stable_fade: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha = positive("alpha", self.alpha)
        for field in ("plastic_chance", "stable_chance", "plastic_fade", "stable_fade"):
            if not 0.0 < getattr(self, field) <= 1.0:
                raise invalid(field, f"{getattr(self, field)!r} is not within 0 and 1")

    def begin(self) -> None:
        """An empty buffer, and two copies of the network."""
        super().begin()
        self.plastic, self.stable = self.twin("plastic"), self.twin("stable")

    def observe(self, batch: Batch) -> None:
        """One step on the block, rows of the buffer, and the distance from the two memories (algorithm 1)."""
        x, y, apart = batch.x, batch.y, None
        if len(self.replayed):
            _, old_x, old_y = self.drawn(self.replayed, self.replay)
            apart = self.scored(old_x) - self._surer(old_x, old_y)
            x, y = torch.cat((x, old_x)), torch.cat((y, old_y))
        loss = self.loss(self.scored(x), y)
        if apart is not None:
            loss = loss + self.alpha * (apart * apart).mean()
        self.descend(self.gradient(loss))
        self.memory.add(self.draw, batch.rows, batch.targets)
        chances = self.draw.random(2)
        if chances[0] < self.plastic_chance:
            self._follow(self.plastic, self.plastic_fade)
        if chances[1] < self.stable_chance:
            self._follow(self.stable, self.stable_fade)

    @torch.no_grad()
    def _surer(self, x: Tensor, y: Tensor) -> Tensor:
        """The scores of the memory that is surer of each row's label."""
        plastic, stable = self.plastic(x), self.stable(x)
        if self.task == "regression":
            better = (stable[:, 0] - y).abs() < (plastic[:, 0] - y).abs()
        else:
            own = y[:, None]
            better = stable.softmax(1).gather(1, own)[:, 0] > plastic.softmax(1).gather(1, own)[:, 0]
        return torch.where(better[:, None], stable, plastic)

    @torch.no_grad()
    def _follow(self, memory: Headed, fade: float) -> None:
        """Move a memory towards the network; fast at first, when it has little to remember."""
        fade = min(1.0 - 1.0 / (int(self.counters[0]) + 2), fade)
        for old, new in zip(memory.parameters(), self.net.parameters(), strict=True):
            old.mul_(fade).add_(new, alpha=1.0 - fade)
        for kept, now in zip(memory.buffers(), self.net.buffers(), strict=True):
            kept.copy_(now)

    def scores(self, x: Tensor) -> Tensor:
        """The stable memory answers."""
        out: Tensor = self.stable(x)
        return out
