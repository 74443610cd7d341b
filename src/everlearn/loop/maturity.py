"""When labels count: predictions are scored once they are older than the label horizon.

Scoring labels as they come is biased when the delay depends on the label (late frauds, say). So a
labelled prediction waits until its cohort is mature, and a label later than that counts at once.

The labels that wait are not part of the stored state: they are read back from the log
(:meth:`~everlearn.ports.Log.pending`), from the position that ``floor`` gives.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from everlearn.loop.arrivals import COHORT, MIN_LABELS, Arrivals
from everlearn.spec import ModelSpec
from everlearn.types import Label


class Watermark(msgspec.Struct, dict=True):
    """How far cohorts are mature. Both marks only ever rise, so what is scored stays scored.

    An ``auto`` horizon is ``auto_rows``, learned from the ``arrivals`` of labels, and ``None`` while
    nobody can tell. Under it (``auto``) rows are mature, too, as far as every one of them has its label:
    there is nothing to wait for.
    """

    row: int = 0
    at: float = -1e300
    floor: int = 0
    auto: bool = False
    auto_rows: int | None = None
    next_look: int = MIN_LABELS
    arrivals: Arrivals = msgspec.field(default_factory=Arrivals)

    def __post_init__(self) -> None:
        # Not stored: what the spec says, read once, and the row that closes the open cohort.
        self._spec: ModelSpec | None = None
        self._rows: int | None = None
        self._seconds: float | None = None
        self._close_at = self.arrivals.starts[-1] + COHORT - 1

    def covers(self, row: int, at: float) -> bool:
        """Whether a prediction's cohort is mature."""
        return row <= self.row or at <= self.at

    def rise(self, spec: ModelSpec, rows: int, now: float) -> None:
        """Raise the marks to what ``rows`` predictions and the time ``now`` allow."""
        if spec is not self._spec:
            self._spec, self._rows, self._seconds = spec, spec.horizon_rows, spec.horizon_seconds
            self.auto = self._rows is None and self._seconds is None
        if rows >= self._close_at:
            self._close_at = self.arrivals.close(rows, now, self.auto_rows)
        if self._seconds is not None:
            if now - self._seconds > self.at:
                self.at = now - self._seconds
            return
        horizon = self.auto_rows if self.auto else self._rows
        if horizon is not None and rows - horizon > self.row:
            self.row = rows - horizon

    def labelled(self, row: int, at: float, rows: int, now: float) -> None:
        """Take in that the label of a prediction came, after ``rows`` predictions, at the time ``now``."""
        arrivals = self.arrivals
        arrivals.add(row, at, rows, now)
        if self.auto and row == self.row + 1:
            self.row = row
        if arrivals.labels >= self.next_look:
            self.auto_rows = arrivals.horizon(rows)
            # A look costs as much as some hundred labels: ever rarer, at most every 500.
            self.next_look = arrivals.labels + min(500, max(MIN_LABELS, arrivals.labels // 10))

    def curve(self, rows: int, now: float) -> list[dict[str, Any]]:
        """The label maturity curve: see :meth:`~everlearn.loop.arrivals.Arrivals.points`."""
        return self.arrivals.points(rows, now)

    def maturity(self, rows: int, now: float) -> dict[str, Any]:
        """What is known of how labels come, for people: the curve, the learned horizon, and ``never``.

        ``never`` is the share of the predictions older than three horizons that have no label.
        """
        horizon = self.arrivals.horizon(rows)
        return {
            "labels": self.arrivals.labels,
            "auto_rows": horizon,
            "never": self.arrivals.never(rows, horizon),
            "curve": self.curve(rows, now),
        }


class Waiting:
    """Labelled predictions whose cohorts are not mature yet, in the order in which they mature."""

    def __init__(self, labels: list[Label] | None = None, *, by_time: bool = False) -> None:
        self._by_time = by_time
        self._labels: dict[int, Label] = {}
        self._heap: list[tuple[float, int]] = []
        self._replaced: dict[int, list[Label]] = {}  # by another source's label; it may yet be left out
        for label in labels or []:
            self.add(label)

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, label: Label) -> None:
        """Add a label, or replace the value of one that waits (a correction)."""
        prediction = label.prediction
        assert prediction is not None
        row, labels = prediction.row, self._labels
        if row not in labels:
            heapq.heappush(self._heap, (prediction.at if self._by_time else 0.0, row))
        elif labels[row].source != label.source:
            others = [*self._replaced.get(row, ()), labels[row]]
            self._replaced[row] = [other for other in others if other.source != label.source]
        labels[row] = label

    def __contains__(self, row: int) -> bool:
        return row in self._labels

    def matured(self, watermark: Watermark) -> Sequence[Label]:
        """Take out the labels whose cohorts are mature, in order of (time and) row.

        Under an ``auto`` horizon the mark rises through rows that all have their labels.
        """
        heap, labels = self._heap, self._labels
        if not heap or not self._is_next(heap[0][1], watermark):
            return ()
        found = []
        while heap and self._is_next(heap[0][1], watermark):
            found.append(labels.pop(heapq.heappop(heap)[1]))
        return self._done(found)

    def matured_by_row(self, last: int) -> Sequence[Label]:
        """The same under a horizon in rows: the labels of all rows up to the last that is mature."""
        heap = self._heap
        if not heap or heap[0][1] > last:
            return ()
        found, labels = [], self._labels
        while heap and heap[0][1] <= last:
            found.append(labels.pop(heapq.heappop(heap)[1]))
        return self._done(found)

    def _done(self, found: Sequence[Label]) -> Sequence[Label]:
        if self._replaced:
            for label in found:
                self._replaced.pop(label.prediction.row if label.prediction else 0, None)
        return found

    def _is_next(self, row: int, watermark: Watermark) -> bool:
        if row <= watermark.row:
            return True
        if watermark.auto and row == watermark.row + 1:
            watermark.row = row
            return True
        prediction = self._labels[row].prediction
        assert prediction is not None
        return prediction.at <= watermark.at

    def floor(self, rows: int) -> int:
        """The greatest row before which nothing waits; ``rows`` is that of the newest prediction."""
        if not self._labels:
            return rows
        return (min(self._labels) if self._by_time else self._heap[0][1]) - 1

    def reordered(self, *, by_time: bool) -> Waiting:
        """The same labels, for another kind of horizon."""
        return Waiting(self._all(), by_time=by_time)

    def without(self, source: str) -> Waiting:
        """The same labels but for those of a source; where it had replaced another's, that waits again."""
        kept = [label for label in self._all() if label.source != source]
        return Waiting(kept, by_time=self._by_time)

    def without_ids(self, ids: Collection[str]) -> Waiting:
        """The same labels but for those of some predictions."""
        return Waiting([label for label in self._all() if label.id not in ids], by_time=self._by_time)

    def _all(self) -> list[Label]:
        """All labels, in the order in which they came."""
        every = [*self._labels.values(), *(one for some in self._replaced.values() for one in some)]
        return sorted(every, key=_seq_of) if self._replaced else every


def _seq_of(label: Label) -> int:
    return label.seq
