"""Adding many rows at once: by COPY on PostgreSQL, by prepared statements on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from everlearn.adapters.sql.direct import as_sqlalchemy


def load(connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows, with all of the table's columns in order, inside the connection's transaction."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    if connection.dialect.name == "postgresql":
        copy_rows(connection, f'COPY "{table.name}" ({names}) FROM STDIN', rows)
        return
    marks = ", ".join("?" * len(table.columns))
    statement = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608 - our own names
    if given := [tuple(row) for row in rows]:
        connection.exec_driver_sql(statement, given)


def copy_rows(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """``COPY ... FROM STDIN`` with rows of psycopg's values."""
    driver: Any = connection.connection.driver_connection
    with as_sqlalchemy(statement), driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
