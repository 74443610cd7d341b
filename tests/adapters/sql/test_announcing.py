"""A promotion is announced as it is committed, and a lost connection is made again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.adapters.memory import ManualClock, MemoryArtifacts
from everlearn.adapters.sql import SqlStore, announcing
from everlearn.api.instruments import Instruments
from everlearn.api.runtime import Runtime
from everlearn.types import Promotion, Step


@pytest.fixture
def store(fresh_postgres: str, make: Any) -> Iterator[SqlStore]:
    """A store with a model, which has a version 1 to be promoted."""
    store = SqlStore(fresh_postgres)
    store.models.create(make.spec(), at=1.0)
    store.ledger.commit("m", Step(0, 1, b"", [make.decision(1)], [make.job("m-1")]))
    leased = store.jobs.lease("me:1:1", 60, 10.0)
    assert leased is not None
    store.jobs.finish(leased, make.version(1), make.outcome("m-1", 1), 11.0)
    yield store
    store.close()


class Listening:
    """Follows in a thread, and counts what it hears."""

    def __init__(self, store: SqlStore) -> None:
        assert store.announcements is not None
        self.news, self.stop = store.announcements, threading.Event()
        self.heard: list[float] = []
        told = (lambda: self.heard.append(time.monotonic()), self.stop)
        self._thread = threading.Thread(target=self.news.follow, args=told)
        self._thread.start()
        until(lambda: self.news.connected and self.heard)

    def end(self) -> None:
        self.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert not self.news.connected


def until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def promote(store: SqlStore, make: Any, number: int) -> None:
    """Versions 1 and 0 take turns."""
    cursor, to = store.ledger.checkpoint("m").cursor, number % 2
    promotion = Promotion(to, 1 - to, number - 1, 12.0, number + 1)
    step = Step(cursor, cursor, b"", [make.decision(number + 1)], promotions=[promotion])
    assert store.ledger.commit("m", step)


def test_who_listens_hears_of_a_promotion_and_of_nothing_else(store: SqlStore, make: Any) -> None:
    listening = Listening(store)
    before = len(listening.heard)
    store.log.append("m", [make.prediction("a"), make.label("a")])
    time.sleep(0.1)
    assert len(listening.heard) == before
    promote(store, make, 1)
    committed = time.monotonic()
    until(lambda: len(listening.heard) > before)
    assert listening.heard[-1] - committed < 5.0
    listening.end()


def test_a_lost_connection_is_made_again(store: SqlStore, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "AGAIN_SECONDS", 0.05)
    listening = Listening(store)
    before = len(listening.heard)
    with store._database.write() as connection:
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        assert connection.execute(text(others)).rowcount == 1
    until(lambda: len(listening.heard) > before and listening.news.connected)  # it may have missed some
    again = len(listening.heard)
    promote(store, make, 1)
    until(lambda: len(listening.heard) > again)
    listening.end()


def test_a_process_swaps_though_it_hardly_polls(store: SqlStore, make: Any) -> None:
    nouns = ("models", "log", "versions", "ledger", "jobs", "backlog")
    parts: Any = SimpleNamespace(
        clock=ManualClock(), artifacts=MemoryArtifacts(), **{noun: getattr(store, noun) for noun in nouns}
    )
    looks: list[float] = []
    runtime = Runtime(parts, Instruments(parts), poll=3600.0, announcements=store.announcements)
    look, runtime.look = runtime.look, lambda: (look(), looks.append(time.monotonic()))  # type: ignore[method-assign,assign,return-value,func-returns-value]
    runtime.start()
    assert store.announcements is not None
    until(lambda: looks and store.announcements.connected)  # type: ignore[union-attr]
    time.sleep(0.1)
    before = len(looks)
    promote(store, make, 1)
    until(lambda: len(looks) > before)
    runtime.stop()


def test_sqlite_announces_nothing(sqlite_url: str) -> None:
    assert SqlStore(sqlite_url).announcements is None
