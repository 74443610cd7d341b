"""The log in SQL: joins by primary key, so that reading costs the same however long the log is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    String,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import postgresql

from everlearn.adapters.sql import appending_batches
from everlearn.adapters.sql.appending import Appender, chunks
from everlearn.adapters.sql.codec import (
    EXAMPLE,
    LABEL,
    PREDICTION,
    EventRow,
    event_of,
    from_json,
    label_of,
    prediction_of,
)
from everlearn.adapters.sql.database import Database, model_id, model_row, statements_of
from everlearn.adapters.sql.direct import COLUMNS
from everlearn.adapters.sql.tables import events
from everlearn.types import Event, Example, Head, Label, NewEvent, Output, Prediction, Receipt

K = TypeVar("K")

_joined = events.alias("joined")
_waited = events.alias("waited")
_WIDTH = len(EventRow._fields)
_NO_LIMIT = 2**62


def _columns(of: Any) -> list[Any]:
    return [of.c[name] for name in EventRow._fields]


def _to_joined(own: FromClause) -> ColumnElement[bool]:
    # An example refers to itself, only to be marked.
    return and_(_joined.c.model_id == own.c.model_id, _joined.c.seq == own.c.ref, _joined.c.seq != own.c.seq)


def _two_joins(own: FromClause, first: FromClause) -> Select[Any]:
    """Rows of ``own``, which ``first`` leads to, with what each refers to, and what that refers to."""
    return select(*_columns(own), *_columns(_joined), *_columns(_waited)).select_from(
        first.outerjoin(_joined, _to_joined(own)).outerjoin(_waited, _TO_WAITED)
    )


_TO_WAITED = and_(_waited.c.model_id == _joined.c.model_id, _waited.c.seq == _joined.c.ref)
_ONE_JOIN: Select[Any] = (
    select(*COLUMNS, *_columns(_joined))
    .select_from(events.outerjoin(_joined, _to_joined(events)))
    .where(events.c.model_id == bindparam("model"))
)
_TWO_JOINS = _two_joins(events, events).where(events.c.model_id == bindparam("model"))
_READ = (
    _TWO_JOINS.where(events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("most", type_=BigInteger))
)
# With an end, PostgreSQL reads no further than that, whatever its statistics say of the log's length.
_READ_UPTO = _READ.where(events.c.seq <= bindparam("upto", type_=BigInteger))
_OF_KEYS = events.c.kind.in_((PREDICTION, LABEL))
_FIND = _TWO_JOINS.where(events.c.key.in_(bindparam("keys", expanding=True)), _OF_KEYS)


def _find_key_by_key() -> Select[Any]:
    """The same on PostgreSQL, which before a table has statistics would read the whole log for many keys."""
    keys = bindparam("keys", type_=postgresql.ARRAY(String))
    wanted = func.unnest(keys).table_valued("key", name="wanted").render_derived()
    own = events.c.model_id == bindparam("model"), events.c.key == wanted.c.key, _OF_KEYS
    found = select(events).where(*own).offset(0).lateral("found")
    return _two_joins(found, wanted.join(found, true()))


_FIND_KEY_BY_KEY = _find_key_by_key()
_PENDING = _TWO_JOINS.where(
    events.c.ref.is_not(None),
    events.c.row > bindparam("after_row"),
    # As a sum, it does not tempt the planner to walk the whole log by position.
    events.c.seq + 0 <= bindparam("upto"),
)
_EXAMPLES = (
    _ONE_JOIN.where(
        events.c.ref.is_not(None),
        events.c.seq > bindparam("after"),
        events.c.seq <= bindparam("upto"),
    )
    .order_by(events.c.seq.desc())
    .limit(bindparam("most", type_=BigInteger))
)

_SOURCE = func.coalesce(events.c.source, _joined.c.source)
"""Who gave an example: the label's source, whether the row is the label, its prediction, or history."""


def _not_of(source: str, since: int) -> ColumnElement[bool]:
    return or_(_SOURCE.is_distinct_from(source), events.c.seq < since)


def _event(row: Row[Any]) -> Event:
    own, joined, waited = _part(row, 0), _part(row, 1), _part(row, 2)
    if own is None:
        raise AssertionError("an event's own columns are never missing")
    return event_of(own, joined, waited)


def _part(row: Row[Any], index: int) -> EventRow | None:
    start = index * _WIDTH
    return None if row[start] is None else EventRow(*row[start : start + _WIDTH])


def _example(row: Row[Any]) -> Example:
    """The example that became known at a row: a label's, a prediction's that one waited for, or itself."""
    own, joined = EventRow(*row[:_WIDTH]), _part(row, 1)
    if own.kind == EXAMPLE or joined is None:
        features, target = from_json(own.features), from_json(own.value)
        return Example(own.seq, own.seq, 0, own.at, features, target, source=own.source)
    of, label = (joined, own) if own.kind == LABEL else (own, joined)
    output = Output(from_json(of.value), from_json(of.body))
    features, target, source = from_json(of.features), from_json(label.value), label.source
    return Example(of.seq, own.seq, of.row or 0, of.at, features, target, of.version, output, source)


class SqlLog:
    """:class:`everlearn.ports.Log` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, model: str, events: Sequence[NewEvent], *, flush: bool = False) -> list[Receipt]:
        """See the port."""
        appending_batches.check(events)
        with self._database.append(flush=flush) as driver:
            return appending_batches.append(driver, driver.model(model), events)

    def read(self, model: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the port."""
        with self._database.read() as connection:
            head, most = model_row(connection, model), max(limit, 0)
            values = {"model": head.id, "after": after, "most": most}
            rows = connection.execute(_READ_UPTO, {**values, "upto": after + most}).all()
            if len(rows) < min(most, head.last_seq - after):  # old events were dropped there
                rows = connection.execute(_READ, values).all()
            return [_event(row) for row in rows]

    def examples(
        self,
        model: str,
        *,
        upto: int,
        after: int = 0,
        newest: int | None = None,
        without: Mapping[str, int] | None = None,
    ) -> list[Example]:
        """See the port."""
        found: dict[int, Example] = {}
        query = _EXAMPLES if not without else _EXAMPLES.where(*map(_not_of, without, without.values()))
        with self._database.read() as connection:
            values = {"model": model_id(connection, model), "after": after, "upto": upto}
            wanted = _NO_LIMIT if newest is None else newest
            while len(found) < wanted:
                most = wanted - len(found)
                rows = connection.execute(query, {**values, "most": most}).all()
                # A correction takes the place of the value before it, which is then one too few.
                for row in rows:
                    example = _example(row)
                    found.setdefault(example.order, example)
                if len(rows) < most:
                    break
                values["upto"] = rows[-1].seq - 1
        return sorted(found.values(), key=lambda example: example.order)

    def pending(self, model: str, *, after_row: int, upto: int) -> list[Label]:
        """See the port."""
        newest: dict[tuple[int, str | None], Label] = {}
        with self._database.read() as connection:
            values = {"model": model_id(connection, model), "after_row": after_row, "upto": upto}
            for row in connection.execute(_PENDING, values):
                label = _known_label(row)
                row_number = label.prediction.row if label.prediction else 0
                _keep_newest(newest, (row_number, label.source), label)
        return [label for _, label in sorted(newest.items(), key=lambda item: (item[0][0], item[1].seq))]

    def find(self, model: str, ids: Sequence[str]) -> dict[str, tuple[Prediction | None, Label | None]]:
        """See the port."""
        predictions: dict[str, Prediction] = {}
        labels: dict[str, Label] = {}
        with self._database.read() as connection:
            number = model_id(connection, model)
            query = _FIND if self._database.is_sqlite else _FIND_KEY_BY_KEY
            for keys in chunks(sorted(set(ids))):
                for row in connection.execute(query, {"model": number, "keys": list(keys)}):
                    event = _event(row)
                    if isinstance(event, Prediction):
                        predictions[event.id] = event
                    elif isinstance(event, Label):
                        _keep_newest(labels, event.id, event)
        known = [id_ for id_ in ids if id_ in predictions or id_ in labels]
        return {id_: _pair(predictions.get(id_), labels.get(id_)) for id_ in known}

    def head(self, model: str) -> Head:
        """See the port."""
        with self._database.read() as connection:
            row = model_row(connection, model)
        return Head(row.last_seq, row.last_row, row.labels, row.parked, row.examples, row.last_at)


def append_locked(connection: Connection, model: Row[Any], batch: Sequence[NewEvent]) -> list[Receipt]:
    """Append inside a transaction that holds the model's row."""
    return Appender(statements_of(connection), model).append(batch)


def _keep_newest(labels: dict[K, Label], key: K, label: Label) -> None:
    if key not in labels or labels[key].seq < label.seq:
        labels[key] = label


def _pair(prediction: Prediction | None, label: Label | None) -> tuple[Prediction | None, Label | None]:
    if prediction is not None and label is not None:
        return prediction, msgspec.structs.replace(label, prediction=prediction)
    return prediction, label


def _known_label(row: Row[Any]) -> Label:
    """The label that a row made known: the row itself, or the one that had waited for its prediction."""
    own, joined = EventRow(*row[:_WIDTH]), _part(row, 1)
    if own.kind == PREDICTION and joined is not None:
        return label_of(joined, prediction_of(own, label_of(joined, None)))
    waited = _part(row, 2)
    if joined is None:
        return label_of(own, None)
    return label_of(own, prediction_of(joined, label_of(waited, None) if waited else None))
