"""Models, versions, ledger, jobs, outbox and receipts, in memory and in SQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from everlearn.adapters.rules import Reply
from everlearn.errors import ConflictError, FencedError, InvalidError, NotFoundError
from everlearn.types import (
    Champion,
    Checkpoint,
    Command,
    DecisionKind,
    JobState,
    Message,
    Outcome,
    Promotion,
    Step,
    VersionState,
)

Open = Callable[[], Any]


def drained(store: Any, now: float = 0.0) -> list[Message]:
    return [m for m in store.outbox.take("registry", 100, now) if store.outbox.done(m) is None]


@pytest.fixture
def learned(store: Any, make: Any) -> Any:
    """The store with versions 1 and 2 as candidates, cursor 1 and an empty outbox."""
    store.ledger.commit("m", Step(0, 1, b"one", jobs=[make.job("m-1", 1), make.job("m-2", 2)]))
    for number in (1, 2):
        job = store.jobs.lease("me", 10.0, now=0.0)
        store.jobs.finish(job, make.version(number), make.outcome(job.spec.id, number), now=5.0)
    drained(store)
    return store


# Models


def test_a_model_is_born_with_version_0(store: Any, make: Any) -> None:
    assert store.models.get("m") == make.spec()
    assert store.versions.champion("m") == Champion(0, 0, None, 100.0)
    born = store.versions.get("m", 0)
    assert (born.learner, born.digest, born.state) == ("majority", None, VersionState.CHAMPION)
    assert store.ledger.checkpoint("m") == Checkpoint(0, b"")
    assert [m.body for m in drained(store)] == [{"kind": "model", "model": "m"}]


def test_a_name_is_given_once(store: Any, make: Any) -> None:
    with pytest.raises(ConflictError, match="'m'"):
        store.models.create(make.spec(), at=1.0)
    assert store.log.head("m").seq == 1


def test_an_update_replaces_the_spec_and_is_logged(store: Any, make: Any) -> None:
    spec = make.spec().model_copy(update={"description": "new", "seed": 7})
    store.models.update(spec, at=200.0)
    assert store.models.get("m") == spec
    assert store.log.read("m", after=1) == [Command(2, 200.0, "configure", {"spec": spec.to_dict()})]
    assert len(drained(store)) == 2


def test_models_are_listed_by_name_in_stable_pages(store: Any, make: Any) -> None:
    for name in ("d", "b", "z"):
        store.models.create(make.spec(name), at=1.0)
    first = store.models.list(limit=2)
    store.models.create(make.spec("a"), at=1.0)
    rest = store.models.list(first.next, limit=2)
    assert [spec.name for spec in (*first.items, *rest.items)] == ["b", "d", "m", "z"]
    assert rest.next is None


def test_unknown_names_are_not_found(store: Any, make: Any) -> None:
    asks = [
        lambda: store.models.get("no"),
        lambda: store.models.update(make.spec("no"), at=1.0),
        lambda: store.models.delete("no"),
        lambda: store.versions.get("no", 0),
        lambda: store.versions.get("m", 1),
        lambda: store.versions.list("no"),
        lambda: store.versions.champion("no"),
        lambda: store.versions.champion("no", at=1.0),
        lambda: store.ledger.checkpoint("no"),
        lambda: store.ledger.commit("no", Step(0, 1, b"")),
        lambda: store.ledger.decisions("no"),
        lambda: store.jobs.list("no"),
        lambda: store.jobs.get("no"),
    ]
    for ask in asks:
        with pytest.raises(NotFoundError):
            ask()


def test_deleting_a_model_removes_all_of_it_and_nothing_else(learned: Any, make: Any) -> None:
    learned.models.create(make.spec("other"), at=1.0)
    learned.log.append("m", [make.prediction("a"), make.label("a")])
    decisions = [make.decision(1)]
    learned.ledger.commit("m", Step(1, 2, b"", decisions, promotions=[Promotion(1, 0, 0, 1.0, 1)]))
    learned.models.delete("m")
    assert [spec.name for spec in learned.models.list().items] == ["other"]
    assert list(learned.versions.champions()) == ["other"]
    assert [message.model for message in drained(learned)] == ["other"]
    with pytest.raises(NotFoundError):
        learned.jobs.get("m-1")
    learned.models.create(make.spec(), at=300.0)
    assert learned.log.head("m").seq == 1
    assert learned.log.find("m", ["a"]) == {}
    assert learned.ledger.checkpoint("m") == Checkpoint()
    assert learned.ledger.decisions("m").items == []
    assert learned.versions.champion("m", at=300.0).term == 0


# Versions and the ledger


def test_a_step_is_written_whole(learned: Any, make: Any) -> None:
    step = Step(
        1,
        4,
        b"\0state",
        decisions=[make.decision(1), make.decision(2, DecisionKind.PROMOTE)],
        jobs=[make.job("m-9", 3)],
        promotions=[Promotion(version=1, expected=0, term=0, at=150.0, decision=2)],
        refused=[2],
    )
    assert learned.ledger.commit("m", step)
    assert learned.ledger.checkpoint("m") == Checkpoint(4, b"\0state")
    assert list(learned.ledger.decisions("m").items) == list(reversed(step.decisions))
    assert learned.jobs.get("m-9").spec == step.jobs[0]
    assert learned.jobs.get("m-9").state is JobState.QUEUED
    assert learned.versions.champion("m") == Champion(1, 1, make.version(1).digest, 150.0)
    states = [version.state for version in learned.versions.list("m").items]
    assert states == [VersionState.REFUSED, VersionState.CHAMPION, VersionState.ARCHIVED]
    body = {"kind": "champion", "model": "m", "version": 1, "term": 1, "decision": 2}
    assert [message.body for message in drained(learned)] == [body]


def test_versions_are_read_back_exactly(learned: Any, make: Any) -> None:
    assert learned.versions.get("m", 2) == make.version(2)


def test_a_step_from_an_old_cursor_changes_nothing(open_store: Open, make: Any) -> None:
    one, two = open_store(), open_store()
    one.models.create(make.spec(), at=1.0)
    assert one.ledger.commit("m", Step(0, 1, b"one", [make.decision(1)]))
    assert not two.ledger.commit("m", Step(0, 1, b"two", [make.decision(1)], [make.job("m-1")]))
    assert two.ledger.checkpoint("m") == Checkpoint(1, b"one")
    assert two.ledger.commit("m", Step(1, 1, b"two"))


@pytest.mark.parametrize(("expected", "term"), [(1, 0), (0, 1)])
def test_a_promotion_with_a_wrong_expectation_is_fenced(
    learned: Any, make: Any, expected: int, term: int
) -> None:
    promotion = Promotion(1, expected, term, 1.0, 1)
    step = Step(1, 2, b"two", [make.decision(1)], [make.job("m-9")], [promotion], refused=[2])
    with pytest.raises(FencedError):
        learned.ledger.commit("m", step)
    assert learned.ledger.checkpoint("m") == Checkpoint(1, b"one")
    assert learned.ledger.decisions("m").items == []
    assert learned.versions.get("m", 2).state is VersionState.CANDIDATE
    assert drained(learned) == []


@pytest.mark.parametrize("step", [{"promotions": [Promotion(7, 0, 0, 1.0, 1)]}, {"refused": [7]}])
def test_a_step_about_a_version_that_is_not_there_is_undone(learned: Any, step: Any) -> None:
    with pytest.raises(NotFoundError, match="version 7"):
        learned.ledger.commit("m", Step(1, 2, b"two", **step))
    assert learned.ledger.checkpoint("m").cursor == 1
    assert learned.versions.champion("m").version == 0


def test_decisions_and_jobs_are_not_written_twice(learned: Any, make: Any) -> None:
    assert learned.ledger.commit("m", Step(1, 2, b"", [make.decision(1), make.decision(2)]))
    with pytest.raises(ConflictError, match="decisions up to 2"):
        learned.ledger.commit("m", Step(2, 3, b"", [make.decision(2)]))
    with pytest.raises(ConflictError, match="'m-1'"):
        learned.ledger.commit("m", Step(2, 3, b"", [make.decision(3)], [make.job("m-1")]))
    assert learned.ledger.checkpoint("m").cursor == 2
    assert learned.ledger.decisions("m").items[0].number == 2


def test_who_answered_at_a_time(learned: Any, make: Any) -> None:
    there_and_back = [
        Promotion(1, 0, 0, 150.0, 1),
        Promotion(2, 1, 1, 160.0, 1),
        Promotion(1, 2, 2, 170.0, 1),
    ]
    learned.ledger.commit("m", Step(1, 2, b"", [make.decision(1)], promotions=there_and_back))
    at = {t: learned.versions.champion("m", at=t).version for t in (100.0, 149.0, 150.0, 165.0, 999.0)}
    assert at == {100.0: 0, 149.0: 0, 150.0: 1, 165.0: 2, 999.0: 1}
    assert learned.versions.champions()["m"] == learned.versions.champion("m", at=170.0)
    assert learned.versions.champion("m").term == 3
    with pytest.raises(NotFoundError, match="did not exist"):
        learned.versions.champion("m", at=99.0)


def test_decisions_are_listed_newest_first_in_stable_pages(store: Any, make: Any) -> None:
    kinds = [DecisionKind.HOLD, DecisionKind.WARN, DecisionKind.HOLD, DecisionKind.HOLD]
    made = [make.decision(number, kind) for number, kind in enumerate(kinds, start=1)]
    store.ledger.commit("m", Step(0, 1, b"", made))
    first = store.ledger.decisions("m", limit=2)
    store.ledger.commit("m", Step(1, 2, b"", [make.decision(5)]))
    rest = store.ledger.decisions("m", first.next, limit=2)
    assert [*first.items, *rest.items] == made[::-1]
    assert rest.next is None
    holds = store.ledger.decisions("m", kind="hold")
    assert [decision.number for decision in holds.items] == [5, 4, 3, 1]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "", "9" * 30])
def test_a_cursor_that_is_none_of_ours_is_refused(store: Any, cursor: str) -> None:
    for listing in (store.ledger.decisions, store.versions.list, store.jobs.list):
        with pytest.raises(InvalidError, match="cursor"):
            listing("m", cursor)


def test_a_page_has_room(store: Any) -> None:
    with pytest.raises(InvalidError, match="limit"):
        store.models.list(limit=0)


def test_models_behind_are_listed_longest_waiting_first(store: Any, make: Any) -> None:
    for name, at in (("late", 900.0), ("early", 50.0), ("done", 1.0)):
        store.models.create(make.spec(name), at=at)
    store.ledger.commit("done", Step(0, 1, b""))
    assert store.ledger.behind() == ["early", "m", "late"]
    assert store.ledger.behind(limit=1) == ["early"]
    store.ledger.commit("early", Step(0, 1, b""))
    store.log.append("early", [make.tick(at=500.0)])
    assert store.ledger.behind() == ["m", "early", "late"]


# Jobs


def test_a_job_is_leased_to_one_worker_and_finished(open_store: Open, make: Any) -> None:
    one, two = open_store(), open_store()
    one.models.create(make.spec(), at=1.0)
    assert one.jobs.lease("one", 10.0, now=0.0) is None
    one.ledger.commit("m", Step(0, 1, b"", [make.decision(1, at=3.0)], [make.job("m-1")]))
    job = one.jobs.lease("one", 10.0, now=100.0)
    assert (job.spec, job.state, job.token, job.attempts) == (make.job("m-1"), JobState.RUNNING, 1, 1)
    assert (job.owner, job.lease_until, job.created_at) == ("one", 110.0, 3.0)
    assert two.jobs.lease("two", 10.0, now=105.0) is None
    one.jobs.renew(job, 10.0, now=108.0, progress=0.5)
    assert two.jobs.get("m-1") == replace(job, lease_until=118.0, progress=0.5)
    drained(one)
    outcome = one.jobs.finish(job, make.version(1), make.outcome("m-1", 1), now=112.0)
    assert outcome == Outcome(2, 9.0, "m-1", 1, {"score": 1 / 3}, None)
    assert one.log.read("m", after=1) == [outcome]
    assert one.versions.get("m", 1) == make.version(1)
    done = one.jobs.get("m-1")
    assert (done.state, done.progress, done.finished_at) == (JobState.DONE, 1.0, 112.0)
    assert [m.body for m in drained(one)] == [{"kind": "version", "model": "m", "number": 1, "job": "m-1"}]
    assert one.jobs.lease("one", 10.0, now=10**6) is None


def test_a_worker_that_wakes_up_late_is_fenced(open_store: Open, make: Any) -> None:
    one, two = open_store(), open_store()
    one.models.create(make.spec(), at=1.0)
    one.ledger.commit("m", Step(0, 1, b"", jobs=[make.job("m-1")]))
    late = one.jobs.lease("one", 10.0, now=0.0)
    taken = two.jobs.lease("two", 10.0, now=10.0)
    assert (taken.token, taken.attempts, taken.owner) == (2, 2, "two")
    for act in (
        lambda: one.jobs.renew(late, 10.0, 11.0, 0.9),
        lambda: one.jobs.finish(late, make.version(1), make.outcome("m-1", 1), 11.0),
        lambda: one.jobs.fail(late, "no", 11.0, None),
        lambda: one.jobs.fail(late, "no", 11.0, 20.0),
    ):
        with pytest.raises(FencedError, match="m-1"):
            act()
    assert one.log.head("m").seq == 1
    with pytest.raises(NotFoundError):
        one.versions.get("m", 1)
    two.jobs.finish(taken, make.version(1), make.outcome("m-1", 1), 12.0)
    with pytest.raises(FencedError):
        two.jobs.finish(taken, make.version(1), make.outcome("m-1", 1), 12.0)
    assert one.log.head("m").seq == 2


def test_a_lease_that_ran_out_but_went_to_nobody_still_counts(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job("m-1")]))
    job = store.jobs.lease("me", 10.0, now=0.0)
    store.jobs.renew(job, 10.0, now=50.0, progress=0.1)
    store.jobs.finish(job, make.version(1), make.outcome("m-1", 1), now=99.0)
    assert store.jobs.get("m-1").state is JobState.DONE


def test_a_failed_job_is_retried_when_it_is_due(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job("m-1"), make.job("m-2", 2)]))
    job = store.jobs.lease("me", 10.0, now=0.0)
    store.jobs.fail(job, "the disk was full", now=1.0, retry_at=30.0)
    waiting = store.jobs.get("m-1")
    assert (waiting.state, waiting.error, waiting.not_before) == (JobState.QUEUED, "the disk was full", 30.0)
    assert store.log.head("m").seq == 1
    assert store.jobs.lease("me", 100.0, now=29.0).spec.id == "m-2"
    again = store.jobs.lease("me", 10.0, now=30.0)
    assert (again.spec.id, again.token, again.attempts) == ("m-1", 2, 2)
    store.jobs.fail(again, "again", now=31.0, retry_at=None)
    assert store.jobs.get("m-1").state is JobState.FAILED
    assert store.log.read("m", after=1) == [Outcome(2, 31.0, "m-1", 1, {}, "again")]


def test_a_job_of_a_deleted_model_is_cancelled(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job("m-1")]))
    job = store.jobs.lease("me", 10.0, now=0.0)
    store.models.delete("m")
    for act in (
        lambda: store.jobs.renew(job, 10.0, 1.0, 0.5),
        lambda: store.jobs.finish(job, make.version(1), make.outcome("m-1", 1), 1.0),
        lambda: store.jobs.fail(job, "no", 1.0, None),
    ):
        with pytest.raises(FencedError):
            act()


def test_a_version_number_is_given_once(learned: Any, make: Any) -> None:
    learned.ledger.commit("m", Step(1, 2, b"", jobs=[make.job("m-9", 2)]))
    job = learned.jobs.lease("me", 10.0, now=0.0)
    before = learned.log.head("m")
    with pytest.raises(ConflictError, match="version 2"):
        learned.jobs.finish(job, make.version(2), make.outcome("m-9", 2), now=1.0)
    assert learned.log.head("m") == before
    assert learned.jobs.get("m-9").state is JobState.RUNNING


def test_a_job_ends_with_an_outcome(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job("m-1")]))
    job = store.jobs.lease("me", 10.0, now=0.0)
    with pytest.raises(InvalidError, match="outcome"):
        store.jobs.finish(job, make.version(1), make.tick(), now=1.0)


def test_jobs_are_listed_newest_first_in_stable_pages(store: Any, make: Any) -> None:
    store.models.create(make.spec("other"), at=1.0)
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job(f"m-{i}", i) for i in range(1, 4)]))
    store.ledger.commit("other", Step(0, 1, b"", jobs=[make.job("other-1", 1, "other")]))
    first = store.jobs.list("m", limit=2)
    store.ledger.commit("m", Step(1, 2, b"", jobs=[make.job("m-4", 4)]))
    rest = store.jobs.list("m", first.next, limit=2)
    assert [job.spec.id for job in (*first.items, *rest.items)] == ["m-3", "m-2", "m-1"]
    assert rest.next is None


# The outbox and receipts


def test_decisions_are_counted_by_kind(store: Any, make: Any) -> None:
    assert store.ledger.counts("m") == {}
    state = store.ledger.checkpoint("m")
    some = (make.decision(1), make.decision(2, DecisionKind.WARN), make.decision(3))
    assert store.ledger.commit("m", Step(state.cursor, 1, b"s", some))
    assert store.ledger.counts("m") == {"hold": 2, "warn": 1}
    assert store.ledger.counts("m", after=1) == {"hold": 1, "warn": 1}
    assert store.ledger.counts("m", after=1, upto=2) == {"warn": 1}
    assert store.ledger.counts("m", after=3, upto=3) == {}
    with pytest.raises(NotFoundError):
        store.ledger.counts("nobody")


def test_messages_can_be_put_and_handed_on(store: Any) -> None:
    store.outbox.put("alerts", "m", {"kind": "drift"})
    store.outbox.put("alerts", "m", {"kind": "load"})
    first, second = store.outbox.take("alerts", 10, now=0.0)
    assert (first.model, first.body) == ("m", {"kind": "drift"})
    store.outbox.forward(first, ["alerts:a", "alerts:b"])
    store.outbox.forward(first, ["alerts:a"])  # it is gone: nothing is told twice
    store.outbox.forward(second, [])
    assert store.outbox.waiting("alerts") == 0
    assert [m.body for m in store.outbox.take("alerts:a", 10, now=0.0)] == [{"kind": "drift"}]
    assert store.outbox.waiting("alerts:b") == 1
    with pytest.raises(NotFoundError):
        store.outbox.put("alerts", "nobody", {})


def test_a_step_tells_of_its_alerts_in_its_own_transaction(store: Any, make: Any) -> None:
    warned = make.decision(1, DecisionKind.WARN)
    state = store.ledger.checkpoint("m")
    assert store.ledger.commit("m", Step(state.cursor, 1, b"s", (warned, make.decision(2))))
    assert not store.ledger.commit("m", Step(state.cursor, 1, b"s", (warned,)))
    (message,) = store.outbox.take("alerts", 10, now=0.0)
    told = message.body
    assert (told["id"], told["kind"], told["severity"], told["recovered"]) == (
        "m:1:drift",
        "drift",
        "warning",
        False,
    )
    assert told["facts"] == {"score": 0.1}


def test_messages_are_delivered_in_order(store: Any, make: Any) -> None:
    for at in (1.0, 2.0):
        store.models.update(make.spec(), at)
    first, second = store.outbox.take("registry", 2, now=0.0)
    assert first.id < second.id
    assert store.outbox.waiting("registry") == 3
    assert store.outbox.take("alerts", 2, now=0.0) == []
    store.outbox.done(first)
    store.outbox.done(first)
    store.outbox.retry(second, "down", not_before=10.0)
    assert store.outbox.take("registry", 5, now=9.0) == []
    waited, third = store.outbox.take("registry", 5, now=10.0)
    assert waited == replace(second, attempts=1, not_before=10.0)
    assert third.id > second.id
    store.outbox.retry(third, "down", not_before=20.0)
    assert store.outbox.take("registry", 5, now=10.0) == [waited]
    assert store.outbox.waiting("alerts") == 0


def test_ids_of_messages_do_not_come_back(store: Any, make: Any) -> None:
    (old,) = drained(store)
    store.models.update(make.spec(), at=1.0)
    (new,) = store.outbox.take("registry", 1, now=0.0)
    assert new.id != old.id


def test_the_first_reply_is_kept(open_store: Open) -> None:
    one, two = open_store(), open_store()
    reply = Reply("digest", 200, b'{"ok":\0}', 5.0)
    assert one.receipts.get("s", "k") is None
    assert one.receipts.put("s", "k", reply) == reply
    assert two.receipts.put("s", "k", Reply("other", 500, b"", 6.0)) == reply
    assert two.receipts.get("s", "k") == reply
    assert two.receipts.get("t", "k") is None
    assert one.receipts.forget(before=5.0) == 0
    assert one.receipts.forget(before=5.5) == 1
    assert two.receipts.get("s", "k") is None
