"""The four statements of an append, through SQLAlchemy or straight to the driver.

A commit takes less time than SQLAlchemy takes to build four statements, so what every request waits for
speaks to the driver itself, inside the same transaction (``direct_postgres.py`` has PostgreSQL's). All ways
do the same; the contract tests of the log hold them to it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Select, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError

from everlearn.adapters.rules import unknown_model
from everlearn.adapters.sql.codec import EventRow, to_json
from everlearn.adapters.sql.tables import erased_ids, erasures, events, models

COLUMNS: tuple[Any, ...] = tuple(events.c[name] for name in EventRow._fields)
COUNTS = ("last_seq", "last_row", "labels", "parked", "examples", "last_at")
"""What an append changes in a model's row."""

Found = tuple[int, int, str, int | None, str | None]
"""``seq``, ``kind``, ``key``, ``row`` and ``value`` of an event with a key that was looked for."""


class ModelRow(NamedTuple):
    """A model's row as far as an append needs it."""

    id: int
    last_seq: int
    last_row: int
    labels: int
    parked: int
    examples: int


class Statements(Protocol):
    """What an append asks of the database, within its transaction."""

    def known(self, model: int, keys: Sequence[str]) -> Iterator[Found]:
        """The events that have one of some keys."""
        ...

    def event(self, model: int, seq: int) -> EventRow:
        """The event at a position, which is there."""
        ...

    def insert(self, model: int, rows: Sequence[EventRow]) -> None:
        """Add events."""
        ...

    def count(self, model: int, counts: Sequence[float]) -> None:
        """Set a model's :data:`COUNTS`."""
        ...

    def salt(self, model: int) -> str | None:
        """The salt of a model's erased ids, if there are any."""
        ...

    def erased(self, model: int, digests: Sequence[str]) -> set[str]:
        """Those of some digests that are of erased ids."""
        ...


class Driver(Statements, Protocol):
    """The same where the transaction is the append's own."""

    def model(self, name: str) -> ModelRow:
        """A model's row, which the transaction holds; raises NotFoundError."""
        ...

    def insert_columns(self, model: int, columns: Sequence[Sequence[Any]]) -> None:
        """Add events by columns, those of an ``EventRow`` in order."""
        ...


_KEYS = select(events.c.seq, events.c.kind, events.c.key, events.c.row, events.c.value).where(
    events.c.model_id == bindparam("model"), events.c.key.in_(bindparam("keys", expanding=True))
)
_ONE: Select[Any] = select(*COLUMNS).where(
    events.c.model_id == bindparam("model"), events.c.seq == bindparam("at_seq")
)
_INSERT = insert(events)


class ThroughSqlalchemy:
    """For any database, inside a transaction of SQLAlchemy's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def known(self, model: int, keys: Sequence[str]) -> Iterator[Found]:
        """See the protocol."""
        for row in self._connection.execute(_KEYS, {"model": model, "keys": keys}):
            yield tuple(row)

    def event(self, model: int, seq: int) -> EventRow:
        """See the protocol."""
        found = self._connection.execute(_ONE, {"model": model, "at_seq": seq})
        return EventRow._make(found.one())

    def insert(self, model: int, rows: Sequence[EventRow]) -> None:
        """See the protocol."""
        self._connection.execute(_INSERT, [{"model_id": model, **row._asdict()} for row in rows])

    def count(self, model: int, counts: Sequence[float]) -> None:
        """See the protocol."""
        values: Mapping[str, float] = dict(zip(COUNTS, counts, strict=True))
        self._connection.execute(update(models).where(models.c.id == model), values)

    def salt(self, model: int) -> str | None:
        """See the protocol."""
        query = select(erasures.c.salt).where(erasures.c.model_id == model).limit(1)
        found: str | None = self._connection.scalar(query)
        return found

    def erased(self, model: int, digests: Sequence[str]) -> set[str]:
        """See the protocol."""
        own = erased_ids.c.model_id == model, erased_ids.c.digest.in_(digests)
        return set(self._connection.scalars(select(erased_ids.c.digest).where(*own)))


_NAMES = ", ".join(f'"{name}"' for name in EventRow._fields)
_SQLITE_MODEL = "SELECT id, last_seq, last_row, labels, parked, examples FROM models WHERE name = ?"
# Without "key IS NOT NULL": SQLite would take that for a range of the index, and read all of it.
_SQLITE_KEYS = (
    "SELECT seq, kind, key, row, value FROM events"
    " WHERE model_id = ? AND key IN (SELECT value FROM json_each(?))"
)
_SQLITE_KEY = "SELECT seq, kind, key, row, value FROM events WHERE model_id = ? AND key = ?"
_SQLITE_ONE = f"SELECT {_NAMES} FROM events WHERE model_id = ? AND seq = ?"  # noqa: S608 - our own columns
_SQLITE_SALT = "SELECT salt FROM erasures WHERE model_id = ? LIMIT 1"
_SQLITE_ERASED = (
    "SELECT digest FROM erased_ids WHERE model_id = ? AND digest IN (SELECT value FROM json_each(?))"
)
_MARKS = ", ".join("?" * (len(EventRow._fields) + 1))
_SQLITE_INSERT = f"INSERT INTO events (model_id, {_NAMES}) VALUES ({_MARKS})"  # noqa: S608
MANY = 100
"""Rows that one statement adds where there are as many: a third of the time of a statement each."""
_SQLITE_INSERT_MANY = _SQLITE_INSERT + f", ({_MARKS})" * (MANY - 1)
_SQLITE_COUNT = f"UPDATE models SET {', '.join(f'{name} = ?' for name in COUNTS)} WHERE id = ?"  # noqa: S608


class ThroughDriver:
    """For SQLite, on the connection of a transaction that has begun."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def model(self, name: str) -> ModelRow:
        """A model's row, which the transaction holds; raises NotFoundError."""
        found = self._run(_SQLITE_MODEL, (name,)).fetchone()
        if found is None:
            raise unknown_model(name)
        return ModelRow._make(found)

    def known(self, model: int, keys: Sequence[str]) -> Iterator[Found]:
        """See the protocol."""
        if len(keys) == 1:
            return iter(self._run(_SQLITE_KEY, (model, keys[0])).fetchall())
        return iter(self._run(_SQLITE_KEYS, (model, to_json(keys))).fetchall())

    def event(self, model: int, seq: int) -> EventRow:
        """See the protocol."""
        return EventRow._make(self._run(_SQLITE_ONE, (model, seq)).fetchone())

    def insert(self, model: int, rows: Sequence[EventRow]) -> None:
        """See the protocol."""
        own = (model,)
        with as_sqlalchemy(_SQLITE_INSERT):
            whole = len(rows) // MANY * MANY
            for start in range(0, whole, MANY):
                pairs = zip(repeat(own), rows[start : start + MANY])
                flat = list(chain.from_iterable(chain.from_iterable(pairs)))
                self._driver.execute(_SQLITE_INSERT_MANY, flat).close()
            if rows := rows[whole:]:
                self._driver.executemany(_SQLITE_INSERT, [own + row for row in rows]).close()

    def insert_columns(self, model: int, columns: Sequence[Sequence[Any]]) -> None:
        """The same by columns, those of an ``EventRow`` in order: a tuple for each row would cost as much."""
        size, width = len(columns[0]), len(columns) + 1
        flat: list[Any] = [model] * (size * width)
        for i, cells in enumerate(columns, 1):
            flat[i::width] = cells
        whole, many = size // MANY * MANY * width, MANY * width
        with as_sqlalchemy(_SQLITE_INSERT):
            for start in range(0, whole, many):
                self._driver.execute(_SQLITE_INSERT_MANY, flat[start : start + many]).close()
            rest = [flat[start : start + width] for start in range(whole, len(flat), width)]
            self._driver.executemany(_SQLITE_INSERT, rest).close()

    def count(self, model: int, counts: Sequence[float]) -> None:
        """See the protocol."""
        self._run(_SQLITE_COUNT, (*counts, model)).close()

    def salt(self, model: int) -> str | None:
        """See the protocol."""
        found = self._run(_SQLITE_SALT, (model,)).fetchone()
        return None if found is None else str(found[0])

    def erased(self, model: int, digests: Sequence[str]) -> set[str]:
        """See the protocol."""
        return {row[0] for row in self._run(_SQLITE_ERASED, (model, to_json(digests))).fetchall()}

    def _run(self, statement: str, values: Iterable[Any]) -> sqlite3.Cursor:
        with as_sqlalchemy(statement):
            return self._driver.execute(statement, tuple(values))


class as_sqlalchemy:  # noqa: N801 - reads as a function; a generator would cost more than a statement
    """The driver's errors as SQLAlchemy would raise them, which is where they are explained."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.OperationalError):
            raise OperationalError(self._statement, None, error) from error
        for module in ("sqlite3", "psycopg"):  # the latter only where it is in use
            base = getattr(sys.modules.get(module), "Error", None)
            if base is not None and isinstance(error, base):
                raise DBAPIError.instance(self._statement, None, error, base) from error
