"""What is wrong with the database file is said in words, with what mends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.database import Database
from everlearn.errors import InvalidError, NotFoundError, UnavailableError


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


@pytest.mark.parametrize("name", ["with\0in", "m"])
def test_what_cannot_be_looked_for_is_the_askers_mistake(name: str, open_store: Any, make: Any) -> None:
    """PostgreSQL takes no NUL in a text, and no number that its column has no room for."""
    store = open_store()
    store.models.create(make.spec(), at=1.0)
    with pytest.raises((InvalidError, NotFoundError)):
        store.versions.get(name, 2**40)


def test_a_missing_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everlearn.adapters.sql.dialects.find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"pip install 'everlearn\[postgres\]'"):
        SqlStore("postgresql://nobody@127.0.0.1/none").migrate()
