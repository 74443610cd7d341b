"""Online elastic weight consolidation (Kirkpatrick et al. 2017; Schwarz et al. 2018, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from everlearn.learners.inputs import invalid
from everlearn.learners.networks.importance import Anchored, each_gradient
from everlearn.learners.networks.network import Batch


@dataclass(kw_only=True, eq=False)
class OnlineEwc(Anchored):
    """Weights are held where the last task left them, by the Fisher information of all tasks so far (oEWC).

    ``fade`` is how much of the information of earlier tasks is kept when another ends. The other parameters
    are ``hold`` and ``sample`` of the penalty, and those of every network. It keeps no example for good; in
    return it cannot tell classes apart that never came together.
    """

    name: ClassVar[str] = "oewc"
    good_for: ClassVar[str] = "a network that must keep no examples, where all classes come in every task"

    fade: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.fade <= 1.0:
            raise invalid("fade", f"{self.fade!r} is not within 0 and 1")

    def begin(self) -> None:
        """No information yet, and a sample of the task's rows."""
        super().begin()
        self.recent = self.keep("recent", self.reservoir(self.sample))

    def observe(self, batch: Batch) -> None:
        """One step on the block and the penalty (Schwarz et al., equation 9)."""
        task = self.gradient_for(batch.x, batch.y)
        self.descend([a + b for a, b in zip(task, self.pull(), strict=True)] if self.past else task)
        self.recent.add(self.draw, batch.rows, batch.targets)

    def consolidate(self) -> None:
        """Add the diagonal of this task's Fisher information, and hold the weights where they are now.

        The information is the mean square of the gradient of the log-likelihood, under labels that the
        network itself would give.
        """
        rows = len(self.recent)
        x, y = self.tensors(self.recent.rows[:rows], self.recent.targets[:rows])
        if self.task == "classification":
            with torch.no_grad():
                chances = self.net(x)[:, : self.known].softmax(1).cumsum(1)
            drawn = torch.from_numpy(self.draw.random(rows)).to(chances)
            y = torch.searchsorted(chances, drawn[:, None]).clamp(max=self.known - 1)[:, 0]
        found = each_gradient(self.net, self.loss, x, y, torch.square)
        for kept, new in zip(self.importance.parameters(), found, strict=True):
            kept.mul_(self.fade).add_(new)
        self.copy_to(self.anchor)
        self.recent.clear()
