"""The worker advances every model, runs each job once, and picks up what a dead one left."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import ManualClock
from everlearn.errors import FencedError, NotFoundError, UnavailableError
from everlearn.holding import Holding
from everlearn.loop import drive
from everlearn.loop.defaults import with_defaults
from everlearn.ports import Clock
from everlearn.processes import identity
from everlearn.spec import parse_spec
from everlearn.types import DecisionKind, EventKind, JobSpec, JobState, NewEvent, Step
from everlearn.worker import MAX_ATTEMPTS, Advancer, Backoff, Heartbeat, JobRunner, Worker, retry_wait
from everlearn.worker.attempts import MOST_WAIT

SPEC = {
    "target": "y",
    "features": {"x": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 40, "min_rows": 20},
}


class Parts(SimpleNamespace):
    """An installation whose artifacts are in memory."""

    def __init__(self, store: Any, clock: Clock) -> None:
        super().__init__(
            clock=clock, models=store.models, log=store.log, versions=store.versions,
            ledger=store.ledger, jobs=store.jobs, artifacts=store.artifacts,
            backlog=store.backlog, leases=store.leases, erasures=store.erasures,
        )  # fmt: skip

    def model(self, name: str) -> str:
        self.models.create(with_defaults(parse_spec({**SPEC, "name": name})), self.clock.now())
        return name

    def teach(self, model: str, count: int = 300) -> None:
        rng = random.Random(count)
        rows = [rng.gauss(0, 1) for _ in range(count)]
        self.log.append(
            model,
            [
                NewEvent(EventKind.EXAMPLE, self.clock.now(), None, {"features": {"x": x}, "target": x > 0})
                for x in rows
            ],
        )

    def queue(self, model: str, job: str) -> None:
        """Queue a job by hand that the loop did not ask for."""
        at = self.ledger.checkpoint(model)
        spec = JobSpec(job, model, "train", 99, {})
        assert self.ledger.commit(model, Step(at.cursor, at.cursor, at.state, jobs=[spec]))

    def caught_up(self) -> bool:
        return not self.ledger.behind()


@pytest.fixture
def parts(any_store: Any) -> Parts:
    return Parts(any_store, ManualClock(1_000.0))


def advancer(parts: Parts, backoff: Backoff | None = None, owner: str = "me") -> Advancer:
    return Advancer(parts, Holding(parts.leases, parts.clock, owner, 15.0), backoff)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def dead_owner() -> str:
    code = "from everlearn.processes import identity; print(identity())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_worker_takes_models_from_history_to_a_champion(any_store: Any) -> None:
    parts = Parts(any_store, SystemClock())
    names = [parts.model("one"), parts.model("two")]
    worker = Worker(parts, poll_seconds=0.01)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for name in names:
            parts.teach(name)
        until(lambda: all(parts.versions.champion(name).version > 0 for name in names))
        until(parts.caught_up)
    finally:
        worker.stop()
        thread.join(10)
    assert not thread.is_alive()
    for name in names:
        promoted = parts.ledger.decisions(name, kind=DecisionKind.PROMOTE).items
        assert [decision.version for decision in promoted] == [parts.versions.champion(name).version]


def test_two_workers_decide_once(any_store: Any) -> None:
    parts = Parts(any_store, SystemClock())
    parts.model("m")
    workers = [Worker(parts, poll_seconds=0.005, owner=f"w:{i}:0") for i in range(2)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            parts.teach("m", 100)
            time.sleep(0.05)
        until(lambda: parts.caught_up() and parts.versions.champion("m").version > 0)
        until(lambda: all(job.state is JobState.DONE for job in parts.jobs.list("m").items))
        until(parts.caught_up)
    finally:
        for worker, thread in zip(workers, threads, strict=True):
            worker.stop()
            thread.join(10)
    numbers = [decision.number for decision in parts.ledger.decisions("m", limit=1000).items]
    assert numbers == list(range(len(numbers), 0, -1))
    assert all(job.attempts == 1 for job in parts.jobs.list("m").items)


def test_a_model_that_fails_holds_up_no_other(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.model("bad")
    parts.model("good")
    now = [0.0]
    advance_all = advancer(parts, Backoff(now=lambda: now[0]))
    real, tried = drive.advance_model, []

    def advance(model: str, *rest: Any) -> int:
        tried.append(model)
        if model == "bad":
            raise RuntimeError("broken state")
        return real(model, *rest)

    monkeypatch.setattr(drive, "advance_model", advance)
    assert advance_all.run_once() == 1
    assert parts.ledger.behind() == ["bad"]
    advance_all.run_once()
    assert tried.count("bad") == 1  # it waits
    now[0] = 1.5
    monkeypatch.setattr(drive, "advance_model", real)
    assert advance_all.run_once() == 1
    assert parts.caught_up()


def test_a_deleted_model_is_no_trouble(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.model("m")
    monkeypatch.setattr(
        parts, "ledger", SimpleNamespace(behind=lambda limit: ["gone"], checkpoint=parts.ledger.checkpoint)
    )
    assert advancer(parts).run_once() == 0


def test_waits_grow_to_a_minute_and_end_with_success() -> None:
    now = [0.0]
    backoff = Backoff(now=lambda: now[0])
    assert [backoff.failed("m") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.waits("m")
    assert not backoff.waits("other")
    backoff.succeeded("m")
    assert not backoff.waits("m")
    assert backoff.failed("m") == 1.0


def test_a_job_that_fails_says_why(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-x")  # a plan without a spec: nothing can be trained from it
    runner = JobRunner(parts, identity())
    assert runner.run_once()
    job = parts.jobs.get("m-x")
    assert job.state is JobState.FAILED
    assert "spec" in str(job.error)
    assert not runner.run_once()
    assert parts.log.read("m")[-1].job == "m-x"


def test_a_job_that_keeps_killing_its_worker_is_given_up(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-x")
    for attempt in range(MAX_ATTEMPTS):
        assert parts.jobs.lease(f"killed-{attempt}", 15.0, parts.clock.now()) is not None
        parts.clock.advance(16.0)
    assert JobRunner(parts, "me:1:1").run_once()
    job = parts.jobs.get("m-x")
    assert job.state is JobState.DEAD
    assert "died" in str(job.error)


def test_a_dead_workers_job_is_taken_at_once_and_a_living_ones_is_not(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-dead")
    parts.queue("m", "m-alive")
    assert parts.jobs.lease(dead_owner(), 15.0, parts.clock.now()).spec.id == "m-dead"
    assert parts.jobs.lease(identity(), 15.0, parts.clock.now()).spec.id == "m-alive"
    runner = JobRunner(parts, "elsewhere:1:1")
    assert runner.adopt_orphans() == 1
    assert parts.jobs.get("m-dead").state is JobState.QUEUED
    assert parts.jobs.get("m-alive").state is JobState.RUNNING


def test_a_stopped_worker_gives_its_job_back(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-x")
    runner = JobRunner(parts, "me:1:1")
    runner.current = parts.jobs.lease("me:1:1", 15.0, parts.clock.now())
    runner.give_back()
    assert parts.jobs.get("m-x").state is JobState.QUEUED
    runner.give_back()  # late, and harmless


def test_a_result_after_the_lease_went_does_not_count(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.model("m")
    parts.teach("m")
    advancer(parts).run_once()
    real = drive.do_job

    def late(job: Any, **rest: Any) -> Any:
        parts.clock.advance(60.0)  # it slept through its lease, and another took the job
        taken = parts.jobs.lease("another:1:1", 15.0, parts.clock.now())
        assert taken is not None
        return real(job, **rest)

    monkeypatch.setattr(drive, "do_job", late)
    assert JobRunner(parts, "me:1:1").run_once()
    (job,) = parts.jobs.list("m").items
    assert (job.state, job.owner) == (JobState.RUNNING, "another:1:1")
    assert [version.number for version in parts.versions.list("m").items] == [0]


def test_the_heartbeat_keeps_the_lease_and_carries_progress(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-x")
    job = parts.jobs.lease("me:1:1", 0.15, parts.clock.now())
    with Heartbeat(parts.jobs, job, 0.15, parts.clock) as heartbeat:
        heartbeat.report(0.5)
        until(lambda: parts.jobs.get("m-x").progress == 0.5)
        parts.clock.advance(0.1)
        until(lambda: parts.jobs.get("m-x").lease_until > 1_000.2)
        parts.clock.advance(60.0)
        parts.jobs.lease("another:1:1", 60.0, parts.clock.now())

        def lost() -> bool:
            try:
                heartbeat.report(0.6)
            except FencedError:
                return True
            return False

        until(lost)
    assert parts.jobs.get("m-x").progress != 0.6


def test_a_missed_beat_is_not_the_end(parts: Parts) -> None:
    parts.model("m")
    parts.queue("m", "m-x")
    job = parts.jobs.lease("me:1:1", 0.09, parts.clock.now())
    beats = []

    def renew(*arguments: Any) -> None:
        beats.append(arguments)
        if len(beats) == 1:
            raise UnavailableError("the database is away")

    with Heartbeat(SimpleNamespace(renew=renew), job, 0.09, parts.clock) as heartbeat:
        until(lambda: len(beats) > 2)
        heartbeat.report(1.0)
    assert all(beat[0] is job for beat in beats)


def test_the_database_may_be_away_for_a_while(any_store: Any) -> None:
    parts = Parts(any_store, SystemClock())
    parts.model("m")
    ledger, calls = parts.ledger, []

    def behind(limit: int) -> list[str]:
        calls.append(limit)
        if len(calls) == 1:
            raise UnavailableError("the database is away")
        found: list[str] = ledger.behind(limit)
        return found

    parts.ledger = SimpleNamespace(behind=behind, checkpoint=ledger.checkpoint, commit=ledger.commit)
    worker = Worker(parts, poll_seconds=0.01)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: not ledger.behind())
    finally:
        worker.stop()
        thread.join(10)


def test_a_job_of_a_deleted_model_is_dropped(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.model("m")
    parts.queue("m", "m-x")
    real = drive.do_job

    def deleted_meanwhile(job: Any, **rest: Any) -> Any:
        parts.models.delete("m")
        return real(job, **rest)

    monkeypatch.setattr(drive, "do_job", deleted_meanwhile)
    assert JobRunner(parts, "me:1:1").run_once()
    with pytest.raises(NotFoundError):
        parts.jobs.get("m-x")


def test_a_passing_trouble_is_tried_again_and_ends_as_a_dead_letter(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.model("m")
    parts.queue("m", "m-x")

    def down(job: Any, **rest: Any) -> None:
        raise UnavailableError("the store is away")

    monkeypatch.setattr(drive, "do_job", down)
    runner = JobRunner(parts, "me:1:1")
    before = parts.log.head("m").seq
    for attempt in range(1, MAX_ATTEMPTS):
        assert runner.run_once()
        waiting = parts.jobs.get("m-x")
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, attempt)
        assert waiting.not_before == pytest.approx(parts.clock.now() + retry_wait("m-x", attempt))
        assert runner.run_once() is None  # not yet
        parts.clock.advance(retry_wait("m-x", attempt) + 0.01)
    assert parts.log.head("m").seq == before
    assert runner.run_once()
    dead = parts.jobs.get("m-x")
    assert (dead.state, dead.error) == (JobState.DEAD, "the store is away")
    assert "in down" in str(dead.traceback)
    assert parts.log.read("m")[-1].error == "the store is away"


@given(st.text(min_size=1), st.integers(1, 60))
def test_waits_grow_and_are_told_beforehand(job: str, attempt: int) -> None:
    wait = retry_wait(job, attempt)
    assert wait == retry_wait(job, attempt)
    assert 0.75 * min(2.0**attempt, MOST_WAIT) <= wait <= min(1.25 * 2.0**attempt, MOST_WAIT)


def test_a_model_is_advanced_by_one_worker_at_a_time(parts: Parts) -> None:
    parts.model("m")
    one, other = advancer(parts, owner="one"), advancer(parts, owner="other")
    assert one.run_once() == 1
    parts.teach("m", 10)
    assert other.run_once() == 0
    assert one.run_once() == 10
    parts.teach("m", 10)
    one.give_back()
    time.sleep(0.6)  # a refusal is remembered for a moment
    assert other.run_once() == 10
    parts.teach("m", 10)
    assert other.advance("m") == 10
    parts.teach("m", 10)
    time.sleep(0.6)
    assert one.advance("m") == 10  # who advances one model gives it back at once


def test_a_dead_advancers_models_are_taken_at_once(parts: Parts) -> None:
    parts.model("m")
    assert parts.leases.take("advance:m", dead_owner(), 1000.0, parts.clock.now())
    assert advancer(parts).run_once() == 1


def test_a_model_far_behind_does_not_starve_another(parts: Parts) -> None:
    parts.model("big")
    parts.teach("big", 7000)
    parts.model("small")
    parts.teach("small", 10)
    assert advancer(parts).run_once() == 1000 + 11
    assert parts.ledger.behind() == ["big"]
