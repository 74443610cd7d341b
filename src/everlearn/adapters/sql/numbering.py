"""The numbers that tables give out by themselves, and how a copy goes on counting."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Table, func, select, text

from everlearn.adapters.sql.tables import metadata


def settle(source: Connection, target: Connection) -> None:
    """Let the target count on from where the source was: numbers of deleted rows do not come back."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or not table.dialect_options["sqlite"]["autoincrement"]:
            continue
        highest = max(_counted(source, table), target.scalar(select(func.max(column))) or 0)
        if highest:
            _count_on(target, table, column, highest)


def _counted(connection: Connection, table: Table) -> int:
    """The highest number that a table has given out."""
    if connection.dialect.name == "postgresql":
        column = table.autoincrement_column
        name = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))  # type: ignore[union-attr]
        query = text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}")  # noqa: S608
        return int(connection.scalar(query) or 0)
    query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.scalar(query, {"name": table.name}) or 0)


def _count_on(connection: Connection, table: Table, column: Column[Any], highest: int) -> None:
    if connection.dialect.name == "postgresql":
        name = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(name, highest)))
        return
    named = {"name": table.name, "highest": highest}
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
    connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :highest)"), named)
