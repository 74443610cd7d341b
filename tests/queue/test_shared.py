"""One suite for every kind of queue: rows alone, Celery over Redis, Celery over RabbitMQ."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from everlearn.loop import drive
from everlearn.loop.backfill_columns import columns_of
from everlearn.loop.backfill_jobs import work
from everlearn.loop.backfill_plan import Stretch, plan
from everlearn.loop.backfill_report import gather
from everlearn.loop.training import silent
from everlearn.types import ENDED, EventKind, JobState, NewEvent
from everlearn.worker import MAX_ATTEMPTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

Until = Callable[..., None]

MANY = 200
"""Rows of a part: as many as the awkward learner ponders over."""


def test_a_loop_gets_every_kind_of_job_done(yard: Any, until: Until) -> None:
    """From history to a champion, and on through a change that candidates are compared over."""
    log, versions = yard.installation.log, yard.installation.versions
    yard.model("m", rows=0)
    yard.start()

    def serve(first: int, count: int, truth: Callable[[int], bool]) -> None:
        now = time.time()
        features = {i: {"x": float(i % 7)} for i in range(first, first + count)}
        asked = {"value": None, "probabilities": None, "version": versions.champion("m").version}
        log.append(
            "m",
            [
                NewEvent(EventKind.PREDICTION, now, f"p{i}", {"features": x, **asked})
                for i, x in features.items()
            ],
        )
        log.append("m", [NewEvent(EventKind.LABEL, now, f"p{i}", {"value": truth(i)}) for i in features])

    serve(0, 200, lambda i: i % 2 == 0)
    until(lambda: versions.champion("m").version > 0, what="a first version")
    log.append(
        "m",
        [NewEvent(EventKind.COMMAND, time.time(), None, {"name": "retrain", "arguments": {"force": True}})],
    )
    kinds: set[str] = set()
    for turn in range(60):
        serve(200 + 40 * turn, 40, lambda i: i % 2 == 0)
        until(yard.caught_up, what="the end of the log")
        jobs = yard.installation.jobs.list("m", limit=1000).items
        kinds |= {job.spec.kind for job in jobs if job.state is JobState.DONE}
        if kinds >= {"train", "shadow"}:
            break
    assert kinds >= {"train", "shadow"}, yard.log()
    until(lambda: all(j.state in ENDED for j in yard.installation.jobs.list("m", limit=1000).items))
    assert all(job.state is JobState.DONE for job in yard.installation.jobs.list("m", limit=1000).items)
    numbers = [d.number for d in yard.installation.ledger.decisions("m", limit=10_000).items]
    assert numbers == list(range(len(numbers), 0, -1))


def test_the_oldest_first_and_models_in_turn(yard: Any, until: Until) -> None:
    for name, count in (("many", 6), ("few", 2)):
        yard.model(name)
        yard.queue(name, count)
    jobs = [yard.job(f"{name}/{1000 + i}") for name, count in (("many", 6), ("few", 2)) for i in range(count)]
    yard.start("train")
    until(lambda: all(yard.state(job.spec.id) is JobState.DONE for job in jobs))
    begun = sorted(jobs, key=lambda job: yard.job(job.spec.id).started_at)
    ids = [job.spec.id for job in begun]
    assert ids.index("few/1001") <= 4  # not behind the six of the other
    for name in ("many", "few"):
        own = [key for key in ids if key.startswith(f"{name}/")]
        assert own == sorted(own)
    assert all(len(yard.outcomes(key)) == 1 for key in ids)


def test_what_went_wrong_once_is_tried_again(yard: Any, until: Until) -> None:
    yard.model("m", "away-once")
    (away,) = yard.queue("m")
    yard.model("n", "crash-once")
    (crash,) = yard.queue("n")
    worker = yard.start("train")
    until(lambda: yard.state(away) is JobState.DONE and yard.state(crash) is JobState.DONE, what="both jobs")
    for key in (away, crash):
        assert yard.job(key).attempts == 2
        assert [outcome.error for outcome in yard.outcomes(key)] == [None]
    assert worker.poll() is None


def test_what_always_goes_wrong_ends_as_a_dead_letter(yard: Any, until: Until) -> None:
    yard.model("m", "away")
    (key,) = yard.queue("m")
    jobs = yard.installation.jobs
    for _ in range(MAX_ATTEMPTS - 1):
        jobs.fail(jobs.lease("test", 60.0, time.time(), id=key), "went wrong", time.time(), 0.0)
    yard.start("train")
    until(lambda: yard.state(key) is JobState.DEAD)
    assert yard.job(key).error == "the store is away"
    assert "in _away" in str(yard.job(key).traceback)
    assert [outcome.error for outcome in yard.outcomes(key)] == ["the store is away"]
    yard.installation.backlog.retry(key, time.time())
    until(lambda: yard.job(key).attempts == 1 and yard.state(key) is JobState.QUEUED, what="another attempt")


def test_what_cannot_be_done_fails_at_once_and_the_worker_goes_on(yard: Any, until: Until) -> None:
    yard.model("m", "broken")
    (broken,) = yard.queue("m")
    yard.model("n", "slow", seconds=60.0)
    (slow,) = yard.queue("n")
    yard.model("o", "greedy")
    (greedy,) = yard.queue("o")
    yard.model("p")
    (good,) = yard.queue("p")
    worker = yard.start("train", EVERLEARN_JOB_SECONDS="8", EVERLEARN_JOB_MEMORY_MB="768")
    until(lambda: all(yard.state(key) in ENDED for key in (broken, slow, greedy, good)))
    assert yard.state(good) is JobState.DONE
    for key, why in ((broken, "it is broken"), (slow, "took longer than 8 s"), (greedy, "more than 768 MiB")):
        job = yard.job(key)
        assert (job.state, job.attempts) == (JobState.FAILED, 1), job
        assert why in str(job.error)
        assert [outcome.error for outcome in yard.outcomes(key)] == [job.error]
    assert worker.poll() is None


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(yard: Any, until: Until) -> None:
    yard.model("m", "slow", seconds=60.0)
    running, waiting, later = yard.queue("m", 3)
    yard.start("train")
    until(lambda: yard.state(running) is JobState.RUNNING)
    yard.installation.backlog.cancel(waiting, time.time(), "not needed")
    yard.installation.backlog.cancel(running, time.time(), "not needed")
    until(lambda: yard.state(later) is JobState.RUNNING, seconds=30, what="room for the next job")
    assert (yard.state(running), yard.state(waiting)) == (JobState.CANCELLED, JobState.CANCELLED)
    for key in (running, waiting):
        assert [outcome.error for outcome in yard.outcomes(key)] == ["not needed"]


def test_a_stopped_worker_gives_its_job_back(yard: Any, until: Until) -> None:
    yard.model("m", "slow-once", seconds=120.0)
    (key,) = yard.queue("m")
    first = yard.start("train")
    until(lambda: yard.state(key) is JobState.RUNNING and list(yard.runs("m").iterdir()))
    yard.stop(first)
    assert (yard.state(key), yard.job(key).attempts) == (JobState.QUEUED, 0)
    yard.start("train")
    until(lambda: yard.state(key) is JobState.DONE)
    assert yard.job(key).attempts == 1
    assert len(yard.outcomes(key)) == 1


def test_a_killed_workers_job_is_taken_over(yard: Any, until: Until) -> None:
    yard.model("m", "slow-once", seconds=120.0)
    (key,) = yard.queue("m")
    first = yard.start("train")
    until(lambda: yard.state(key) is JobState.RUNNING and list(yard.runs("m").iterdir()))
    child = int(next(yard.runs("m").iterdir()).name.split("-")[1])
    first.send_signal(signal.SIGKILL)
    first.wait()
    yard.start("train")
    until(lambda: yard.state(key) is JobState.DONE)
    assert yard.job(key).attempts == 2
    assert len(yard.outcomes(key)) == 1
    until(lambda: not os.path.exists(f"/proc/{child}"), seconds=10, what="the end of its process")


def test_two_workers_share_the_work_and_do_nothing_twice(yard: Any, until: Until) -> None:
    names = [yard.model(f"m{i}") for i in range(3)]
    ids = [key for name in names for key in yard.queue(name, 5)]
    for _ in range(2):
        yard.start()
    until(lambda: all(yard.state(key) is JobState.DONE for key in ids) and yard.caught_up(), what="all jobs")
    assert [yard.job(key).attempts for key in ids] == [1] * len(ids)
    assert all(len(yard.outcomes(key)) == 1 for key in ids)
    for name in names:
        numbers = [d.number for d in yard.installation.ledger.decisions(name, limit=10_000).items]
        assert numbers == list(range(len(numbers), 0, -1))


def _answering(yard: Any, parts: int, seconds: float) -> list[str]:
    """A model that has served, and takes its time; the parts of a backfill of it that waits."""
    yard.model("m", "ponder", seconds=seconds)
    parts_of, versions = yard.installation, yard.installation.versions
    while drive.advance_model("m", parts_of.log, parts_of.ledger):
        pass
    drive.run_job(
        parts_of.jobs.lease("test", 60.0, time.time()), log=parts_of.log, versions=versions,
        jobs=parts_of.jobs, artifacts=parts_of.artifacts, clock=parts_of.clock,
    )  # fmt: skip
    now, size = time.time(), MANY
    answer = {"value": True, "probabilities": {"false": 0.4, "true": 0.6}, "version": 1}
    bodies = [{"features": {"x": float(i % 7)}, **answer} for i in range(parts * size)]
    begin = parts_of.log.head("m").seq
    parts_of.log.append(
        "m", [NewEvent(EventKind.PREDICTION, now, f"p{i}", body) for i, body in enumerate(bodies)]
    )
    head, version = parts_of.log.head("m"), versions.get("m", 1)
    jobs = plan(parts_of.models.get("m"), version, Stretch(begin, head.seq), head.seq, size, "0" * 12)
    assert len(jobs) == parts
    return [parts_of.backlog.add(job, now).spec.id for job in jobs]


def _digest(yard: Any, key: str) -> str:
    """The digest that a part has when it is done here and now."""
    parts = yard.installation
    found = work(
        "m", yard.job(key).spec.arguments, log=parts.log, versions=parts.versions, artifacts=parts.artifacts,
        erasures=parts.erasures, kept_from=0, now=time.time, progress=silent,
    )  # fmt: skip
    return str(found["digest"])


def test_the_parts_of_a_backfill_are_done_by_several_workers_and_gathered(yard: Any, until: Until) -> None:
    ids = _answering(yard, parts=16, seconds=0.75)
    for _ in range(2):
        yard.start("maintenance")
    until(lambda: all(yard.state(key) in ENDED for key in ids), what="all parts")
    jobs = [yard.job(key) for key in ids]
    assert [job.state for job in jobs] == [JobState.DONE] * len(ids), [job.error for job in jobs]
    assert len({job.owner for job in jobs}) == 2
    report = gather(jobs)
    assert report is not None
    assert (report["rows"], len(report["parts"])) == (16 * MANY, 16)
    found = [columns_of(yard.installation.artifacts.get(job.result["digest"])) for job in jobs]
    assert [name for part in found for name in part.ids] == [f"p{i}" for i in range(16 * MANY)]


def test_a_part_that_was_killed_in_the_middle_is_done_again_and_the_same(yard: Any, until: Until) -> None:
    ids = _answering(yard, parts=3, seconds=2.0)
    first = yard.start("maintenance")
    until(lambda: any(yard.state(key) is JobState.RUNNING for key in ids), what="a part at work")
    (killed,) = (key for key in ids if yard.state(key) is JobState.RUNNING)
    first.send_signal(signal.SIGKILL)
    first.wait()
    yard.start("maintenance")
    until(lambda: all(yard.state(key) is JobState.DONE for key in ids), what="all parts")
    assert yard.job(killed).attempts == 2
    assert [yard.job(key).result["digest"] for key in ids] == [_digest(yard, key) for key in ids]
