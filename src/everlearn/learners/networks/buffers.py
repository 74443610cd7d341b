"""Replay buffers: a bounded sample of what was learned, kept in plain arrays that are part of the state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

Draw = np.random.Generator


class Reservoir:
    """A uniform sample of all rows so far (Vitter 1985, algorithm R), with targets and, if asked, scores.

    ``rows`` (size, width), ``targets`` float64 (size,), ``scores`` float32 (size, outputs) with NaN for an
    output that was not there yet. Memory: that, whatever was learned.
    """

    def __init__(self, size: int, width: int, *, dtype: Any = np.float32, outputs: int = 0) -> None:
        self.rows = np.zeros((size, width), dtype=dtype)
        self.targets = np.zeros(size)
        self.scores = np.full((size, outputs), np.nan, dtype=np.float32)
        self.counts = np.zeros(1, dtype=np.int64)  # rows seen

    def __len__(self) -> int:
        return int(min(self.counts[0], len(self.targets)))

    @property
    def bytes(self) -> int:
        """What the rows, targets and scores take when it is full."""
        return self.rows.nbytes + self.targets.nbytes + self.scores.nbytes

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it keeps."""
        return {"rows": self.rows, "targets": self.targets, "scores": self.scores, "counts": self.counts}

    def grow(self, outputs: int) -> None:
        """Make room for the scores of more outputs, if there are scores."""
        if self.scores.shape[1]:
            more = ((0, 0), (0, outputs - self.scores.shape[1]))
            self.scores = np.pad(self.scores, more, constant_values=np.nan)

    def copy_from(self, other: Reservoir) -> None:
        """Keep what another one of the same size keeps."""
        for name, part in self.arrays().items():
            part[...] = other.arrays()[name]

    def clear(self) -> None:
        """Forget all."""
        self.rows[:], self.targets[:], self.scores[:], self.counts[:] = 0.0, 0.0, np.nan, 0

    def add(self, draw: Draw, rows: FloatArray, targets: FloatArray, scores: Any = None) -> None:
        """Take rows in their order."""
        for i, place in enumerate(self.places(draw, targets)):
            if place >= 0:
                self.rows[place], self.targets[place] = rows[i], targets[i]
                if scores is not None:
                    self.scores[place] = scores[i]

    def places(self, draw: Draw, targets: FloatArray) -> list[int]:
        """Where each row goes, -1 for one that is not kept; counts them as seen."""
        seen, size = int(self.counts[0]), len(self.targets)
        self.counts[0] += len(targets)
        found = []
        for number, chance in enumerate(draw.random(len(targets)).tolist(), seen):
            place = number if number < size else int(chance * (number + 1))
            found.append(place if place < size else -1)
        return found

    def sample(self, draw: Draw, count: int) -> NDArray[np.int64]:
        """Places of at most ``count`` different rows."""
        return draw.choice(len(self), min(count, len(self)), replace=False, shuffle=False)


class Balanced(Reservoir):
    """As many rows of each class as can be (class-balancing reservoir sampling: Chrysakis and Moens 2020).

    A class that was once the largest is *full* and is thinned as a reservoir of its own; a row of any
    other class takes the place of one of the largest.
    """

    def __init__(
        self, size: int, width: int, *, dtype: Any = np.float32, outputs: int = 0, classes: int = 1000
    ) -> None:
        super().__init__(size, width, dtype=dtype, outputs=outputs)
        self.counts = np.zeros(1 + 3 * classes, dtype=np.int64)  # all, then by class: seen, kept, full
        self._limit = classes

    def _by_class(self, most: int) -> NDArray[np.int64]:
        """Rows seen, kept, and whether it is full (3, k), of classes up to one and all that came before."""
        parts = self.counts[1:].reshape(3, -1)
        known = max(most, int(parts[0].nonzero()[0][-1]) if self.counts[0] else 0) + 1
        return parts[:, :known]

    def places(self, draw: Draw, targets: FloatArray) -> list[int]:
        """Where each row goes, -1 for one that is not kept; counts them as seen."""
        labels = targets.astype(np.int64).tolist()
        seen, kept, full = self._by_class(max(labels, default=0))
        held, found, changed = self.targets.copy(), [], True
        for label in labels:
            place = len(self)
            self.counts[0] += 1
            seen[label] += 1
            if place < len(held):
                kept[label] += 1
            else:
                if changed:
                    full[kept == kept.max()] = 1
                place, changed = self._instead(draw, label, held, seen, kept, full)
            if place >= 0:
                held[place] = label
            found.append(place)
        return found

    def _instead(
        self, draw: Draw, label: int, held: FloatArray, seen: Any, kept: Any, full: Any
    ) -> tuple[int, bool]:
        """Whose place a row takes (-1: no other's), and whether that changes how many of each are kept."""
        if full[label]:
            if draw.random() * seen[label] > kept[label]:
                return -1, False
            leaves = label
        else:
            largest = np.flatnonzero(kept == kept.max())
            leaves = int(largest[draw.integers(len(largest))])
        places = np.flatnonzero(held == leaves)
        if leaves != label:
            kept[leaves] -= 1
            kept[label] += 1
        return int(places[draw.integers(len(places))]), leaves != label

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self.counts[:] = 0
