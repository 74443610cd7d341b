from __future__ import annotations

from typing import Any

import pytest

from everlearn.errors import FencedError, UnavailableError
from everlearn.loop.drive import EngineCache, advance_model
from everlearn.loop.verify import verify
from everlearn.types import EventKind, JobState, NewEvent


def verdict(world: Any, **options: Any) -> Any:
    store = world.store
    return verify(
        "toy",
        log=store.log,
        ledger=store.ledger,
        versions=store.versions,
        artifacts=store.artifacts,
        **options,
    )


def test_a_record_verifies_with_every_version_trained_again(drifted: Any) -> None:
    found = verdict(drifted)
    assert found.identical, found.differences
    assert found.artifacts_checked > drifted.kinds().count("update")  # what was scored in shadow, too
    assert found.decisions == len(drifted.decisions())


def test_a_stream_learner_publishes_versions_and_verifies(make_world: Any) -> None:
    world = make_world(learner="linear", update="stream", publish_every=50)
    world.stream(300)
    assert world.kinds().count("promote") > 2
    assert verdict(world).identical


def test_a_tampered_decision_is_found(drifted: Any) -> None:
    kept = drifted.store.ledger.decisions("toy", limit=1000).items

    class Tampered:
        checkpoint = drifted.store.ledger.checkpoint

        def decisions(self, *args: Any) -> Any:
            from dataclasses import replace

            from everlearn.types import Page

            return Page([replace(d, reason="because") if d.number == 3 else d for d in kept if d.number != 2])

    store = drifted.store
    found = verify(
        "toy",
        log=store.log,
        ledger=Tampered(),
        versions=store.versions,
        artifacts=store.artifacts,
        retrain=False,
    )
    assert not found.identical
    assert any("decision 3: reason" in difference for difference in found.differences)
    assert any("decision 2" in difference for difference in found.differences)


def test_two_workers_on_one_step_decide_once(drifted: Any) -> None:
    drifted.predict([drifted.row() for _ in range(30)])
    store = drifted.store
    checkpoint = store.ledger.checkpoint("toy")

    class Stale:
        commit = store.ledger.commit

        def checkpoint(self, model: str) -> Any:
            return checkpoint

    assert advance_model("toy", store.log, store.ledger) == 30
    assert advance_model("toy", store.log, Stale()) == 0


def test_a_cached_engine_gives_the_same_steps_and_a_lost_race_drops_it(make_world: Any) -> None:
    plain, cached = make_world(), make_world()
    cache = EngineCache(size=1)
    for world, kept in ((plain, None), (cached, cache)):
        for i in range(12):
            world.predict([world.row() for _ in range(10)])
            world.label(world.asked[-10:])
            while advance_model("toy", world.store.log, world.store.ledger, cache=kept):
                pass
            if i == 5 and kept is not None:
                world.predict([world.row()])
                advance_model("toy", world.store.log, world.store.ledger)
            if i == 5 and kept is None:
                world.predict([world.row()])
                advance_model("toy", world.store.log, world.store.ledger)
    assert plain.store.ledger.checkpoint("toy") == cached.store.ledger.checkpoint("toy")


def test_a_job_done_by_a_worker_that_lost_its_lease_leaves_no_trace(world: Any) -> None:
    world.predict([world.row() for _ in range(100)])
    world.label(world.asked)
    world.advance()
    slow = world.store.jobs.lease("slow", 10.0, world.clock.now())
    world.clock.advance(60.0)
    world.work(world.lease())
    with pytest.raises(FencedError):
        world.work(slow)
    world.settle()
    assert world.kinds().count("promote") == 1
    assert [event.version for event in world.events() if hasattr(event, "job")] == [1]


def test_a_job_that_cannot_be_done_fails_with_its_reason_and_the_loop_goes_on(make_world: Any) -> None:
    world = make_world(
        learner={"name": "window", "estimator": "logistic", "estimator_parameters": {"C": -1.0}}
    )
    world.stream(100)
    failed = [d for d in world.decisions() if d.kind == "fail"]
    assert failed
    assert "the update failed" in failed[0].reason
    assert world.store.jobs.list("toy").items[-1].state is JobState.FAILED
    world.stream(20)
    assert world.store.ledger.checkpoint("toy").cursor == world.store.log.head("toy").seq


def test_a_passing_trouble_is_tried_again_later(world: Any) -> None:
    world.predict([world.row() for _ in range(100)])
    world.label(world.asked)
    world.advance()
    put = world.store.artifacts.put

    def full(bundle: Any) -> str:
        raise UnavailableError("the disk is full: free some space")

    world.store.artifacts.put = full
    world.work(world.lease())
    assert world.lease() is None
    world.store.artifacts.put = put
    world.clock.advance(3600.0)
    world.settle()
    assert world.kinds().count("promote") == 1
    assert world.store.jobs.list("toy").items[0].attempts == 2


def test_history_is_enough_for_a_first_version(world: Any) -> None:
    rows = [world.row() for _ in range(200)]
    world.store.log.append(
        "toy",
        [
            NewEvent(
                EventKind.EXAMPLE, 1.0, None, {"features": row, "target": "yes" if row["a"] > 0 else "no"}
            )
            for row in rows
        ],
    )
    world.settle()
    assert world.store.versions.champion("toy").version == 1


def test_history_loaded_while_the_first_version_was_made_is_learned_next(world: Any) -> None:
    def load(rows: int) -> None:
        made = [world.row() for _ in range(rows)]
        events = [
            NewEvent(EventKind.EXAMPLE, 1.0, None, {"features": r, "target": "yes" if r["a"] > 0 else "no"})
            for r in made
        ]
        world.store.log.append("toy", events)

    load(70)
    world.advance()
    job = world.lease()
    load(400)
    world.advance()
    world.work(job)
    world.settle()
    updates = [d for d in world.decisions() if d.kind == "update"]
    assert len(updates) == 2
    assert "history" in updates[1].reason or "first version" in updates[1].reason
