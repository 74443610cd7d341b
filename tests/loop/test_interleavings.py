"""Whatever comes in whatever order, and however often the loop is restarted: one record, one state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.drive import advance_model
from everlearn.loop.engine import Engine
from everlearn.loop.state import LoopState, dump
from everlearn.loop.verify import verify
from everlearn.types import Command, DecisionKind, EventKind, Label, NewEvent, Prediction

HORIZONS = ({"rows": 0}, {"rows": 7}, "4s", "auto")

count = st.integers(1, 12)
ACTION = st.one_of(
    st.tuples(st.just("predict"), count),
    st.tuples(st.just("predict"), count),
    st.tuples(st.just("label"), st.lists(st.integers(0, 400), min_size=1, max_size=15)),
    st.tuples(st.just("label"), st.lists(st.integers(0, 400), min_size=10, max_size=30)),
    st.tuples(st.just("park"), count),
    st.tuples(st.just("tick"), st.floats(0.0, 6.0)),
    st.tuples(st.just("advance"), st.integers(1, 40)),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("command"), st.sampled_from(["retrain", "rollback", "promote", "freeze", "unfreeze"])),
    st.tuples(st.just("horizon"), st.sampled_from(HORIZONS)),
)
SOURCES = (None, "key:a", "key:b", "key:c")
STEER = st.tuples(st.sampled_from(["quarantine", "release", "unlearn"]), st.sampled_from(SOURCES[1:]))
GIVEN = st.tuples(st.lists(st.integers(0, 400), min_size=5, max_size=30), st.sampled_from(SOURCES))
SOURCED = st.one_of(
    ACTION,
    st.tuples(st.just("steer"), STEER),
    st.tuples(st.just("give"), GIVEN),
    st.tuples(st.just("give"), GIVEN),
)


class Chaos:
    """A world that is told what to do in any order."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.parked: set[str] = set()

    def do(self, action: str, argument: Any) -> None:
        getattr(self, f"_{action}")(argument)

    def _log(self, kind: EventKind, key: str | None, **body: Any) -> None:
        world = self.world
        world.store.log.append(world.name, [NewEvent(kind, world.clock.now(), key, body)])

    def _truth(self, number: int) -> Any:
        turned = number % 5 == 0
        return float(number % 7) if self.world.spec.task == "regression" else "no" if turned else "yes"

    def _predict(self, rows: int) -> None:
        self.world.clock.advance(0.25)
        self.world.predict([self.world.row() for _ in range(rows)])

    def _label(self, numbers: list[int]) -> None:
        """Labels in any order; the second one of a prediction corrects the first."""
        asked = len(self.world.asked)
        for number in numbers if asked else ():
            name = self.world.asked[number % asked][0]
            value = self._truth(number)
            self._log(EventKind.LABEL, name, value=value, correction=number % 3 == 0)

    def _give(self, given: tuple[list[int], str | None]) -> None:
        """Labels of a source, of the newest predictions; it contradicts what others said of them."""
        numbers, source = given
        asked = len(self.world.asked)
        for number in numbers if asked else ():
            name = self.world.asked[asked - 1 - number % min(asked, 20)][0]
            value = self._truth(number)
            self._log(EventKind.LABEL, name, value=value, correction=number % 2 == 0, source=source)

    def _steer(self, what: tuple[str, str]) -> None:
        name, source = what
        self._log(EventKind.COMMAND, None, name=name, arguments={"source": source})

    def _park(self, ahead: int) -> None:
        number = len(self.world.asked) + ahead
        self._log(EventKind.LABEL, f"p{number}", value=self._truth(number), correction=False)

    def _tick(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self._log(EventKind.TICK, f"tick:{self.world.clock.now()}:{len(self.world.events())}")

    def _advance(self, limit: int) -> None:
        advance_model(self.world.name, self.world.store.log, self.world.store.ledger, limit)

    def _settle(self, _: None) -> None:
        self.world.settle()

    def _command(self, name: str) -> None:
        arguments = {"force": True} if name == "retrain" else {"version": 1} if name == "promote" else {}
        self._log(EventKind.COMMAND, None, name=name, arguments=arguments)

    def _horizon(self, horizon: Any) -> None:
        from everlearn.spec import parse_spec

        changed = parse_spec({**self.world.spec.to_dict(), "label_horizon": horizon})
        self.world.store.models.update(changed, self.world.clock.now())


@pytest.mark.parametrize("update", ["triggered", "stream"])
@pytest.mark.parametrize("task", ["classification", "regression"])
@given(horizon=st.sampled_from(HORIZONS), actions=st.lists(ACTION, min_size=20, max_size=80))
@settings(max_examples=12, deadline=None)
def test_a_loop_that_is_restarted_at_every_step_is_one_that_never_was(
    make_world: Any, task: str, update: str, horizon: Any, actions: list[tuple[str, Any]]
) -> None:
    world = _played(make_world, task, update, horizon, actions)
    whole = _one_record(world)
    _no_score_knows_the_future(world.events(), whole.state)


@pytest.mark.parametrize("update", ["triggered", "stream"])
@given(horizon=st.sampled_from(HORIZONS), actions=st.lists(SOURCED, min_size=30, max_size=90))
@settings(max_examples=15, deadline=None)
def test_so_it_is_while_sources_are_put_aside_let_in_and_unlearned(
    make_world: Any, update: str, horizon: Any, actions: list[tuple[str, Any]]
) -> None:
    world = _played(make_world, "classification", update, horizon, actions)
    state = _one_record(world).state
    for name in state.feedback.unlearned:
        slot = state.feedback.sources[name].slot
        unlearned = max(e.seq for e in world.events() if _unlearns(e, name))
        later = [one for one in state.known if one.number and _asked(world, one.number) >= unlearned]
        assert all(slot not in one.sources for one in later)
        assert all(row.source != name for row in state.window if _labelled_after(world, row, unlearned))


def _unlearns(event: Any, name: str) -> bool:
    return isinstance(event, Command) and event.name == "unlearn" and event.arguments["source"] == name


def _asked(world: Any, version: int) -> int:
    """The position at which a version was asked for."""
    return max(d.seq for d in world.decisions() if d.version == version and d.kind is DecisionKind.UPDATE)


def _labelled_after(world: Any, row: Any, seq: int) -> bool:
    return any(isinstance(e, Prediction) and e.row == row.row and e.seq > seq for e in world.events())


def _played(make_world: Any, task: str, update: str, horizon: Any, actions: list[tuple[str, Any]]) -> Any:
    policy = {"first_rows": 10, "min_labels": 10, "window": 30, "cooldown": 5, "check_every": 3}
    world = make_world(
        task=task,
        learner="linear",
        update=update,
        publish_every=15,
        label_horizon=horizon,
        policy=policy,
        gate={"holdout": 10, "min_rows": 5},
    )
    chaos = Chaos(world)
    for action, argument in actions:
        chaos.do(action, argument)
    world.settle()
    return world


def _one_record(world: Any) -> Engine:
    """The engine that has folded the world's log in one go: it says and holds what the world's own does."""
    whole = Engine(LoopState())
    for event in world.events():
        whole.step(event)
    effects = whole.take()
    made = [(d.number, d.seq, d.kind, d.reason, d.version) for d in effects.decisions]
    assert made == [(d.number, d.seq, d.kind, d.reason, d.version) for d in world.decisions()]
    assert dump(whole.state) == world.store.ledger.checkpoint(world.name).state
    store = world.store
    proof = verify(
        world.name, log=store.log, ledger=store.ledger, versions=store.versions, artifacts=store.artifacts
    )
    assert proof.differences == ()
    return whole


def _no_score_knows_the_future(events: list[Any], state: LoopState) -> None:
    """Each score's no-change answer is the newest label that had been joined before its prediction."""
    arrived: list[tuple[int, Any]] = []
    asked: dict[int, int] = {}
    for event in events:
        if isinstance(event, Prediction):
            asked[event.row] = event.seq
            if event.label is not None:
                arrived.append((event.seq, event.label.value))
        elif isinstance(event, Label) and event.prediction is not None and not event.correction:
            arrived.append((event.seq, event.value))
    for scored in state.window:
        known = [value for seq, value in arrived if seq < asked[scored.row]]
        assert scored.no_change == (known[-1] if known else None)
