"""Many events of one kind, in columns: what a store may write without a record for each.

A batch is a sequence of :class:`~everlearn.types.NewEvent`, made only as they are asked for, so that every
store takes it. A store that knows batches reads the columns instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec

from everlearn.types import EventKind, NewEvent, Row, Scalar


class Batch(Sequence[NewEvent]):
    """The sequence's part of a batch; a kind of batch says how long it is and what its events are."""

    def event(self, i: int) -> NewEvent:
        """The event at a place."""
        raise NotImplementedError

    @overload
    def __getitem__(self, i: int) -> NewEvent: ...
    @overload
    def __getitem__(self, i: slice) -> list[NewEvent]: ...
    def __getitem__(self, i: int | slice) -> NewEvent | list[NewEvent]:
        if isinstance(i, slice):
            return [self.event(j) for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self.event(i % len(self))

    def __iter__(self) -> Iterator[NewEvent]:
        return (self.event(i) for i in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class PredictionBatch(Batch):
    """Predictions, a list for each column (n,).

    ``rows`` are clean rows. ``value_texts`` and ``probability_texts`` are the answers as JSON
    (``None``: no probabilities). ``fresh``: the ids were made just now, so that none is known and no label
    waits for one.
    """

    ids: Sequence[str]
    times: Sequence[float]
    versions: Sequence[int]
    rows: Sequence[Row]
    value_texts: Sequence[str]
    probability_texts: Sequence[str | None]
    fresh: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def event(self, i: int) -> NewEvent:
        """The event at a place."""
        told = self.probability_texts[i]
        body: dict[str, Any] = {
            "features": self.rows[i],
            "value": msgspec.json.decode(self.value_texts[i]),
            "probabilities": None if told is None else msgspec.json.decode(told),
            "version": self.versions[i],
        }
        return NewEvent(EventKind.PREDICTION, self.times[i], self.ids[i], body)


@dataclass(frozen=True, slots=True, eq=False)
class LabelBatch(Batch):
    """Labels of one ``source``, a list for each column (n,)."""

    ids: Sequence[str]
    times: Sequence[float]
    values: Sequence[Scalar]
    corrections: Sequence[bool]
    source: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def event(self, i: int) -> NewEvent:
        """The event at a place."""
        body = {"value": self.values[i], "correction": self.corrections[i], "source": self.source}
        return NewEvent(EventKind.LABEL, self.times[i], self.ids[i], body)
