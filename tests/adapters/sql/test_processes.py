"""Many processes on one database: nothing locks, nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from everlearn.adapters.sql import SqlStore
from everlearn.types import Prediction

WORKER = Path(__file__).with_name("store_worker.py")
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.slow


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts workers; those that are left are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", str(WORKER), *map(str, arguments)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(params=["sqlite", "postgres"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'a folder %d' / 'everlearn.db'}"
        return
    url: str = request.getfixturevalue("postgres_url")
    schema = f"s_{uuid.uuid4().hex}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        yield f"{url}?options=-csearch_path%3D{schema}"
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def fresh(fresh_url: str, make: Any) -> Iterator[SqlStore]:
    store = SqlStore(fresh_url)
    store.migrate()
    store.models.create(make.spec(), at=1.0)
    yield store
    store.close()


def finished(process: subprocess.Popen[str]) -> list[str]:
    """The lines that a worker wrote; it must have ended well."""
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def test_processes_may_migrate_at_once(start: Start, fresh_url: str) -> None:
    said = [finished(process) for process in [start("migrate", fresh_url) for _ in range(4)]]
    assert len(said) == 4
    assert all("is at schema" in lines[0] for lines in said)


def test_writers_a_reader_and_committers_get_along(start: Start, fresh_url: str, fresh: SqlStore) -> None:
    calls, size = 25, 5
    total = 1 + 4 * calls * size * 2
    committers = [start("commit", fresh_url, total) for _ in range(2)]
    writers = [start("append", fresh_url, f"w{i}", calls, size) for i in range(4)]
    seen: list[Any] = []
    while len(seen) < total and any(writer.poll() is None for writer in [*writers, *committers]):
        seen += fresh.log.read("m", after=len(seen), limit=200)
    said = [key for writer in writers for key in finished(writer)]
    seen += fresh.log.read("m", after=len(seen), limit=total)
    assert [event.seq for event in seen] == list(range(1, total + 1))
    predictions = [event for event in seen if isinstance(event, Prediction)]
    assert [event.row for event in predictions] == list(range(1, len(predictions) + 1))
    assert sorted(event.id for event in predictions) == sorted(said)
    steps = sorted(tuple(map(int, line.split())) for c in committers for line in finished(c))
    assert steps[0][0] == 0
    assert steps[-1][1] == total
    assert all(one[1] == next_[0] for one, next_ in pairwise(steps))
    assert len(fresh.log.examples("m", upto=total)) == len(predictions)


def test_what_was_acknowledged_survives_a_kill(start: Start, fresh_url: str, fresh: SqlStore) -> None:
    acknowledged: list[str] = []
    for life in range(3):
        process = start("append", fresh_url, f"life{life}", 100_000, 1)
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [line for line in process.communicate()[0].splitlines() if line]
    events = fresh.log.read("m", limit=100_000)
    stored = [event.id for event in events if isinstance(event, Prediction)]
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
    assert len(stored) - len(acknowledged) <= 3
    # Both events of a call are there, or none is; so a client that asks again is told of both.
    assert [event.seq for event in events] == list(range(1, 2 * len(stored) + 2))
    assert finished(start("append", fresh_url, "life0", 10, 1)) == [f"life0-{i}-0" for i in range(10)]
    assert fresh.log.head("m").seq == len(events)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_store_may_be_used_after_a_fork(start: Start, fresh_url: str, fresh: SqlStore) -> None:
    assert len(finished(start("fork", fresh_url))) >= 41
    assert fresh.log.head("m").seq == 1 + 2 * 41
