"""Connections, locks, threads and the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from everlearn import ports
from everlearn.adapters.rules import Receipts
from everlearn.adapters.sql import SqlStore, dialects
from everlearn.adapters.sql.tables import metadata
from everlearn.errors import InvalidError, UnavailableError
from everlearn.types import EventKind, NewEvent


@pytest.fixture
def store(sqlite_url: str, make: Any) -> Iterator[SqlStore]:
    store = SqlStore(sqlite_url, synchronous="NORMAL")
    store.models.create(make.spec(), at=1.0)
    yield store
    store.close()


def holder(url: str) -> sqlite3.Connection:
    """Another process's write lock, as it were."""
    connection = sqlite3.connect(
        url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_its_nouns_are_the_ports(store: SqlStore) -> None:
    nouns: tuple[ports.Models, ports.Log, ports.Versions, ports.Ledger, ports.Jobs, ports.Outbox, Receipts]
    nouns = (
        store.models,
        store.log,
        store.versions,
        store.ledger,
        store.jobs,
        store.outbox,
        store.receipts,
    )
    assert len(nouns) == 7


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_migrations_make_the_tables(kind: str, request: pytest.FixtureRequest) -> None:
    store = SqlStore(request.getfixturevalue(f"{kind}_url"))
    store.migrate()
    with store._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        partial = {
            index["name"]
            for index in inspect(connection).get_indexes("events")
            if any(option.endswith("_where") for option in index.get("dialect_options", {}))
        }
    assert partial == {"ix_events_key", "ix_events_known", "ix_events_row"}
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_check_says_where_the_schema_is(kind: str, request: pytest.FixtureRequest) -> None:
    store = SqlStore(request.getfixturevalue(f"{kind}_url"))
    assert "is at schema" in store.check()
    store.close()


def test_check_wants_a_migration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(UnavailableError, match="schema none"):
        store.check()
    with pytest.raises(UnavailableError, match="migrated"):
        store.log.head("m")
    store.migrate()
    store.migrate()
    assert "is at schema" in store.check()
    assert capfd.readouterr() == ("", "")
    store.close()


def test_nothing_is_opened_until_it_is_used(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path / 'folder' / 'new.db'}").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "nonsense"])
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="sqlite:///PATH"):
        SqlStore(url)


@pytest.mark.parametrize(
    "use",
    [lambda log: log.head("m"), lambda log: log.append("m", [NewEvent(EventKind.TICK, 1.0)])],
    ids=["read", "append"],
)
def test_a_database_that_is_down_is_unavailable(use: Callable[[Any], Any]) -> None:
    store = SqlStore("postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(UnavailableError) as raised:
        use(store.log)
    assert "secret" not in str(raised.value)
    store.close()


def test_pragmas_are_set(store: SqlStore) -> None:
    with store._database.read() as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert said == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30_000}


def test_readers_do_not_wait_for_a_writer(store: SqlStore, sqlite_url: str) -> None:
    other = holder(sqlite_url)
    assert store.log.head("m").seq == 1
    assert store.ledger.behind() == ["m"]
    assert store.jobs.lease("me", 1.0, now=0.0) is None
    other.close()


def test_a_locked_database_is_tried_again(
    sqlite_url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "BUSY_SECONDS", 0.2)
    store = SqlStore(sqlite_url)
    other = holder(sqlite_url)
    release = Timer(0.3, other.rollback)
    release.start()
    store.models.create(make.spec(), at=1.0)
    assert store.log.head("m").seq == 1
    release.join()
    other.close()
    store.close()


def test_a_database_locked_for_ever_is_unavailable(
    store: SqlStore, sqlite_url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "BUSY_SECONDS", 0.01)
    store.close()
    other = holder(sqlite_url)
    with pytest.raises(UnavailableError, match="locked"):
        store.log.append("m", [make.tick()])
    other.close()
    store.log.append("m", [make.tick()])


def test_threads_share_a_store(store: SqlStore, make: Any) -> None:
    def work(thread: int) -> None:
        for i in range(20):
            store.log.append("m", [make.prediction(f"{thread}-{i}"), make.label(f"{thread}-{i}")])
            store.log.read("m", after=i)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert [event.seq for event in store.log.read("m", limit=1000)] == list(range(1, 322))
    assert store.log.head("m").labels == 160


def test_a_call_that_fails_leaves_nothing(store: SqlStore, make: Any) -> None:
    with pytest.raises(InvalidError, match="JSON"):
        store.log.append("m", [make.prediction("a"), make.prediction("b", features={"x": object()})])
    assert store.log.head("m").seq == 1
    assert store.log.find("m", ["a"]) == {}


def plan(store: SqlStore, statement: Any, **values: Any) -> list[str]:
    """How SQLite goes about a query."""
    with store._database.read() as connection:
        compiled = statement.params(**values).compile(connection, compile_kwargs={"literal_binds": True})
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
    return [row[3] for row in rows]


def test_hot_queries_use_their_indexes(store: SqlStore) -> None:
    from everlearn.adapters.sql import direct, log

    asked = {
        "ix_events_known (model_id=? AND seq>? AND seq<?)": (
            log._EXAMPLES,
            {"after": 0, "upto": 9, "most": 5},
        ),
        "sqlite_autoindex_events_1 (model_id=? AND seq>?)": (log._READ, {"after": 0, "most": 5}),
        "ix_events_row (model_id=? AND row>?)": (log._PENDING, {"after_row": 0, "upto": 5}),
        "ix_events_key (model_id=? AND key=?)": (log._FIND, {"keys": ["a", "b"]}),
        "ix_events_key (model_id=? AND key=? )": (direct._KEYS, {"keys": ["a", "b"]}),
    }
    for index, (statement, values) in asked.items():
        first, *joins = plan(store, statement, model=1, **values)
        assert first == f"SEARCH events USING INDEX {index.replace('? )', '?)')}"
        assert all("(model_id=? AND seq=?) LEFT-JOIN" in join for join in joins)
