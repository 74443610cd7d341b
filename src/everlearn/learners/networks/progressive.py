"""Progressive networks (Rusu et al. 2016): a column a task, beside columns that are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from everlearn.learners.inputs import at_least, invalid
from everlearn.learners.networks.modules import Headed, headed
from everlearn.learners.networks.network import Batch, Network


class Columns(nn.Module):
    """``columns`` towers of ``hidden`` layers; from the second layer on each sees those before it, too."""

    def __init__(self, *, inputs: int, hidden: Sequence[int], columns: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList()
        for number in range(columns):
            sizes = [inputs, *hidden]
            beside = [1, *[number + 1] * (len(hidden) - 1)]
            layers = [nn.Linear(n * size, out) for n, size, out in zip(beside, sizes, hidden, strict=False)]
            for layer in layers:
                nn.init.xavier_normal_(layer.weight)
            self.towers.append(nn.ModuleList(layers))

    def forward(self, x: Tensor) -> Tensor:
        """The last features of all columns (n, columns * last of ``hidden``)."""
        before: list[list[Tensor]] = []
        for tower in self.towers:
            mine: list[Tensor] = []
            for depth, layer in enumerate(tower.children()):
                below = [*[other[depth - 1] for other in before], mine[-1]] if depth else [x.flatten(1)]
                mine.append(torch.relu(layer(torch.cat(below, dim=1))))
            before.append(mine)
        return torch.cat([mine[-1] for mine in before], dim=1)


class Owners:
    """Which column answers for each class, -1 for none yet: a part of the state."""

    bytes = 0

    def __init__(self, outputs: int) -> None:
        self.of = np.full(outputs, -1, dtype=np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it keeps."""
        return {"of": self.of}

    def grow(self, outputs: int) -> None:
        """Make room for more classes."""
        self.of = np.pad(self.of, (0, outputs - len(self.of)), constant_values=-1)


@dataclass(kw_only=True, eq=False)
class ProgressiveColumns(Network):
    """Each task trains a column of ``hidden`` layers of its own, which may look at those of earlier tasks.

    Earlier columns are frozen, so nothing of what they say is forgotten; a class stays with the column of
    the task in which it first came, and is not learned further in later ones, but held against new ones.
    There are ``columns`` of them; the last goes on when they are used up. Asked for the classes of one task
    alone it forgets nothing; asked for all, classes that never came together are hard to compare. Without
    ``decay``; the other parameters are those of every network, except for ``network``.
    """

    name: ClassVar[str] = "progressive"
    good_for: ClassVar[str] = "few tasks with classes of their own, and it is known which task a row is of"
    cannot: ClassVar[str] = "tell classes of two tasks apart well; learn an old class further in a later task"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    hidden: Sequence[int] = (100, 100)
    columns: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("columns", self.columns, 1)
        self.hidden = tuple(at_least("hidden", size, 1) for size in self.hidden)
        if not self.hidden:
            raise invalid("hidden", "is empty: give the size of one layer at least")
        if self.decay or self.network != "mlp" or self.network_parameters:
            raise invalid("network", "and decay are not for progressive columns: use hidden and columns")

    def build(self, outputs: int) -> Headed:
        """The columns, all of them, and one head."""
        given = {"inputs": self.inputs.inputs, "hidden": self.hidden, "columns": self.columns}
        return headed(
            Columns, given, inputs=self.inputs.inputs, shape=self.shape, outputs=outputs, seed=self.seed
        )

    def begin(self) -> None:
        """No column has a class."""
        self.owners = Owners(self.net.head.out_features)
        self.keep("owners", self.owners)

    @property
    def column(self) -> int:
        """The column that learns now."""
        return min(self.past, self.columns - 1)

    def observe(self, batch: Batch) -> None:
        """One step of this task's column and of its classes in the head; all else stands still."""
        owners = self.owners.of
        new = np.unique(batch.targets.astype(np.int64))
        owners[new[owners[new] < 0]] = self.column
        mine, there = (torch.from_numpy(of).to(batch.x.device) for of in (owners == self.column, owners >= 0))
        steps = self.gradient(self.loss(self.scores(batch.x).masked_fill(~there, -torch.inf), batch.y))
        head = {id(parameter) for parameter in self.net.head.parameters()}
        tower = self.net.backbone.get_submodule(f"towers.{self.column}")
        learning = {id(parameter) for parameter in tower.parameters()}
        for number, (parameter, step) in enumerate(zip(self.parameters, steps, strict=True)):
            if id(parameter) in head:
                steps[number] = step * (mine[:, None] if step.ndim == 2 else mine)
            elif id(parameter) not in learning:
                steps[number] = torch.zeros_like(step)
        self.descend(steps)

    def consolidate(self) -> None:
        """What still moved stands still: the next column begins."""
        if self.momentum:
            for values in self.velocity:
                values.zero_()

    def scores(self, x: Tensor) -> Tensor:
        """Each class's score by the features of its own column."""
        features = self.net.backbone(x)
        wide = features.shape[1] // self.columns
        at = torch.arange(features.shape[1], device=x.device) // wide
        own = torch.from_numpy(self.owners.of).to(x.device)[:, None] == at[None]
        return functional.linear(features, self.net.head.weight * own, self.net.head.bias)
