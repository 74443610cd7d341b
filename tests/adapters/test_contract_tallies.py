"""What monitoring reads of a store, in memory and in SQL."""

from __future__ import annotations

from typing import Any

from everlearn.types import JobSpec, Step


def test_every_model_is_told_as_it_stands(store: Any, make: Any) -> None:
    store.models.create(make.spec("a"), at=5.0)
    decisions = (make.decision(1), make.decision(2))
    assert store.ledger.commit("m", Step(0, 1, b"", decisions))
    first, second = store.tallies.models()
    assert (first.name, first.decisions, first.cursor, first.since) == ("a", 0, 0, 5.0)
    assert (second.name, second.decisions, second.cursor) == ("m", 2, 1)
    champion = store.versions.champion("m")
    assert (second.champion, second.term, second.since) == (champion.version, champion.term, champion.since)
    assert second.head == store.log.head("m")


def test_a_model_that_comes_again_is_another_one(store: Any, make: Any) -> None:
    (before,) = store.tallies.models()
    store.models.delete("m")
    store.models.create(make.spec("m"), at=2.0)
    (after,) = store.tallies.models()
    assert after.id != before.id


def test_the_time_of_jobs_is_added_up_once_they_have_ended(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"", jobs=[make.job(f"j{i}", i) for i in range(1, 4)]))
    store.backlog.add(JobSpec("grid", "m", "what_if", 0, {}), 1.0)
    store.backlog.cancel("grid", 2.0, "never begun")
    for started, ended in ((10.0, 13.0), (20.0, 20.5)):
        job = store.jobs.lease("me", 100.0, now=started, queues=["train"])
        store.jobs.fail(job, "no", ended, None)
    store.jobs.lease("me", 100.0, now=30.0, queues=["train"])  # still under way
    spent = store.tallies.spent()
    assert set(spent) == {"train"}
    assert (spent["train"].jobs, spent["train"].seconds) == (2, 3.5)


def test_messages_that_wait_are_counted_by_where_they_go(store: Any) -> None:
    before = store.tallies.waiting()["registry"]  # of the model that was made
    for _ in range(3):
        store.outbox.put("alerts", "m", {"kind": "drift"})
    found = store.tallies.waiting()
    assert found["registry"] == before
    assert found["alerts"].messages == 3
    assert found["alerts"].oldest > before.newest
    assert found["alerts"].newest == found["alerts"].oldest + 2
    for message in store.outbox.take("alerts", 2, now=1e9):
        store.outbox.done(message)
    assert store.tallies.waiting()["alerts"].oldest == found["alerts"].newest
    for message in store.outbox.take("alerts", 2, now=1e9):
        store.outbox.done(message)
    assert "alerts" not in store.tallies.waiting()
