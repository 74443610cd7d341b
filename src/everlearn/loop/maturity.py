"""When labels count: predictions are scored once they are older than the label horizon.

Scoring labels as they come is biased when the delay depends on the label (late frauds, say). So a
labelled prediction waits until its cohort is mature, and a label later than that counts at once.

The labels that wait are not part of the stored state: they are read back from the log
(:meth:`~everlearn.ports.Log.pending`), from the position that ``floor`` gives.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from everlearn.spec import ModelSpec
from everlearn.types import Label

AUTO_QUANTILE = 0.95
AUTO_MEMORY = 500
AUTO_MINIMUM = 50


class Watermark(msgspec.Struct):
    """How far cohorts are mature. Both marks only ever rise, so what is scored stays scored.

    ``delays`` are the newest label delays in rows, from which an ``auto`` horizon is learned: the age
    at which 95% of the labels that came had come.
    """

    row: int = 0
    at: float = -1e300
    floor: int = 0
    delays: list[int] = []
    auto_rows: int = 0
    since_auto: int = 0

    def covers(self, row: int, at: float) -> bool:
        """Whether a prediction's cohort is mature."""
        return row <= self.row or at <= self.at

    def rise(self, spec: ModelSpec, rows: int, now: float) -> None:
        """Raise the marks to what ``rows`` predictions and the time ``now`` allow."""
        seconds = spec.horizon_seconds
        if seconds is not None:
            self.at = max(self.at, now - seconds)
            return
        horizon = spec.horizon_rows
        self.row = max(self.row, rows - (self.auto_rows if horizon is None else horizon))

    def learn_delay(self, delay: int) -> None:
        """Take in how many rows late a label was."""
        self.delays.append(delay)
        if len(self.delays) > AUTO_MEMORY:
            del self.delays[: len(self.delays) - AUTO_MEMORY]
        self.since_auto += 1
        if len(self.delays) >= AUTO_MINIMUM and self.since_auto >= AUTO_MINIMUM:
            self.auto_rows = sorted(self.delays)[int(AUTO_QUANTILE * (len(self.delays) - 1))]
            self.since_auto = 0


class Waiting:
    """Labelled predictions whose cohorts are not mature yet, in the order in which they mature."""

    def __init__(self, labels: list[Label] | None = None, *, by_time: bool = False) -> None:
        self._by_time = by_time
        self._labels: dict[int, Label] = {}
        self._heap: list[tuple[float, int]] = []
        for label in labels or []:
            self.add(label)

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, label: Label) -> None:
        """Add a label, or replace the value of one that waits (a correction)."""
        assert label.prediction is not None
        row = label.prediction.row
        if row not in self._labels:
            heapq.heappush(self._heap, (label.prediction.at if self._by_time else 0.0, row))
        self._labels[row] = label

    def __contains__(self, row: int) -> bool:
        return row in self._labels

    def matured(self, watermark: Watermark) -> Iterator[Label]:
        """Take out the labels whose cohorts are mature, in order of (time and) row."""
        while self._heap:
            row = self._heap[0][1]
            prediction = self._labels[row].prediction
            assert prediction is not None
            if not watermark.covers(row, prediction.at):
                return
            heapq.heappop(self._heap)
            yield self._labels.pop(row)

    def floor(self, rows: int) -> int:
        """The greatest row before which nothing waits; ``rows`` is that of the newest prediction."""
        return min(self._labels) - 1 if self._labels else rows

    def reordered(self, *, by_time: bool) -> Waiting:
        """The same labels, for another kind of horizon."""
        return Waiting(list(self._labels.values()), by_time=by_time)
