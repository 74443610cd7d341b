"""Adding a batch to a log: whole columns at once where every event is plainly new.

Predictions are, if no event has one of their ids. Labels are, if each is the first for a prediction that is
there. Any other batch is decided event by event, as ever, with the same outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from everlearn.adapters.batches import LabelBatch, PredictionBatch
from everlearn.adapters.rules import MAX_KEY, check_events, is_storable
from everlearn.adapters.sql.appending import Appender, chunks
from everlearn.adapters.sql.codec import LABEL, PREDICTION, to_json
from everlearn.adapters.sql.direct import Driver, Found, ModelRow
from everlearn.types import NewEvent, Receipt, Status

_KEYS_A_QUERY = 10_000
_Labelled = dict[str, tuple[int, int]]

_encode = msgspec.json.Encoder().encode


def check(events: Sequence[NewEvent]) -> None:
    """Raise InvalidError, naming every fault, unless all events can be stored."""
    if not (isinstance(events, PredictionBatch | LabelBatch) and _sound(events)):
        check_events(events)


def _sound(batch: PredictionBatch | LabelBatch) -> bool:
    return _storable(batch.ids) and all(map(math.isfinite, batch.times))


def _storable(ids: Sequence[str]) -> bool:
    lengths = set(map(len, ids))
    together = "".join(ids)
    plain = together.isascii() and "\0" not in together
    return (
        not lengths or (min(lengths) > 0 and max(lengths) <= MAX_KEY and plain) or all(map(is_storable, ids))
    )


def append(driver: Driver, model: ModelRow, events: Sequence[NewEvent]) -> list[Receipt]:
    """Add sound events within a transaction; one receipt each."""
    if isinstance(events, PredictionBatch) and _are_new(driver, model, events):
        return _predictions(driver, model, events)
    if isinstance(events, LabelBatch) and (of := _labelled(driver, model, events)) is not None:
        return _labels(driver, model, events, of)
    return Appender(driver, model).append(events)


def _are_new(driver: Driver, model: ModelRow, batch: PredictionBatch) -> bool:
    if not batch or len(set(batch.ids)) < len(batch):
        return False
    return batch.fresh or next(_known(driver, model, batch.ids), None) is None


def _labelled(driver: Driver, model: ModelRow, batch: LabelBatch) -> _Labelled | None:
    """Position and row of each label's prediction; ``None`` unless each is its prediction's first label."""
    of: _Labelled = {}
    for seq, kind, key, row, _ in _known(driver, model, batch.ids):
        if kind == LABEL:
            return None
        if kind == PREDICTION:
            of[key] = (seq, row or 0)
    return of if 0 < len(of) == len(batch) == len(set(batch.ids)) else None


def _known(driver: Driver, model: ModelRow, ids: Sequence[str]) -> Iterator[Found]:
    for some in chunks(ids, _KEYS_A_QUERY):
        yield from driver.known(model.id, some)


def _predictions(driver: Driver, model: ModelRow, batch: PredictionBatch) -> list[Receipt]:
    places = range(model.last_seq + 1, model.last_seq + 1 + len(batch))
    numbers = range(model.last_row + 1, model.last_row + 1 + len(batch))
    n = len(batch)
    columns: tuple[Sequence[Any], ...] = (
        [PREDICTION] * n,
        list(map(float, batch.times)),
        batch.ids,
        [None] * n,
        numbers,
        batch.versions,
        [_encode(row).decode() for row in batch.rows],
        batch.value_texts,
        batch.probability_texts,
        [None] * n,
    )
    return _written(driver, model, places, columns, rows=len(batch), labels=0)


def _labels(driver: Driver, model: ModelRow, batch: LabelBatch, of: _Labelled) -> list[Receipt]:
    places = range(model.last_seq + 1, model.last_seq + 1 + len(batch))
    # By type too: 1, 1.0 and true are one key of a dict.
    texts = {(type(value), value): to_json(value) for value in batch.values}
    predictions = [of[key] for key in batch.ids]
    n = len(batch)
    columns: tuple[Sequence[Any], ...] = (
        [LABEL] * n,
        list(map(float, batch.times)),
        batch.ids,
        [seq for seq, _ in predictions],
        [row for _, row in predictions],
        [None] * n,
        [None] * n,
        [texts[type(value), value] for value in batch.values],
        [None] * n,  # the first label of an id corrects nothing, however it is marked
        [batch.source] * n,
    )
    return _written(driver, model, places, columns, rows=0, labels=len(batch))


def _written(
    driver: Driver,
    model: ModelRow,
    places: range,
    columns: tuple[Sequence[Any], ...],
    *,
    rows: int,
    labels: int,
) -> list[Receipt]:
    driver.insert_columns(model.id, (places, *columns))
    counts = (
        places[-1],
        model.last_row + rows,
        model.labels + labels,
        model.parked,
        model.examples,
        columns[1][-1],
    )
    driver.count(model.id, counts)
    accepted = Status.ACCEPTED
    return [Receipt(accepted, seq) for seq in places]
