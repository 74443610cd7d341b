"""What every network is given, and what of it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from everlearn.learners.inputs import as_columns, as_task, at_least, invalid, positive
from everlearn.learners.networks.modules import HEADS, Maker


@dataclass(kw_only=True, eq=False)
class Settings:
    """See :class:`~everlearn.learners.networks.network.Network`, which says what each is for."""

    name: ClassVar[str] = "network"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    task: str = "classification"
    categorical: Sequence[int] = ()
    seed: int = 0
    network: str | Maker = "mlp"
    network_parameters: Mapping[str, Any] | None = None
    shape: Sequence[int] | None = None
    scale: float | None = None
    outputs: int = 2
    head: str = "small"
    batch: int = 10
    rate: float = 0.05
    momentum: float = 0.9
    decay: float = 0.0
    boundary: str = "classes"
    task_rows: int = 500
    device: str = "cpu"
    mixed: bool = False
    max_classes: int = 1000

    def __post_init__(self) -> None:
        self.task = as_task(self.task)
        if self.task not in self.tasks:
            raise invalid("task", f"{self.name} learns classes alone: use 'classification'")
        self.categorical = as_columns(self.categorical)
        self.shape = None if self.shape is None else tuple(at_least("shape", n, 1) for n in self.shape)
        if self.shape is not None and self.categorical:
            raise invalid("shape", "is for rows of numbers alone: leave it out where there are categories")
        if self.scale is not None:
            self.scale = positive("scale", self.scale)
        for field, least in (("outputs", 1), ("batch", 1), ("task_rows", 1)):
            at_least(field, getattr(self, field), least)
        self.rate = positive("rate", self.rate)
        for field in ("momentum", "decay"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise invalid(field, f"{getattr(self, field)!r} is not within 0 and 1")
        if self.boundary not in ("classes", "rows", "told"):
            raise invalid("boundary", f"{self.boundary!r} is none of classes, rows, told")
        if self.head not in HEADS:
            raise invalid("head", f"{self.head!r} is none of {', '.join(HEADS)}")
        if self.device != "cpu" and not torch.cuda.is_available():
            raise invalid("device", f"{self.device!r} is not to be had here: use 'cpu'")
