"""What was committed without waiting for the disk is flushed soon after, and at once where that is asked."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from everlearn.adapters.sql import SqlStore, dialects, flushing
from everlearn.adapters.sql.database import Database
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent

SPEC = {"name": "a", "target": "y", "features": {"x": "numeric"}}


def label(key: str) -> NewEvent:
    return NewEvent(EventKind.LABEL, 1.0, key, {"value": 1})


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were flushed."""
    seen: list[Path] = []
    flush = flushing.flush

    def watched(file: Path) -> None:
        flush(file)
        seen.append(file)

    monkeypatch.setattr(flushing, "flush", watched)
    return seen


def opened(folder: Path, synchronous: dialects.Synchronous) -> SqlStore:
    store = SqlStore(f"sqlite:///{folder / 'x.db'}", synchronous=synchronous)
    store.migrate()
    store.models.create(parse_spec(SPEC), 0.0)
    return store


def test_a_commit_is_flushed_within_a_tenth_of_a_second(tmp_path: Path, flushed: list[Path]) -> None:
    store = opened(tmp_path, "NORMAL")
    time.sleep(3 * flushing.EVERY)
    before = len(flushed)
    store.log.append("a", [label("1")])
    deadline = time.monotonic() + 10
    while len(flushed) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert flushed[-1] == tmp_path / "x.db-wal"
    store.close()


def test_closing_flushes_what_is_left(tmp_path: Path, flushed: list[Path]) -> None:
    store = opened(tmp_path, "NORMAL")
    store.log.append("a", [label("1")])
    store.close()
    assert flushed


def test_with_full_nothing_is_left_to_flush(tmp_path: Path, flushed: list[Path]) -> None:
    store = opened(tmp_path, "FULL")
    store.log.append("a", [label("1")])
    store.close()
    assert flushed == []


def test_sqlite_flushes_itself_where_an_append_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, "NORMAL")
    asked: list[tuple[bool, int]] = []
    begin = dialects.begin_append

    def watched(driver: sqlite3.Connection, *, flush: bool) -> None:
        begin(driver, flush=flush)
        asked.append((flush, driver.execute("PRAGMA synchronous").fetchone()[0]))

    monkeypatch.setattr(dialects, "begin_append", watched)
    for flush in (False, True, False):
        store.log.append("a", [label(str(len(asked)))], flush=flush)
    store.close()
    assert asked == [(False, 1), (True, 2), (False, 1)]


def test_a_failed_append_leaves_nothing_behind_and_the_next_one_goes_on(tmp_path: Path) -> None:
    store = opened(tmp_path, "NORMAL")
    with pytest.raises(Exception, match="cannot be stored as JSON"):
        store.log.append("a", [label("1"), NewEvent(EventKind.LABEL, 1.0, "2", {"value": object()})])
    (receipt,) = store.log.append("a", [label("3")])
    assert receipt.seq == 2
    assert store.log.find("a", ["1"]) == {}
    store.close()


def test_postgresql_waits_for_the_disk_where_it_is_asked_to(fresh_postgres: str) -> None:
    """However the server is set up: the databases of the tests do not wait."""
    database = Database(fresh_postgres)
    for flush, told in ((False, "off"), (True, "on"), (False, "off")):
        with database.append(flush=flush) as driver:
            shown = driver._driver.execute("SHOW synchronous_commit")  # type: ignore[attr-defined]
            assert shown.fetchone() == (told,)
    database.close()
