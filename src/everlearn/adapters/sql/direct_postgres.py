"""The statements of an append straight to psycopg, on PostgreSQL: events by COPY, in its binary format.

A COPY takes less time than an INSERT even for one row, and a third of it for many; psycopg prepares the
other statements by itself. Works on a connection of its own or on that of a transaction of SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from everlearn.adapters.rules import unknown_model
from everlearn.adapters.sql.codec import EventRow
from everlearn.adapters.sql.direct import COUNTS, Found, ModelRow, as_sqlalchemy

_NAMES = ", ".join(f'"{name}"' for name in EventRow._fields)
_MODEL = (
    "SELECT id, last_seq, last_row, labels, parked, examples FROM models WHERE name = %s FOR NO KEY UPDATE"
)
# Key by key (OFFSET keeps it so): before a table has statistics, the planner would read the whole log.
_KEYS = (
    "SELECT e.* FROM unnest(%s::varchar[]) AS wanted(key) CROSS JOIN LATERAL"
    " (SELECT seq, kind, key, row, value FROM events WHERE model_id = %s AND key = wanted.key OFFSET 0) AS e"
)
_ONE = f"SELECT {_NAMES} FROM events WHERE model_id = %s AND seq = %s"  # noqa: S608 - our own columns
_COPY = f"COPY events (model_id, {_NAMES}) FROM STDIN (FORMAT BINARY)"
_COUNT = f"UPDATE models SET {', '.join(f'{name} = %s' for name in COUNTS)} WHERE id = %s"  # noqa: S608
_SALT = "SELECT salt FROM erasures WHERE model_id = %s LIMIT 1"
_ERASED = "SELECT digest FROM erased_ids WHERE model_id = %s AND digest = ANY(%s::varchar[])"
_TYPES = (
    "int4", "int8", "int2", "float8", "varchar", "int8", "int8", "int4", "text", "text", "text", "varchar",
)  # fmt: skip
FLUSH = "SET LOCAL synchronous_commit TO on"
"""For a transaction that must be on disk when it is committed, however the server is set up."""


class ThroughPsycopg:
    """For PostgreSQL, on psycopg's connection with the transaction that is to be appended in."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def model(self, name: str) -> ModelRow:
        """A model's row, which the transaction holds from here on; raises NotFoundError."""
        found = self._run(_MODEL, (name,)).fetchone()
        if found is None:
            raise unknown_model(name)
        return ModelRow._make(found)

    def known(self, model: int, keys: Sequence[str]) -> Iterator[Found]:
        """See the protocol."""
        return iter(self._run(_KEYS, (list(keys), model)).fetchall())

    def event(self, model: int, seq: int) -> EventRow:
        """See the protocol."""
        return EventRow._make(self._run(_ONE, (model, seq)).fetchone())

    def insert(self, model: int, rows: Sequence[EventRow]) -> None:
        """See the protocol."""
        with as_sqlalchemy(_COPY), self._driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for row in rows:
                copy.write_row((model, *row))

    def insert_columns(self, model: int, columns: Sequence[Sequence[Any]]) -> None:
        """The same by columns, those of an ``EventRow`` in order."""
        with as_sqlalchemy(_COPY), self._driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for row in zip(repeat(model), *columns):
                copy.write_row(row)

    def count(self, model: int, counts: Sequence[float]) -> None:
        """See the protocol."""
        self._run(_COUNT, (*counts, model))

    def salt(self, model: int) -> str | None:
        """See the protocol."""
        found = self._run(_SALT, (model,)).fetchone()
        return None if found is None else str(found[0])

    def erased(self, model: int, digests: Sequence[str]) -> set[str]:
        """See the protocol."""
        return {row[0] for row in self._run(_ERASED, (model, list(digests))).fetchall()}

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        with as_sqlalchemy(statement):
            return self._driver.execute(statement, values)
