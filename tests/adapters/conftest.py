"""Stores to hold to one contract: in memory, on SQLite, and on PostgreSQL where one answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from everlearn.adapters.memory import MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.tables import metadata
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Decision, DecisionKind, EventKind, JobSpec, NewEvent, Version


@dataclass(frozen=True)
class Make:
    """Short ways to write events and rows of a store."""

    @staticmethod
    def spec(name: str = "m") -> ModelSpec:
        return parse_spec({"name": name, "target": "y", "features": {"x": "numeric"}})

    @staticmethod
    def prediction(key: str, x: float | None = 1.0, at: float = 1.0, **body: Any) -> NewEvent:
        given = {"features": {"x": x}, "value": 1, "probabilities": {"0": 0.25, "1": 0.75}, "version": 0}
        return NewEvent(EventKind.PREDICTION, at, key, given | body)

    @staticmethod
    def label(key: str, value: Any = 1, at: float = 2.0, **body: Any) -> NewEvent:
        return NewEvent(EventKind.LABEL, at, key, {"value": value, "correction": False, **body})

    @staticmethod
    def example(target: Any = 1, x: float = 0.5, key: str | None = None, at: float = 3.0) -> NewEvent:
        return NewEvent(EventKind.EXAMPLE, at, key, {"features": {"x": x}, "target": target})

    @staticmethod
    def tick(at: float = 4.0, key: str | None = None) -> NewEvent:
        return NewEvent(EventKind.TICK, at, key)

    @staticmethod
    def decision(number: int, kind: DecisionKind = DecisionKind.HOLD, at: float = 5.0) -> Decision:
        return Decision(number, number, at, kind, f"because {number}", {"score": 0.1 * number}, None, "0")

    @staticmethod
    def job(key: str, version: int = 1, model: str = "m") -> JobSpec:
        return JobSpec(key, model, "learn", version, {"upto": 7, "seed": 0})

    @staticmethod
    def version(number: int, model: str = "m") -> Version:
        digest = f"{number:064x}"
        return Version(model, number, 0, "window", {"k": 1}, 1, 5, 7, 3, digest, {"accuracy": 0.1}, 9.0)

    @staticmethod
    def outcome(job: str, version: int, at: float = 9.0) -> NewEvent:
        body = {"job": job, "version": version, "result": {"score": 1 / 3}, "error": None}
        return NewEvent(EventKind.OUTCOME, at, None, body)


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def postgres_url(postgres: Any) -> str:
    """A migrated database of this test process alone."""
    url: str = postgres.url(postgres.take())
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database to copy: a migration for each test would take too long."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    store = SqlStore(f"sqlite:///{path}")
    store.migrate()
    store.close()
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    path = tmp_path / "everlearn.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


def empty(store: SqlStore) -> None:
    """Remove all rows."""
    with store._database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """Opens the same store again and again, as other processes would."""
    if request.param == "memory":
        memory = MemoryStore()
        yield lambda: memory
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    opened: list[SqlStore] = []

    def open_one() -> SqlStore:
        opened.append(SqlStore(url, synchronous="NORMAL"))
        return opened[-1]

    if request.param == "postgres":
        empty(open_one())
    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Any], make: Make) -> Any:
    """A store with one model, ``m``, whose ``configure`` command is at position 1."""
    opened = open_store()
    opened.models.create(make.spec(), at=100.0)
    return opened
