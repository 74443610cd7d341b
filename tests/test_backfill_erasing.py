"""What a backfill answered stays while its jobs refer to it, and goes with the rows that are erased."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from everlearn.adapters.memory import ManualClock, MemoryArtifacts, MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.certificates import Seal
from everlearn.erasing import Eraser, check
from everlearn.errors import ConflictError, InvalidError, UnavailableError
from everlearn.loop import drive
from everlearn.loop.backfill_columns import columns_of, is_answers
from everlearn.loop.backfill_jobs import work
from everlearn.loop.backfill_plan import check_version, plan, stretch_of
from everlearn.loop.backfill_report import answers_of, state_of
from everlearn.loop.defaults import with_defaults
from everlearn.loop.training import silent
from everlearn.predictor import Baseline, Predictor
from everlearn.retention import DAY, Retention
from everlearn.spec import parse_spec
from everlearn.sweeping import GRACE, sweep
from everlearn.types import ErasureState, EventKind, Job, JobState, NewEvent, Output, Prediction
from everlearn.worker import JobRunner

START = 1_700_000_000.0
SPEC: dict[str, Any] = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric", "z": "numeric"},
    "subject": "user",
    "learner": {"name": "window", "size": 150, "estimator": "logistic"},
    "label_horizon": {"rows": 10},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 80, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20},
}
USERS = ("ann", "ben", "cat")
NOUNS = (
    "models",
    "log",
    "versions",
    "ledger",
    "scores",
    "jobs",
    "backlog",
    "retention",
    "erasures",
    "remains",
)


class Live:
    """An installation by hand: people's rows are asked and labelled, the loop runs, days go by."""

    def __init__(self, url: str | None) -> None:
        self.store: Any = MemoryStore() if url is None else SqlStore(url, synchronous="NORMAL")
        if isinstance(self.store, SqlStore):
            self.store.migrate()
        self.clock, self._draw, self.asked = ManualClock(START), random.Random(7), 0
        self.parts: Any = SimpleNamespace(
            clock=self.clock,
            artifacts=MemoryArtifacts(),
            **{noun: getattr(self.store, noun) for noun in NOUNS},
        )
        self.store.models.create(with_defaults(parse_spec(SPEC)), START)

    def stream(self, rows: int, users: tuple[str, ...] = USERS) -> None:
        """Predictions with their labels, the loop running in between."""
        for _ in range(0, rows, 20):
            self._ask(20, users)
            self.advance()

    def _ask(self, rows: int, users: tuple[str, ...]) -> None:
        champion = self.parts.versions.champion("m")
        bundle = champion.digest and self.parts.artifacts.get(champion.digest)
        learned = Predictor.from_bundle(bundle) if bundle else Baseline(Output("no"))
        for _ in range(rows):
            user, x = self._draw.choice(users), self._draw.gauss(0, 1)
            features = {"user": user, "x": x, "z": self._draw.random()}
            output, key = learned.predict([features])[0], f"{user}-{self.asked}"
            body = {"features": features, "value": output.value, "probabilities": output.probabilities}
            asked = NewEvent(
                EventKind.PREDICTION, self.clock.now(), key, {**body, "version": champion.version}
            )
            told = NewEvent(EventKind.LABEL, self.clock.now(), key, {"value": "yes" if x > 0 else "no"})
            self.parts.log.append("m", [asked, told])
            self.asked += 1

    def advance(self) -> None:
        """Let the loop and its own jobs run; backfills wait for :meth:`work`."""
        parts = self.parts
        while True:
            moved = drive.advance_model("m", parts.log, parts.ledger, 50, erasures=parts.erasures)
            job = parts.jobs.lease("loop", 60, self.clock.now(), queues=("advance", "train"))
            if job is not None:
                drive.run_job(
                    job, log=parts.log, versions=parts.versions, jobs=parts.jobs,
                    artifacts=parts.artifacts, clock=self.clock,
                )  # fmt: skip
            elif not moved:
                return

    def backfill(self, part_rows: int = 200, version: int = 1, group: str = "0" * 12) -> list[str]:
        """Ask for one; the ids of its jobs."""
        parts, head = self.parts, self.parts.log.head("m")
        floor = parts.retention.floor("m")
        stretch = stretch_of(head, 0 if floor is None else floor.kept_from, None, None, None, None)
        spec, learned = parts.models.get("m"), parts.versions.get("m", version)
        jobs = plan(spec, learned, stretch, head.seq, part_rows, group)
        return [parts.backlog.add(job, self.clock.now()).spec.id for job in jobs]

    def work(self, most: int = 1000) -> int:
        """Do jobs that wait; how many."""
        runner, count = JobRunner(self.parts, "me:1:1", queues=("maintenance",)), 0
        while count < most and runner.run_once():
            count += 1
        return count

    def jobs(self, ids: list[str]) -> list[Job]:
        return [self.parts.jobs.get(name) for name in ids]

    def answers(self) -> list[str]:
        """The digests of all stored answers of backfills."""
        get = self.parts.artifacts.get
        return [one.digest for one in self.parts.artifacts.stored() if is_answers(get(one.digest))]

    def erase(self, subject: str) -> Any:
        now = self.clock.now()
        return self.parts.erasures.begin("m", "user", subject, "user:op", now, now + DAY)

    def carry_through(self) -> Any:
        """Let the loop and the eraser work until an erasure is certified."""
        eraser = Eraser(self.parts, Seal(["a secret that nobody knows"]))
        for _ in range(10):
            self.advance()
            if done := list(eraser.run_once()):
                return done[0]
        raise AssertionError(f"not done: {eraser._failed}")


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """A model of which version 1 has answered, of three people."""
    url = None if request.param == "memory" else f"sqlite:///{tmp_path / 'm.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("fresh_postgres")
    made = Live(url)
    made.stream(160)
    assert made.parts.versions.champion("m").version == 1
    yield made
    if url is not None:
        made.store.close()


def test_what_jobs_refer_to_is_no_garbage(live: Live) -> None:
    ids = live.backfill()
    live.work()
    digests = sorted(filter(None, map(answers_of, live.jobs(ids))))
    assert len(digests) == len(ids) > 1
    live.clock.advance(2_000_000_000.0)  # long past any grace
    removed = {one.digest for one in sweep(live.parts, GRACE).removed}
    assert not removed & set(digests)
    assert sorted(live.answers()) == digests
    live.parts.models.delete("m")
    removed = {one.digest for one in sweep(live.parts, GRACE).removed}
    assert removed >= set(digests)
    assert live.answers() == []


def test_an_erasure_ends_and_removes_backfills(live: Live) -> None:
    done, half = live.backfill(), live.backfill(group="1" * 12)
    live.work(len(done) + 1)
    stored = live.answers()
    assert len(stored) == len(done)  # the other's first part is the same
    leased = live.parts.jobs.lease("other:1:1", 600.0, live.clock.now(), queues=("maintenance",))
    assert leased is not None
    erasure = live.erase("ann")
    assert live.carry_through().state is ErasureState.DONE
    assert live.answers() == []
    assert (state_of(live.jobs(done)), state_of(live.jobs(half))) == ("erased", "erased")
    assert {job.state for job in live.jobs(half)} == {JobState.DONE, JobState.CANCELLED}
    assert all(not job.result for job in live.jobs([*done, *half]))
    assert "ann" not in repr([job.result for job in live.jobs([*done, *half])])
    removed = live.parts.erasures.get(erasure.id).removed
    assert removed["jobs"] >= len(done) + len(half)
    assert live.work() == 0


def test_one_that_is_asked_for_after_an_erasure_stays(live: Live) -> None:
    before = live.backfill()
    live.work()
    live.erase("ann")
    after = live.backfill(group="1" * 12)  # before the eraser has looked
    live.work()
    live.carry_through()
    assert (state_of(live.jobs(before)), state_of(live.jobs(after))) == ("erased", "done")
    found = [columns_of(live.parts.artifacts.get(digest)) for digest in live.answers()]
    ids = [name for part in found for name in part.ids]
    assert ids
    assert not [name for name in ids if name.startswith("ann")]


def test_a_second_erasure_leaves_what_is_clean_of_it_alone(live: Live) -> None:
    live.erase("ann")
    live.carry_through()
    ids = live.backfill(version=live.parts.versions.champion("m").version)
    live.work()
    kept = live.answers()
    assert kept
    live.stream(40)
    assert live.answers() == kept
    live.erase("ben")
    live.carry_through()
    assert (state_of(live.jobs(ids)), live.answers()) == ("erased", [])


def test_a_part_that_was_at_work_leaves_nothing(live: Live) -> None:
    (job, *_) = live.backfill()
    spec, parts = live.parts.jobs.get(job).spec, live.parts
    live.erase("ann")
    with pytest.raises(InvalidError, match="Rows were erased since"):
        work(
            "m", spec.arguments, log=parts.log, versions=parts.versions, artifacts=parts.artifacts,
            erasures=parts.erasures, kept_from=0, now=live.clock.now, progress=silent,
        )  # fmt: skip
    assert live.answers() == []


def test_what_a_part_stored_before_it_died_is_found(live: Live) -> None:
    (job, *_) = ids = live.backfill()
    parts = live.parts
    assert parts.jobs.lease("dead:1:1", 1.0, live.clock.now(), id=job) is not None
    none = SimpleNamespace(list=lambda _: [])
    work(
        "m", parts.jobs.get(job).spec.arguments, log=parts.log, versions=parts.versions,
        artifacts=parts.artifacts, erasures=none, kept_from=0, now=live.clock.now, progress=silent,
    )  # fmt: skip
    assert len(live.answers()) == 1
    live.erase("ann")
    live.carry_through()
    assert live.answers() == []
    assert state_of(live.jobs(ids)) == "cancelled"


def test_the_proof_finds_what_a_job_still_tells(live: Live) -> None:
    seal = Seal(["a secret that nobody knows"])
    (key, *_) = live.backfill()
    spec = live.parts.jobs.get(key).spec
    live.erase("ann")
    done = live.carry_through()
    assert not check(live.parts, seal, done.certificate).failures
    again = live.parts.backlog.add(replace(spec, id="m-backfill-left-0"), live.clock.now())
    job = live.parts.jobs.lease("me:1:1", 60.0, live.clock.now(), id=again.spec.id)
    live.parts.jobs.finish(job, None, None, live.clock.now(), {"digest": "a" * 64})
    (failure,) = check(live.parts, seal, done.certificate).failures
    assert "m-backfill-left-0 still tells" in failure


def test_a_withdrawn_version_answers_no_more(live: Live) -> None:
    live.erase("ann")
    live.carry_through()
    assert live.parts.versions.champion("m").version > 1
    with pytest.raises(ConflictError, match="Version 1 was withdrawn"):
        check_version(live.parts.versions.get("m", 1))


@pytest.fixture
def thinned(tmp_path: Path) -> Iterator[Live]:
    """A model whose old events were dropped."""
    made = Live(f"sqlite:///{tmp_path / 'thin.db'}")
    retention = Retention(made.parts, days=3)
    for _ in range(8):
        made.stream(60)
        made.clock.advance(DAY)
        list(retention.run_once())
    yield made
    made.store.close()


def test_a_log_that_was_cut_is_answered_from_where_it_is_whole(thinned: Live) -> None:
    floor = thinned.parts.retention.floor("m")
    assert floor is not None
    assert floor.kept_from > 100
    ids = thinned.backfill(version=thinned.parts.versions.champion("m").version)
    thinned.work()
    jobs = thinned.jobs(ids)
    assert state_of(jobs) == "done", [job.error for job in jobs]
    asked = jobs[0].spec.arguments
    assert asked["after"] == floor.kept_from - 1
    assert asked["notes"][0] == f"the log up to position {floor.kept_from - 1} was dropped"
    positions = [
        seq for job in jobs for seq in columns_of(thinned.parts.artifacts.get(answers_of(job))).positions
    ]
    events = thinned.parts.log.read("m", floor.kept_from - 1, 100_000)
    assert positions == [event.seq for event in events if isinstance(event, Prediction)]


def test_what_a_log_no_longer_has_fails_with_the_reason(
    thinned: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = thinned.parts.retention.floor("m")
    real = thinned.parts.retention.floor
    version = thinned.parts.versions.champion("m").version
    monkeypatch.setattr(thinned.parts.retention, "floor", lambda _: None)
    ids = thinned.backfill(version=version)  # as if it had been asked for before
    monkeypatch.setattr(thinned.parts.retention, "floor", real)
    thinned.work()
    first = thinned.jobs(ids)[0]
    assert first.state is JobState.FAILED
    assert f"up to position {floor.kept_from - 1} was dropped" in str(first.error)


def test_a_part_is_tried_again_and_ends_as_a_dead_letter(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    (job, *_) = live.backfill()
    put: Callable[..., Any] = live.parts.artifacts.put

    def away(_: Any) -> str:
        raise UnavailableError("the store is away")

    monkeypatch.setattr(live.parts.artifacts, "put", away)
    for _ in range(5):
        live.work()
        live.clock.advance(600.0)
    (first,) = live.jobs([job])
    assert (first.state, first.attempts, first.error) == (JobState.DEAD, 5, "the store is away")
    monkeypatch.setattr(live.parts.artifacts, "put", put)
    live.parts.backlog.retry(job, live.clock.now())
    live.work()
    assert live.parts.jobs.get(job).state is JobState.DONE
