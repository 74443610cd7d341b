"""Fine-tuning: plain descent on what comes, which forgets; the lower bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class FineTuning(Network):
    """A network that learns what comes and keeps nothing against forgetting.

    The parameters are those of every network: see :class:`~everlearn.learners.networks.network.Network`.
    """

    name: ClassVar[str] = "fine_tuning"
    good_for: ClassVar[str] = "a network on a stream in which all classes come all the time"
    cannot: ClassVar[str] = "keep what does not come any more: it is the baseline of those that can"

    def observe(self, batch: Batch) -> None:
        """One step of descent on the block."""
        self.descend(self.gradient_for(batch.x, batch.y))
