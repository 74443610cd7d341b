"""How much each weight mattered: what the methods share that hold important weights where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from everlearn.learners.inputs import at_least, positive
from everlearn.learners.networks.modules import Headed
from everlearn.learners.networks.network import Network

_AT_ONCE = 50  # rows whose gradients are held together


@dataclass(kw_only=True, eq=False)
class Anchored(Network):
    """Weights are held near where they were when the last task ended, each by its importance.

    ``hold`` weighs the penalty ``sum_k importance_k (w_k - anchor_k)^2``. Importance is measured on a sample
    of at most ``sample`` rows of the task.
    """

    hold: float = 1.0
    sample: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hold = positive("hold", self.hold)
        at_least("sample", self.sample, 1)

    def begin(self) -> None:
        """No weight matters yet."""
        self.anchor, self.importance = self.twin("anchor"), self.twin("importance", blank=True)
        self._held: tuple[tuple[int, int], list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def pull(self) -> list[Tensor]:
        """The gradient of the penalty, times ``hold``; what takes no part in it has 0.

        The pull is at most as strong as undoes a weight's whole way in one step of the descent: beyond
        that, the step would run away.
        """
        strengths, starts = self._springs()
        found = torch._foreach_sub(self.parameters, starts)
        torch._foreach_mul_(found, strengths)
        return list(found)

    def _springs(self) -> tuple[list[Tensor], list[Tensor]]:
        """How strongly each weight is pulled, and where to; the same until a task ends or the head grows."""
        of = (self.past, self.net.head.out_features)
        if self._held is None or self._held[0] != of:
            most = 1.0 / self.rate
            moved = [parameter.requires_grad for parameter in self.net.parameters()]
            strengths = [
                (2.0 * self.hold * matters).clamp(max=most)
                for matters, moves in zip(self.importance.parameters(), moved, strict=True)
                if moves
            ]
            starts: list[Tensor] = [
                start for start, moves in zip(self.anchor.parameters(), moved, strict=True) if moves
            ]
            self._held = of, strengths, starts
        _, strengths, starts = self._held
        return strengths, starts


def each_gradient(
    net: Headed,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    size: Callable[[Tensor], Tensor],
) -> Sequence[Tensor]:
    """The mean over rows of ``size`` of each row's own gradient of ``loss(scores (1, k), y (1,))``."""
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    state = dict(net.named_buffers())

    def of_row(weights: dict[str, Tensor], row: Tensor, target: Tensor) -> Tensor:
        scores = functional_call(net, (weights, state), (row[None],))
        return loss(scores, target[None])

    gradients = vmap(grad(of_row), in_dims=(None, 0, 0))
    totals = [torch.zeros_like(value) for value in parameters.values()]
    for at in range(0, len(x), _AT_ONCE):
        found = gradients(parameters, x[at : at + _AT_ONCE], y[at : at + _AT_ONCE])
        for total, part in zip(totals, found.values(), strict=True):
            total += size(part).sum(dim=0)
    return [total / len(x) for total in totals]
