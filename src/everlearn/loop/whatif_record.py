"""What a what-if plays: rows in the order they were asked, and labels in the order they came.

Made once and shared by every setting: from a table with a stated label delay, or from the recorded log
of a live model, whose labels keep the order and the delays in which they really came.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from everlearn.errors import InvalidError
from everlearn.loop.baselines import Baselines
from everlearn.loop.file_driver import Stream
from everlearn.ports import Log
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import (
    Command,
    Event,
    Label,
    LoadedExample,
    Outcome,
    Output,
    Prediction,
    Row,
    Scalar,
    Tick,
)

BLOCK = 10_000
"""Rows that are hashed at a time."""


class Arrival(NamedTuple):
    """What came that is no row to answer: the label of a row, a row of history, or a tick.

    ``row`` is the index of the labelled row, -1 for history and -2 for a tick.
    """

    row: int
    at: float
    value: Scalar = None
    correction: bool = False
    features: Row | None = None


HISTORY, TICK = -1, -2


@dataclass(eq=False)
class Recording:
    """A stream of moments. ``steps`` holds ``i`` for row ``i`` to answer, ``-1 - k`` for arrival ``k``.

    ``truths`` are the newest labels (``None``: none came). ``served`` and ``events`` are those of a
    recorded log: what was answered, and all that happened.
    """

    rows: Sequence[Row]
    at: Sequence[float]
    truths: Sequence[Scalar]
    steps: Sequence[int]
    arrivals: Sequence[Arrival]
    served: Sequence[Output] | None = None
    events: Sequence[Event] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        """The rows as the driver knows them; when labels come stands in ``steps``."""
        return Stream(self.rows, self.truths, self.at, 0)

    @cached_property
    def ids(self) -> list[str]:
        """A name for each row."""
        return list(map(str, range(len(self.rows))))

    @cached_property
    def labels(self) -> int:
        """How many rows have a label."""
        return sum(truth is not None for truth in self.truths)

    @cached_property
    def ordered(self) -> bool:
        """Whether labels come in the order of their rows, each once, and no history with them."""
        rows = [arrival.row for arrival in self.arrivals if arrival.row != TICK]
        return all(a < b for a, b in zip([HISTORY, *rows], rows, strict=False))

    @cached_property
    def known_at(self) -> list[int]:
        """For each row, how many arrivals had come before it was asked."""
        known, count = [], 0
        for step in self.steps:
            if step >= 0:
                known.append(count)
            else:
                count += 1
        return known

    @cached_property
    def baselines(self) -> list[tuple[Scalar, Scalar]]:
        """What no-change and majority (regression: the running mean) would have answered to each row."""
        numbers = all(not isinstance(t, str | bool) for t in self.truths[:100])
        regression = numbers and any(isinstance(t, float) for t in self.truths)
        book, found = Baselines(), []
        for position, step in enumerate(self.steps, start=1):
            if step >= 0:
                found.append(book.before(position))
                continue
            arrival = self.arrivals[-1 - step]
            if arrival.row != TICK and not arrival.correction:
                book.learn(position, arrival.value, regression)
        return found

    @cached_property
    def digest(self) -> str:
        """What is in it, as a SHA-256 digest."""
        seen = hashlib.sha256()
        for part in (self.rows, self.at, self.truths, self.steps, self.arrivals):
            for start in range(0, len(part), BLOCK):
                seen.update(msgspec.json.encode(part[start : start + BLOCK]))
        return seen.hexdigest()


def of_stream(stream: Stream) -> Recording:
    """A table with a label delay; labels that are late at its end come then."""
    steps, arrivals, waiting = list[int](), list[Arrival](), 0
    by_time, total = stream.delay_seconds is not None, len(stream.rows)

    def deliver(before: int, now: int | None) -> int:
        row = waiting
        while row < before and (now is None or stream.arrived(row, now)):
            if stream.targets[row] is not None:
                late = stream.delay_seconds
                at = stream.at[total - 1 if now is None else now] if late is None else stream.at[row] + late
                steps.append(-1 - len(arrivals))
                arrivals.append(Arrival(row, at, stream.targets[row]))
            row += 1
        return row

    for i in range(total):
        if by_time:
            waiting = deliver(i, i)
        steps.append(i)
        if not by_time:
            waiting = deliver(i + 1, i)
    deliver(total, None)
    return Recording(stream.rows, stream.at, stream.targets, steps, arrivals)


def of_log(events: Iterable[Event]) -> tuple[Recording, ModelSpec]:
    """A recorded log, and the spec that was in force at its end.

    What operators commanded and what jobs came to is left out: other settings would have made other
    versions. Raises InvalidError for a log without a prediction.
    """
    kept = list(events)
    asked = [event for event in kept if isinstance(event, Prediction)]
    specs = [e.arguments["spec"] for e in kept if isinstance(e, Command) and e.name == "configure"]
    if not asked or not specs:
        raise InvalidError("The log has no predictions yet: there is nothing to play again")
    steps, arrivals, truths = _steps(kept, {event.row: i for i, event in enumerate(asked)}, len(asked))
    served = [event.output for event in asked]
    rows, at = [event.features for event in asked], [event.at for event in asked]
    made = Recording(rows, at, truths, steps, arrivals, served, kept, list(_left_out(kept, specs)))
    return made, parse_spec(specs[-1])


def _steps(
    events: Sequence[Event], index: dict[int, int], total: int
) -> tuple[list[int], list[Arrival], list[Scalar]]:
    steps, arrivals, truths = list[int](), list[Arrival](), list[Scalar]([None] * total)
    for event in events:
        if isinstance(event, Prediction):
            steps.append(index[event.row])
        for arrival in _arrived(event, index):
            steps.append(-1 - len(arrivals))
            arrivals.append(arrival)
            if arrival.row >= 0:
                truths[arrival.row] = arrival.value
    return steps, arrivals, truths


def _arrived(event: Event, index: dict[int, int]) -> Iterator[Arrival]:
    """A label that waited for its prediction comes right after it."""
    if isinstance(event, Prediction) and event.label is not None:
        yield Arrival(index[event.row], event.at, event.label.value)
    elif isinstance(event, Label) and event.prediction is not None:
        yield Arrival(index[event.prediction.row], event.at, event.value, event.correction)
    elif isinstance(event, LoadedExample):
        yield Arrival(HISTORY, event.at, event.target, features=event.features)
    elif isinstance(event, Tick):
        yield Arrival(TICK, event.at)


def _left_out(events: Sequence[Event], specs: Sequence[Any]) -> Iterator[str]:
    commands = sum(isinstance(e, Command) and e.name != "configure" for e in events)
    if commands:
        yield f"{commands} commands of operators are left out: only what settings do is compared"
    if len(specs) > 1:
        yield f"the spec was changed {len(specs) - 1} times: the newest is taken as the settings in force"
    if any(isinstance(e, Outcome) for e in events):
        yield "jobs end at once here; in the record they took their time"


def newest_known(known: Sequence[int], upto: int, after: int, newest: int | None) -> tuple[int, int]:
    """The range of indices of what became known at a position in ``(after, upto]``, the newest ones."""
    start, end = bisect_right(known, after), bisect_right(known, upto)
    return (start if newest is None else max(start, end - newest)), end


def read_log(log: Log, model: str, batch: int = 5000) -> Iterator[Event]:
    """All that is recorded of a model."""
    cursor = 0
    while events := log.read(model, cursor, batch):
        yield from events
        cursor = events[-1].seq
