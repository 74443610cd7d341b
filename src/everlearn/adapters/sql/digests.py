"""What a table holds, as one SHA-256: the same on every database that holds the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    Text,
    literal,
    select,
    tuple_,
)

from everlearn.adapters.sql.tables import metadata

BATCH = 20_000
"""Rows that are read at once."""

_encode = msgspec.json.Encoder().encode_lines


class Digest(NamedTuple):
    """A table's rows: how many, and the SHA-256 of their canonical lines in order of their key."""

    rows: int
    sha256: str


def table_digest(
    connection: Connection, table: Table, report: Callable[[int], None] = lambda _: None
) -> Digest:
    """Read a whole table. ``report`` is told of the rows read by each query.

    A row's canonical line is the JSON list of its values in the order of the columns; bytes are base64.
    """
    found, count = hashlib.sha256(), 0
    for rows in batches(connection, table):
        found.update(_encode([tuple(row) for row in rows]))
        count += len(rows)
        report(len(rows))
    return Digest(count, found.hexdigest())


def tables_in_order() -> Sequence[Table]:
    """Every table, each after those it refers to."""
    return metadata.sorted_tables


def batches(
    connection: Connection,
    table: Table,
    after: Sequence[Any] | None = None,
    size: int = BATCH,
    where: ColumnElement[bool] | None = None,
) -> Iterator[Sequence[Row[Any]]]:
    """A table's rows in order of their key, from after a key on, so many at a time."""
    key = list(table.primary_key.columns)
    places = [list(table.columns).index(column) for column in key]
    ordered = [_in_bytes(connection, column) for column in key]
    query: Select[Any] = select(table).order_by(*ordered).limit(size)
    if where is not None:
        query = query.where(where)
    while True:
        asked = query
        if after is not None:
            place = [literal(value, column.type) for value, column in zip(after, key, strict=True)]
            asked = query.where(tuple_(*ordered) > tuple_(*place))
        rows = connection.execute(asked).all()
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = [rows[-1][place] for place in places]


def _in_bytes(connection: Connection, column: Column[Any]) -> Any:
    """Text in the order of its bytes, as SQLite has it, whatever the database's language is."""
    if connection.dialect.name == "postgresql" and isinstance(column.type, String | Text):
        return column.collate("C")
    return column
