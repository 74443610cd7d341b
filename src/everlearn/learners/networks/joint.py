"""Joint training: all rows together, as often as is wanted; the upper bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from everlearn.learners.networks.refitting import Refitted
from everlearn.types import FloatArray


@dataclass(kw_only=True, eq=False)
class Joint(Refitted):
    """A network that is trained afresh on the newest ``size`` rows, ``epochs`` times over, when it is asked.

    It forgets nothing of what it keeps, and keeps the rows: what others reach without them is measured by
    it. The other parameters are those of every network (tasks mean nothing to it).
    """

    name: ClassVar[str] = "joint"
    good_for: ClassVar[str] = "a network where all rows may be kept: the bound that others are measured by"
    cannot: ClassVar[str] = "learn from a single row: it is trained afresh"

    size: int = 10_000
    epochs: int = 5

    def collect(self, rows: FloatArray, targets: FloatArray) -> None:
        """Keep the newest rows."""
        seen = int(self.memory.counts[0])
        for i in range(max(0, len(rows) - self.size), len(rows)):
            place = (seen + i) % self.size
            self.memory.rows[place], self.memory.targets[place] = rows[i], targets[i]
        self.memory.counts[0] = seen + len(rows)
