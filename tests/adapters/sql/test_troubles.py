"""What is wrong with the database file is said in words, with what mends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.database import Database
from everlearn.errors import UnavailableError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "everlearn.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{file}")
    yield made
    made.close()


def test_a_damaged_file(file: Path) -> None:
    file.write_bytes(b"this is no database" * 500)
    with pytest.raises(UnavailableError, match=r"is damaged .* restore it from the backup"):
        SqlStore(f"sqlite:///{file}").migrate()


def test_a_full_disk(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (x BLOB)"))
    with pytest.raises(UnavailableError, match=r"has no room .* free some space"):
        fill(database)


def fill(database: Database) -> None:
    with database.write() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))  # as full as a disk can be
        connection.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))


def test_a_file_that_is_a_folder(file: Path, database: Database) -> None:
    file.mkdir()
    with (
        pytest.raises(UnavailableError, match="cannot be opened or written"),
        database.read(),
    ):
        pass


def test_a_missing_table_is_a_matter_of_migration(file: Path, database: Database) -> None:
    sqlite3.connect(file).close()
    with pytest.raises(UnavailableError, match="is migrated"), database.read() as connection:
        connection.execute(text("SELECT * FROM models"))
