"""iCaRL (Rebuffi et al. 2017): exemplars by herding, distillation, and the nearest mean of exemplars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from everlearn.learners.inputs import at_least
from everlearn.learners.networks.network import Batch, Network


@dataclass(kw_only=True, eq=False)
class Icarl(Network):
    """A row is of the class whose exemplars' mean feature is nearest; exemplars are chosen by herding.

    ``size`` exemplars are kept, as many of each class; when a task ends, those of its classes are chosen
    from a sample of at most ``sample`` of its rows so that their mean is near the mean of all. ``replay`` of
    them are learned beside each block, and the network of before the task is a teacher for the old classes.
    ``sharpness`` makes distances probabilities. The other parameters are those of every network.
    """

    name: ClassVar[str] = "icarl"
    good_for: ClassVar[str] = "a network to which classes come in tasks, with exemplars that stand for each"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    size: int = 500
    sample: int = 1000
    replay: int = 10
    sharpness: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("size", "sample", "replay"):
            at_least(field, getattr(self, field), 1)

    def begin(self) -> None:
        """No exemplars, a sample of the task's rows, and the teacher."""
        self.memory = self.keep("memory", self.reservoir(self.size))
        self.recent = self.keep("recent", self.reservoir(self.sample))
        self.teacher = self.twin("teacher")
        self._means: tuple[Tensor, NDArray[np.int64]] | None = None

    def observe(self, batch: Batch) -> None:
        """One step on the block and exemplars, each class by itself (algorithm 3)."""
        x, y = batch.x, batch.y
        if len(self.memory):
            _, old_x, old_y = self.drawn(self.memory, self.replay)
            x, y = torch.cat((x, old_x)), torch.cat((y, old_y))
        scores = self.net(x)
        wanted = functional.one_hot(y, scores.shape[1]).to(scores)
        old = int(self.counters[5])
        if old:
            with torch.no_grad():
                wanted[:, :old] = self.teacher(x)[:, :old].sigmoid()
        loss = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none").sum(1).mean()
        self.descend(self.gradient(loss))
        self.recent.add(self.draw, batch.rows, batch.targets)
        self._means = None

    @torch.no_grad()
    def consolidate(self) -> None:
        """Choose exemplars of new classes, keep fewer of old ones (algorithms 4 and 5), and the teacher."""
        rows, targets = self._pool()
        share = max(self.size // max(self.known, 1), 1)
        kept = [self._herd(rows, np.flatnonzero(targets == c), share) for c in range(self.known)]
        places = np.concatenate(kept)[: self.size] if kept else np.empty(0, dtype=np.int64)
        self.memory.clear()
        self.memory.rows[: len(places)], self.memory.targets[: len(places)] = rows[places], targets[places]
        self.memory.counts[0] = len(places)
        self.recent.clear()
        self.copy_to(self.teacher)
        self.counters[5] = self.known
        self._means = None

    def _pool(self) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """The exemplars, and the sample of this task's rows."""
        parts = [(part.rows[: len(part)], part.targets[: len(part)]) for part in (self.memory, self.recent)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _features(self, rows: NDArray[np.floating]) -> Tensor:
        """Features of unit length (n, f)."""
        return functional.normalize(self.net.backbone(self.tensors(rows, np.zeros(len(rows)))[0]), dim=1)

    def _herd(self, rows: NDArray[np.floating], places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Places whose features' running mean stays nearest to the mean of all, in order of choice."""
        if len(places) <= count:
            return places
        features = self._features(rows[places])
        mean, total = features.mean(0), torch.zeros_like(features[0])
        left = torch.ones(len(places), dtype=torch.bool, device=features.device)
        chosen: list[int] = []
        for number in range(1, count + 1):
            apart = (mean - (total + features) / number).square().sum(1)
            best = int(torch.where(left, apart, torch.inf).argmin())
            left[best] = False
            total = total + features[best]
            chosen.append(best)
        found: NDArray[np.int64] = places[np.array(chosen)]
        return found

    def scores(self, x: Tensor) -> Tensor:
        """Minus the squared distances from the classes' means; what has no exemplar yet is far."""
        means, there = self._mean_features()
        features = functional.normalize(self.net.backbone(x), dim=1)
        out = torch.full((len(x), self.net.head.out_features), -4.0 * self.sharpness, device=x.device)
        if len(there):
            apart = (features[:, None] - means[None]).square().sum(2)
            out[:, torch.from_numpy(there).to(x.device)] = -self.sharpness * apart
        return out

    def _mean_features(self) -> tuple[Tensor, NDArray[np.int64]]:
        if self._means is None:
            rows, targets = self._pool()
            there = np.unique(targets).astype(np.int64)
            means = [self._features(rows[targets == c]).mean(0) for c in there]
            stacked = functional.normalize(torch.stack(means), dim=1) if means else torch.empty(0)
            self._means = stacked, there
        return self._means
