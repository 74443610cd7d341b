"""GDumb (Prabhu et al. 2020): a greedy sampler and a learner that knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from everlearn.learners.inputs import at_least, invalid
from everlearn.learners.networks.buffers import Draw
from everlearn.learners.networks.network import Batch
from everlearn.learners.networks.refitting import Refitted
from everlearn.types import FloatArray


@dataclass(kw_only=True, eq=False)
class GDumb(Refitted):
    """As many rows of each class as fit into ``size`` are kept, and a network is trained on them when asked.

    ``epochs`` times over. Images (``shape``) are moved each time, up or down and sideways, by chance and by
    at most ``shift`` pixels. The other parameters are those of every network (tasks mean nothing to it). What
    does not beat it has not learned from the stream.
    """

    name: ClassVar[str] = "gdumb"
    good_for: ClassVar[str] = "a network where some thousand rows may be kept and answers may wait"
    cannot: ClassVar[str] = "learn from a single row: it is trained afresh"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    shift: int = 0
    epochs: int = 30
    batch: int = 16
    rate: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("shift", self.shift, 0)
        if self.shift and (self.shape is None or len(self.shape) != 3):
            raise invalid(
                "shift", "is for images: give their shape, (channels, height, width), or leave it out"
            )

    def observe(self, batch: Batch) -> None:
        """One step of descent on a block of the rows kept, its images moved."""
        x = moved(batch.x, self.shift, self.draw) if self.shift else batch.x
        self.descend(self.gradient_for(x, batch.y))

    def collect(self, rows: FloatArray, targets: FloatArray) -> None:
        """The greedy balancing sampler (algorithm 1)."""
        memory = self.memory
        kept = np.bincount(memory.targets[: len(memory)].astype(np.int64), minlength=self.known)
        rows_of = int(self.counts.sum()) - len(rows)
        seen = np.flatnonzero(kept)
        for i, label in enumerate(targets.astype(np.int64).tolist()):
            if not kept[label]:
                seen = np.union1d(seen, [label])
            if len(memory) < self.size:
                place = len(memory)
                memory.counts[0] += 1
            elif kept[label] >= self.size // len(seen):
                continue
            else:
                largest = int(kept.argmax())
                places = np.flatnonzero(memory.targets == largest)
                self.counters[0] = rows_of + i
                self.reseed(1)
                place = int(places[self.draw.integers(len(places))])
                kept[largest] -= 1
            kept[label] += 1
            memory.rows[place], memory.targets[place] = rows[i], label


def moved(images: Tensor, shift: int, draw: Draw) -> Tensor:
    """Images (n, channels, h, w), each moved by at most ``shift`` pixels either way; what comes in is 0."""
    n, _, height, width = images.shape
    down, right = (torch.from_numpy(draw.integers(2 * shift + 1, size=(n, 1))) for _ in range(2))
    rows = (down + torch.arange(height))[:, None, :, None]
    columns = (right + torch.arange(width))[:, None, None, :]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    padded = functional.pad(images, (shift, shift, shift, shift))
    return padded[torch.arange(n)[:, None, None, None], channels, rows, columns]
