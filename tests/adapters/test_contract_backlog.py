"""Whose turn it is, what an operator does to a job, and leases of names: in memory and in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlearn.errors import ConflictError, FencedError, NotFoundError
from everlearn.types import ADVANCE, ASIDE, QUEUES, ROUTES, JobSpec, JobState, Outcome, Step, queue_of

Open = Callable[[], Any]


@pytest.fixture
def busy(store: Any, make: Any) -> Any:
    """The model ``m`` with six jobs, and after them ``n`` with two, and ``o`` with one."""
    for name, count in (("m", 6), ("n", 2), ("o", 1)):
        if name != "m":
            store.models.create(make.spec(name), at=1.0)
        store.ledger.commit(
            name, Step(0, 1, b"", jobs=[make.job(f"{name}-{i}", i, name) for i in range(1, count + 1)])
        )
    return store


def test_every_route_leads_to_a_queue() -> None:
    assert set(ROUTES.values()) <= set(QUEUES)
    assert set(ROUTES) >= ASIDE
    assert queue_of("something else") in QUEUES


def test_models_take_turns_and_each_its_oldest_job_first(busy: Any) -> None:
    turns = [busy.jobs.lease("me", 100.0, now=float(i)).spec.id for i in range(9)]
    assert turns == ["m-1", "n-1", "o-1", "m-2", "n-2", "m-3", "m-4", "m-5", "m-6"]
    assert busy.jobs.lease("me", 100.0, now=10.0) is None


def test_a_model_has_no_more_jobs_running_than_it_may(busy: Any) -> None:
    assert busy.backlog.due("train", 100, 0.0, most=2) == ["m-1", "n-1", "o-1", "m-2", "n-2"]
    taken = [busy.jobs.lease("me", 100.0, now=float(i), most=2) for i in range(6)]
    assert [job.spec.id for job in taken if job] == ["m-1", "n-1", "o-1", "m-2", "n-2"]
    assert busy.jobs.lease("me", 100.0, now=7.0, id="m-3", most=2) is None
    busy.jobs.fail(taken[0], "no", 8.0, None)
    assert busy.backlog.due("train", 100, 8.0, most=2) == ["m-3"]
    assert busy.jobs.lease("me", 100.0, now=9.0, most=2).spec.id == "m-3"


def test_what_no_loop_waits_for_comes_last_and_takes_no_room_of_what_one_does(store: Any) -> None:
    for i in range(3):
        store.backlog.add(JobSpec(f"grid-{i}", "m", "what_if", 0, {}), 1.0)
    kinds = [JobSpec(kind, "m", kind, 0, {}) for kind in ("train", "shadow")]
    store.ledger.commit("m", Step(0, 1, b"", jobs=kinds))
    turns = [store.jobs.lease("me", 100.0, now=float(i), most=1).spec.id for i in range(3)]
    assert turns == ["shadow", "train", "grid-0"]
    assert store.jobs.lease("me", 100.0, now=4.0, most=1) is None


def test_a_job_is_leased_by_its_id_once(busy: Any) -> None:
    assert busy.jobs.lease("me", 10.0, now=0.0, id="m-4").spec.id == "m-4"
    assert busy.jobs.lease("me", 10.0, now=1.0, id="m-4") is None
    assert busy.jobs.lease("me", 10.0, now=1.0, id="unknown") is None
    assert busy.jobs.lease("me", 10.0, now=11.0, id="m-4").attempts == 2


def test_a_worker_sees_its_queues_alone(store: Any) -> None:
    kinds = [JobSpec(kind, "m", kind, 0, {}) for kind in ("shadow", "train", "regime")]
    store.ledger.commit("m", Step(0, 1, b"", jobs=kinds))
    store.backlog.add(JobSpec("grid", "m", "what_if", 0, {}), 1.0)
    assert store.backlog.depths() == {
        "advance": {"queued": 2}, "train": {"queued": 1}, "maintenance": {"queued": 1}
    }  # fmt: skip
    assert store.jobs.lease("me", 10.0, 0.0, queues=["vision"]) is None
    assert store.jobs.lease("me", 10.0, 0.0, queues=["maintenance"]).spec.id == "grid"
    assert store.jobs.lease("me", 10.0, 1.0, queues=["advance", "vision"]).spec.id == "shadow"
    assert store.backlog.due(ADVANCE, 10, 0.0) == ["regime"]
    assert store.backlog.due(ADVANCE, 10, 11.5) == ["shadow", "regime"]  # its lease has run out


def test_a_queued_job_is_cancelled_and_its_loop_is_told(busy: Any) -> None:
    before = busy.log.head("m").seq
    cancelled = busy.backlog.cancel("m-2", 5.0, "cancelled by ann")
    assert (cancelled.state, cancelled.error) == (JobState.CANCELLED, "cancelled by ann")
    assert busy.jobs.get("m-2") == cancelled
    told = Outcome(before + 1, 5.0, "m-2", 2, {}, "cancelled by ann")
    assert busy.log.read("m", after=before) == [told]
    assert busy.jobs.lease("me", 10.0, 6.0, id="m-2") is None
    with pytest.raises(ConflictError, match="cancelled"):
        busy.backlog.cancel("m-2", 7.0, "again")


def test_a_running_job_is_cancelled_under_its_worker(busy: Any, make: Any) -> None:
    job = busy.jobs.lease("me", 10.0, 0.0)
    busy.backlog.cancel(job.spec.id, 5.0, "cancelled")
    for act in (
        lambda: busy.jobs.renew(job, 10.0, 6.0, 0.5),
        lambda: busy.jobs.finish(job, make.version(1), make.outcome(job.spec.id, 1), 6.0),
        lambda: busy.jobs.fail(job, "no", 6.0, 7.0),
    ):
        with pytest.raises(FencedError):
            act()
    assert busy.log.read("m")[-1].error == "cancelled"
    assert busy.jobs.get(job.spec.id).state is JobState.CANCELLED


def test_a_dead_job_keeps_its_traceback_and_can_be_tried_again(busy: Any, make: Any) -> None:
    job = busy.jobs.lease("me", 10.0, 0.0)
    busy.jobs.fail(job, "crash", 1.0, None, traceback="Traceback: here", dead=True)
    dead = busy.jobs.get("m-1")
    assert (dead.state, dead.error, dead.traceback) == (JobState.DEAD, "crash", "Traceback: here")
    again = busy.backlog.retry("m-1", 5.0)
    assert (again.state, again.attempts, again.finished_at) == (JobState.QUEUED, 0, None)
    with pytest.raises(ConflictError, match="queued"):
        busy.backlog.retry("m-1", 5.0)
    leased = busy.jobs.lease("me", 10.0, 6.0, id="m-1")
    assert leased.token > job.token
    busy.jobs.finish(leased, make.version(1), make.outcome("m-1", 1), 7.0)
    done = busy.jobs.get("m-1")
    assert (done.state, done.error, done.traceback) == (JobState.DONE, None, None)
    for act in (busy.backlog.retry, lambda key, now: busy.backlog.cancel(key, now, "x")):
        with pytest.raises(ConflictError, match="done"):
            act("m-1", 8.0)


def test_an_attempt_that_was_given_back_does_not_count(busy: Any) -> None:
    job = busy.jobs.lease("me", 10.0, 0.0)
    busy.jobs.fail(job, "the worker was stopped", 1.0, 1.0, spared=True)
    assert busy.jobs.get("m-1").attempts == 0
    again = busy.jobs.lease("me", 10.0, 2.0, id="m-1")
    assert (again.attempts, again.token) == (1, 2)


def test_what_no_loop_asked_for_is_no_event_and_keeps_its_result(store: Any) -> None:
    before = store.log.head("m")
    added = store.backlog.add(JobSpec("grid", "m", "what_if", 0, {"settings": {}}), 1.0)
    assert added == store.jobs.get("grid")
    with pytest.raises(ConflictError, match="grid"):
        store.backlog.add(added.spec, 2.0)
    job = store.jobs.lease("me", 10.0, 3.0)
    assert store.jobs.finish(job, None, None, 4.0, {"accuracy": 0.5}) is None
    done = store.jobs.get("grid")
    assert (done.state, done.result) == (JobState.DONE, {"accuracy": 0.5})
    store.backlog.add(JobSpec("grid-2", "m", "what_if", 0, {}), 5.0)
    store.backlog.cancel("grid-2", 6.0, "enough")
    assert store.log.head("m") == before


def test_unknown_jobs_and_models(store: Any) -> None:
    for act in (
        lambda: store.backlog.cancel("no", 1.0, "x"),
        lambda: store.backlog.retry("no", 1.0),
        lambda: store.backlog.add(JobSpec("j", "no", "what_if", 0, {}), 1.0),
    ):
        with pytest.raises(NotFoundError):
            act()


def test_a_lease_of_a_name_is_one_owners_until_it_ends(open_store: Open) -> None:
    one, two = open_store().leases, open_store().leases
    assert one.take("advance:m", "one", 10.0, now=0.0)
    assert not two.take("advance:m", "two", 10.0, now=9.0)
    assert two.take("advance:n", "two", 10.0, now=9.0)
    assert one.take("advance:m", "one", 10.0, now=9.0)  # it keeps its own
    assert (two.holder("advance:m", 18.0), two.holder("advance:m", 19.0)) == ("one", None)
    assert two.take("advance:m", "two", 10.0, now=19.0)
    one.release("advance:m", "one")  # late, and harmless
    assert one.holder("advance:m", 20.0) == "two"
    assert one.take("advance:m", "one", 10.0, now=20.0, over="two")  # it is known to be dead
    one.release("advance:m", "one")
    assert two.take("advance:m", "two", 10.0, now=20.0)
