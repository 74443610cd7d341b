from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import IntegrityError
from everlearn.loop.drive import restore
from everlearn.loop.engine import Engine, advance
from everlearn.loop.state import LoopState, dump, load, majority_of
from everlearn.loop.summary import summary
from everlearn.types import Command, DecisionKind, Tick


def state_of(world: Any) -> LoopState:
    return load(world.store.ledger.checkpoint(world.name).state)


def test_a_drifting_world_is_learned_lost_and_learned_again(drifted: Any) -> None:
    kinds = drifted.kinds()
    assert kinds[0] == "configure"
    assert kinds.count("promote") >= 2
    assert state_of(drifted).champion > 1
    scores = summary(drifted.store.ledger.checkpoint("toy").state)
    assert scores["served"]["window"]["accuracy"] > 0.85
    assert scores["baselines"]["majority"]["accuracy"] < 0.7


def test_every_promotion_holds_its_evidence(drifted: Any) -> None:
    promotions = [d for d in drifted.decisions() if d.kind == "promote"]
    for decision in promotions:
        evidence = decision.evidence
        assert evidence["e"] >= 1 / evidence["alpha"]
        assert evidence["new_loss"] < evidence["old_loss"]
        assert evidence["bars"]["superiority"]["passed"]
        assert len(evidence["digest"]) == 64
    # Version 0 knows nothing: two to one is enough. After that every attempt has its share of alpha.
    assert promotions[0].evidence["alpha"] == 0.5
    assert all(d.evidence["alpha"] < 0.05 for d in promotions[1:])


def test_insufficient_labels_are_a_state(world: Any) -> None:
    world.stream(30)
    assert state_of(world).status == "insufficient labels"
    assert world.decisions()[-1].reason.startswith("insufficient labels")
    assert world.kinds() == ["configure", "hold"]


def test_a_hold_is_written_once_while_its_reason_stays(world: Any) -> None:
    world.stream(50)
    assert world.kinds().count("hold") == 1


def test_scores_count_only_rows_older_than_the_horizon(world: Any) -> None:
    world.predict([world.row() for _ in range(20)])
    world.label(world.asked)
    world.settle()
    state = state_of(world)
    assert (state.matured, state.learnable) == (15, 20)


def test_a_late_label_counts_when_it_comes(world: Any) -> None:
    world.predict([world.row() for _ in range(20)])
    world.label(world.asked[10:])
    world.settle()
    assert state_of(world).matured == 5
    world.label(world.asked[:10])
    world.settle()
    assert state_of(world).matured == 15


def test_a_correction_before_maturity_changes_the_score_and_after_it_does_not(world: Any) -> None:
    from everlearn.types import EventKind, NewEvent

    def correct(name: str) -> None:
        body = {"value": "other", "correction": True}
        world.store.log.append("toy", [NewEvent(EventKind.LABEL, 2000.0, name, body)])

    world.predict([world.row() for _ in range(10)])
    world.label(world.asked)
    correct("p9")
    correct("p0")
    world.predict([world.row() for _ in range(10)])
    world.settle()
    state = state_of(world)
    assert [s.truth for s in state.window if s.row == 10] == ["other"]
    assert [s.truth for s in state.window if s.row == 1] != ["other"]
    assert (state.corrected, state.learnable) == (2, 10)


def test_a_parked_label_counts_once_its_prediction_appears(world: Any) -> None:
    world.label([("p0", {"a": 1.0, "b": 1.0})])
    world.settle()
    assert (state_of(world).parked, state_of(world).learnable) == (1, 0)
    world.predict([{"a": 1.0, "b": 1.0}])
    world.settle()
    assert state_of(world).learnable == 1


def test_the_baselines_know_only_labels_that_had_arrived(world: Any) -> None:
    world.predict([world.row() for _ in range(10)])
    world.label(world.asked)
    world.predict([world.row() for _ in range(10)])
    world.label(world.asked[10:])
    world.predict([world.row() for _ in range(10)])
    world.settle()
    window = {s.row: s for s in state_of(world).window}
    assert window[1].no_change is None
    assert window[11].no_change == window[10].truth
    assert window[20].no_change == window[10].truth


def test_version_0_answers_the_majority_of_the_labels(world: Any) -> None:
    world.label([(f"p{i}", {"a": 1.0, "b": 1.0}) for i in range(3)])
    world.label([("p3", {"a": -1.0, "b": -1.0})])
    world.predict([{"a": 0.0, "b": 0.0}] * 4)
    world.settle()
    output = majority_of(world.store.ledger.checkpoint("toy").state)
    assert output.value == "yes"
    assert output.probabilities == {"yes": 0.75, "no": 0.25}
    assert majority_of(b"").value is None


def test_freeze_stops_updates_and_unfreeze_lets_them_go_on(world: Any) -> None:
    world.command("freeze", why="holidays")
    world.stream(200)
    assert "update" not in world.kinds()
    assert summary(world.store.ledger.checkpoint("toy").state)["state"] == "frozen"
    world.command("unfreeze")
    world.stream(50)
    assert "update" in world.kinds()


def test_rollback_goes_back_step_by_step_and_then_refuses(drifted: Any) -> None:
    champions = [d.version for d in drifted.decisions() if d.kind == "promote"]
    for expected in [*champions[-2::-1], 0]:
        drifted.command("rollback")
        assert drifted.store.versions.champion("toy").version == expected
    drifted.command("rollback")
    last = drifted.decisions()[-1]
    assert (last.kind, last.reason) == ("refuse", "there is no earlier champion to go back to")


def test_promotion_by_hand_takes_known_versions_only(drifted: Any) -> None:
    now = drifted.store.versions.champion("toy").version
    drifted.command("promote", version=now)
    drifted.command("promote", version=99)
    assert drifted.kinds()[-2:] == ["refuse", "refuse"]
    drifted.command("promote", version=1, by="ann")
    last = drifted.decisions()[-1]
    assert (last.kind, last.version, last.evidence["by"]) == ("promote", 1, "ann")
    assert drifted.store.versions.champion("toy").version == 1


def test_a_retrain_by_command_is_skipped_while_the_threshold_is_kept_unless_forced(world: Any) -> None:
    world.command("retrain")
    assert world.decisions()[-1].kind == "refuse"
    world.stream(250)
    updates = world.kinds().count("update")
    world.command("retrain")
    assert world.decisions()[-1].reason.startswith("skipped")
    world.command("retrain", force=True)
    assert world.kinds().count("update") == updates + 1


def test_a_candidate_of_a_champion_that_was_replaced_meanwhile_is_superseded(drifted: Any) -> None:
    from everlearn.types import EventKind, NewEvent

    body = {"name": "retrain", "arguments": {"force": True}}
    drifted.store.log.append("toy", [NewEvent(EventKind.COMMAND, 1.0, None, body)])
    drifted.advance()
    job = drifted.lease()
    back = {"name": "rollback", "arguments": {}}
    drifted.store.log.append("toy", [NewEvent(EventKind.COMMAND, 2.0, None, back)])
    drifted.advance()
    drifted.work(job)
    drifted.settle()
    newest = [d for d in drifted.decisions() if d.version == job.spec.version]
    assert [str(d.kind) for d in newest] == ["update", "refuse"]
    assert newest[-1].evidence["end"] == "superseded"


def test_a_changed_spec_is_an_event_and_a_decision(world: Any) -> None:
    world.store.models.update(world.spec.model_copy(update={"threshold": 0.9}), 5.0)
    world.settle()
    last = world.decisions()[-1]
    assert last.kind == "configure"
    assert "threshold" in last.reason
    assert summary(world.store.ledger.checkpoint("toy").state)["threshold"] == 0.9


def test_a_horizon_in_time_matures_with_the_clock_of_the_events(make_world: Any) -> None:
    world = make_world(label_horizon="1h")
    world.predict([world.row() for _ in range(5)])
    world.label(world.asked)
    world.settle()
    assert state_of(world).matured == 0
    world.clock.advance(3600.0)
    from everlearn.types import EventKind, NewEvent

    world.store.log.append("toy", [NewEvent(EventKind.TICK, world.clock.now(), "tick:1")])
    world.settle()
    assert state_of(world).matured == 5


def test_a_gap_in_the_positions_is_refused(world: Any) -> None:
    world.settle()
    with pytest.raises(IntegrityError, match="does not follow"):
        Engine(state_of(world)).step(Tick(99, 0.0))


def test_the_state_survives_its_stored_form(drifted: Any) -> None:
    stored = drifted.store.ledger.checkpoint("toy").state
    assert dump(load(stored)) == stored
    with pytest.raises(IntegrityError):
        load(b'{"format": 99}')
    with pytest.raises(IntegrityError):
        load(b"no json")


def test_advance_leaves_the_given_state_alone(drifted: Any) -> None:
    before = LoopState()
    after, effects = advance(before, drifted.events()[:50])
    assert dump(before) == dump(LoopState())
    assert after.cursor == 50
    assert effects.decisions


@given(cuts=st.lists(st.integers(1, 1200), max_size=6))
@settings(max_examples=10, deadline=None)
def test_decisions_do_not_depend_on_how_the_log_is_cut_into_steps(recorded: Any, cuts: list[int]) -> None:
    world, events = recorded
    state, decisions = b"", []
    edges = sorted({cut for cut in cuts if cut < len(events)} | {0, len(events)})
    for start, end in pairwise(edges):
        engine = restore("toy", world.store.log, state)
        engine.run(events[start:end])
        decisions += [(d.number, d.seq, str(d.kind), d.reason) for d in engine.take().decisions]
        state = dump(engine.state)
    assert decisions == [(d.number, d.seq, str(d.kind), d.reason) for d in world.decisions()]
    assert state == world.store.ledger.checkpoint("toy").state


@pytest.fixture(scope="module")
def recorded(drifted_once: Any) -> Any:
    return drifted_once, drifted_once.events()


@given(cuts=st.lists(st.integers(1, 1200), max_size=6), metric=st.sampled_from(["accuracy", "kappa_t"]))
@settings(max_examples=10, deadline=None)
def test_rows_may_be_settled_some_at_a_time(recorded: Any, cuts: list[int], metric: str) -> None:
    events = [_unwatched(event, metric) for event in recorded[1]]
    single, grouped, silent = (Engine(LoopState(), reports=told) for told in (True, True, False))
    for event in events:
        single.step(event)
    for start, end in pairwise(sorted({cut for cut in cuts if cut < len(events)} | {0, len(events)})):
        grouped.run(events[start:end])
    silent.run(events)
    assert dump(grouped.state) == dump(single.state)
    decisions = single.take().decisions
    assert grouped.take().decisions == silent.take().decisions == decisions
    assert DecisionKind.WARN in {decision.kind for decision in decisions}


def _unwatched(event: Any, metric: str) -> Any:
    """The event; a command to configure says to watch no features, which are looked at row by row."""
    if not isinstance(event, Command) or event.name != "configure":
        return event
    spec = event.arguments["spec"]
    changed = {**spec, "metric": metric, "drift": {**spec["drift"], "features": False}}
    return replace(event, arguments={**event.arguments, "spec": changed})


def test_a_run_stops_at_a_check_if_it_is_asked_to(recorded: Any) -> None:
    engine, events = Engine(LoopState()), iter(recorded[1])
    stops = []
    while engine.run(events, until_check=True):
        stops.append(engine.state.cursor)
    assert stops == sorted(set(stops))
    assert len(stops) > 5
    assert engine.state.cursor == len(recorded[1])
