"""Telling a broker of work: fairly, bounded, again when it was lost, and by one process at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.adapters.memory_broker import MemoryBroker
from everlearn.errors import UnavailableError
from everlearn.holding import Holding
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.types import EventKind, JobSpec, JobState, NewEvent, Step
from everlearn.worker.brokered import BrokeredWorker
from everlearn.worker.dispatching import AGAIN_JOB, AGAIN_MODEL, DISPATCH, ROOM, Dispatcher

SPEC = {
    "target": "y",
    "features": {"x": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 40, "min_rows": 20},
}


class Parts(SimpleNamespace):
    """An installation in memory; its dispatchers read the time from ``steady``."""

    def __init__(self, clock: Any) -> None:
        store = MemoryStore()
        super().__init__(**vars(store), clock=clock, steady=[100.0], broker=MemoryBroker())

    def model(self, name: str) -> str:
        self.models.create(with_defaults(parse_spec({**SPEC, "name": name})), self.clock.now())
        return name

    def queue(self, model: str, count: int, kind: str = "train") -> None:
        at = self.ledger.checkpoint(model)
        jobs = [JobSpec(f"{model}/{i:04}", model, kind, i, {}) for i in range(count)]
        assert self.ledger.commit(model, Step(max(at.cursor, 1), max(at.cursor, 1), b"", jobs=jobs)) or (
            self.ledger.commit(model, Step(at.cursor, 1, b"", jobs=jobs))
        )

    def dispatcher(self, owner: str = "me", **options: Any) -> Dispatcher:
        holding = Holding(self.leases, self.clock, owner, 15.0, steady=lambda: self.steady[0])
        return Dispatcher(self, self.broker, holding, steady=lambda: self.steady[0], **options)

    def told(self, queue: str) -> list[str]:
        """Take what a queue was told of."""
        found = []
        while (message := self.broker.take(queue)) is not None:
            found.append(message[1])
        return found


@pytest.fixture
def parts() -> Parts:
    return Parts(ManualClock(1_000.0))


def test_due_jobs_are_told_of_once_in_turn_and_by_their_queue(parts: Parts) -> None:
    for name in ("a", "b"):
        parts.model(name)
        parts.queue(name, 2)
    parts.backlog.add(JobSpec("grid", "a", "what_if", 0, {}), 1.0)
    dispatcher = parts.dispatcher()
    assert dispatcher.run_once() == 5
    parts.steady[0] += 1.0
    assert dispatcher.run_once() == 0
    assert parts.told("train") == ["a/0000", "b/0000", "a/0001", "b/0001"]
    assert parts.told("maintenance") == ["grid"]
    assert parts.told("advance") == []


def test_what_was_lost_is_told_of_again(parts: Parts) -> None:
    parts.model("a")
    dispatcher = parts.dispatcher()
    assert dispatcher.run_once() == 1  # its configure command is to be read
    parts.queue("a", 2)
    parts.steady[0] += 1.0
    assert dispatcher.run_once() == 2
    parts.broker.flush()
    parts.steady[0] += AGAIN_JOB - 0.5
    assert dispatcher.run_once() == 0
    parts.steady[0] += 1.0
    assert dispatcher.run_once() == 2
    assert parts.told("train") == ["a/0000", "a/0001"]
    parts.log.append("a", [NewEvent(EventKind.TICK, 1.0)])
    assert dispatcher.run_once() == 1
    parts.broker.flush()
    parts.steady[0] += AGAIN_MODEL + 0.1
    assert dispatcher.run_once() == 1
    assert parts.told("advance") == ["a"]


def test_a_job_that_somebody_has_begun_is_not_told_of(parts: Parts) -> None:
    parts.model("a")
    parts.queue("a", 2)
    job = parts.jobs.lease("w", 15.0, parts.clock.now())
    dispatcher = parts.dispatcher()
    dispatcher.run_once()
    assert parts.told("train") == ["a/0001"]
    parts.jobs.fail(job, "it was given back", parts.clock.now(), parts.clock.now(), spared=True)
    parts.steady[0] += 1.0
    dispatcher.run_once()
    assert parts.told("train") == ["a/0000"]


def test_a_thousand_jobs_of_one_model_fill_no_queue(parts: Parts) -> None:
    for name, count in (("big", 1000), ("small", 1)):
        parts.model(name)
        parts.queue(name, count)
    dispatcher = parts.dispatcher()
    for _ in range(10):
        dispatcher.run_once()
        parts.steady[0] += AGAIN_JOB + 1
    assert parts.broker.waiting("train") == ROOM
    assert "small/0000" in parts.told("train")[:2]
    parts.steady[0] += 1.0
    assert parts.dispatcher(most=3).run_once() == 3 + 1


def test_one_process_tells_at_a_time(parts: Parts) -> None:
    parts.model("a")
    one, other = parts.dispatcher("one"), parts.dispatcher("other")
    assert one.run_once() == 1
    parts.broker.flush()
    parts.steady[0] += 1.0
    assert other.run_once() == 0
    parts.leases.release(DISPATCH, "one")
    parts.steady[0] += 1.0
    assert other.run_once() == 1


def test_a_broker_that_is_down_is_tried_again(parts: Parts) -> None:
    parts.model("a")
    dispatcher = parts.dispatcher()
    tell, calls = parts.broker.tell, []

    def down(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise UnavailableError("the broker is away")
        tell(*arguments)

    parts.broker.tell = down
    stop = threading.Event()
    thread = threading.Thread(target=dispatcher.run, args=(stop,))
    thread.start()
    until(lambda: parts.broker.waiting("advance") == 1)
    stop.set()
    thread.join(10)
    assert parts.leases.holder(DISPATCH, parts.clock.now()) is None


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_worker_that_is_told_takes_a_model_from_history_to_a_champion() -> None:
    parts = Parts(SystemClock())
    parts.model("a")
    queues = ["advance", "train"]
    worker = BrokeredWorker(parts, parts.broker, queues=queues, owner="w:1:1")
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        at = parts.clock.now()
        rows = [{"features": {"x": float(i % 11 - 5)}, "target": i % 11 > 5} for i in range(300)]
        parts.log.append("a", [NewEvent(EventKind.EXAMPLE, at, None, row) for row in rows])
        until(lambda: parts.versions.champion("a").version > 0)
        parts.broker.flush()
        parts.log.append("a", [NewEvent(EventKind.TICK, at)])
        until(lambda: not parts.ledger.behind())
        until(lambda: all(job.state is JobState.DONE for job in parts.jobs.list("a").items))
    finally:
        parts.broker.stop()
        thread.join(10)
    assert not thread.is_alive()
    assert parts.leases.holder("advance:a", parts.clock.now()) is None
