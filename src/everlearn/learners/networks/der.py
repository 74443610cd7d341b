"""Dark experience replay (Buzzega et al. 2020, "Dark experience for general continual learning")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everlearn.learners.inputs import at_least, positive
from everlearn.learners.networks.buffers import Reservoir
from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class DarkReplay(Network):
    """The network is held to the scores that it gave to ``replay`` rows of a buffer when they came (DER).

    ``size`` rows are kept, each that ever came as likely as another, with the scores of that moment;
    ``alpha`` weighs the squared distance from them (equation 5). The other parameters are those of every
    network: :class:`~everlearn.learners.networks.network.Network`.
    """

    name: ClassVar[str] = "der"
    good_for: ClassVar[str] = (
        "a network that keeps old classes with a small buffer, without tasks to be told of"
    )

    size: int = 500
    replay: int = 10
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("size", self.size, 1)
        at_least("replay", self.replay, 1)
        self.alpha = positive("alpha", self.alpha)

    def begin(self) -> None:
        """An empty buffer with room for scores."""
        self.memory = self.keep("memory", self.reservoir(self.size, scores=True))

    def observe(self, batch: Batch) -> None:
        """One step on the block and on the distance from old scores (algorithm 1)."""
        scores = self.scored(batch.x)
        loss = self.loss(scores, batch.y)
        if len(self.memory):
            places, x, _ = self.drawn(self.memory, self.replay)
            loss = loss + self.alpha * distance(self.scored(x), self.memory, places)
        self.descend(self.gradient(loss))
        self.memory.add(self.draw, batch.rows, batch.targets, scores.detach().float().cpu().numpy())


def distance(scores: Tensor, memory: Reservoir, places: NDArray[np.int64]) -> Tensor:
    """The mean squared distance from the scores at some places of a buffer, of outputs there were then."""
    then = torch.from_numpy(memory.scores[places]).to(scores.device)
    there = ~torch.isnan(then)
    apart = torch.where(there, scores - then, torch.zeros_like(scores))
    return (apart * apart).sum() / there.sum()
