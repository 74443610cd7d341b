"""Un-learning a source: nothing of it is learned again, and what was made of it is gone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from everlearn.loop.drive import restore
from everlearn.loop.state import LoopState, load
from everlearn.loop.verify import verify
from everlearn.types import DecisionKind, EventKind, NewEvent

from .conftest import World, concept, make_spec

GOOD, BAD = "key:good", "key:bad"
REFUSE = DecisionKind.REFUSE


class Sourced(World):
    """A world whose labels come from two sources, of which one may turn bad."""

    poisoned = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dice = random.Random(self.seed + 1)

    def label(self, ids: list[tuple[str, dict[str, float]]], turned: bool = False) -> None:
        events = []
        for name, row in ids:
            source = BAD if self.dice.random() < 0.5 else GOOD
            truth = concept(row, turned)
            if source == BAD and self.poisoned:
                truth = "no" if truth == "yes" else "yes"
            body = {"value": truth, "source": source}
            events.append(NewEvent(EventKind.LABEL, self.clock.now(), name, body))
        self.store.log.append(self.name, events)

    def state(self) -> LoopState:
        return load(self.store.ledger.checkpoint(self.name).state)

    def decisions(self) -> list[Any]:
        return list(self.store.ledger.decisions(self.name, None, 1000).items)[::-1]

    def made_from(self, version: int) -> set[str | None]:
        """Who gave what a version learned from, as the loop knows it."""
        state = self.state()
        known = state.version(version)
        assert known is not None
        return {name for name, source in state.feedback.sources.items() if source.slot in known.sources}


def world(**changes: Any) -> Sourced:
    return Sourced(make_spec(feedback={"guard": "off"}, **changes))


def test_a_version_knows_who_it_learned_from() -> None:
    here = world()
    here.stream(150)
    champion = here.store.versions.champion("toy").version
    assert champion
    assert here.made_from(champion) == {GOOD, BAD}


def test_unlearning_leaves_nothing_of_a_source_and_makes_a_version_without_it() -> None:
    here = world()
    here.stream(150)
    before = here.state()
    assert any(one.source == BAD for one in before.window)
    assert any(a.source == BAD for r in before.regimes.regimes for a in r.reservoir.entries)
    here.command("unlearn", source=BAD, why="it was stolen", by="user:ann")
    state = here.state()
    decision = next(one for one in here.decisions() if one.kind is DecisionKind.UNLEARN)
    assert decision.evidence["versions"][0] == before.champion
    assert decision.evidence["removed"]["anchors"] > 0
    for kept in (state.window, state.recent, state.waiting_rows):
        assert all(one.source != BAD for one in kept)
    assert all(a.source != BAD for r in state.regimes.regimes for a in r.reservoir.entries)
    here.stream(300)
    after = here.state()
    assert after.champion > before.champion
    assert here.made_from(after.champion) == {GOOD}
    assert not after.tainted(after.champion)
    (update,) = [
        one for one in here.decisions() if one.seq == decision.seq and one.kind is DecisionKind.UPDATE
    ]
    assert update.evidence["plan"]["without"] == {BAD: 0}
    assert before.champion not in after.previous
    here.command("promote", version=before.champion)
    assert here.decisions()[-1].kind is DecisionKind.REFUSE
    assert "un-learned" in here.decisions()[-1].reason


def test_the_newest_champion_that_did_not_learn_from_it_comes_back() -> None:
    here = world()
    here.stream(150)
    clean = here.store.versions.champion("toy").version
    here.command("quarantine", source=BAD)
    here.stream(80)
    here.command("retrain", force=True)
    middle = max(one.number for one in here.state().known)
    here.command("promote", version=middle)
    here.command("release", source=BAD)
    assert middle > clean
    assert here.made_from(middle) == {GOOD}
    here.stream(60)
    here.command("retrain", force=True)
    newest = max(one.number for one in here.state().known)
    here.command("promote", version=newest)
    assert here.made_from(newest) == {GOOD, BAD}
    here.command("unlearn", source=BAD)
    back = next(one for one in here.decisions() if one.kind is DecisionKind.ROLLBACK)
    assert (back.version, back.evidence["replaces"]) == (middle, newest)


def test_what_came_before_a_position_stays_learned() -> None:
    here = world()
    here.stream(150)
    old = here.store.versions.champion("toy").version
    since = here.store.log.head("toy").seq + 1
    here.poisoned = True
    here.stream(60)
    here.command("retrain", force=True)
    newest = max(one.number for one in here.state().known)
    here.command("unlearn", source=BAD, since=since)
    state = here.state()
    assert state.tainted(newest) == (newest > old)
    assert not state.tainted(old)
    left = here.store.log.examples("toy", upto=10**9, without=state.feedback.without)
    assert {e.source for e in left if e.known < since} == {GOOD, BAD}
    assert {e.source for e in left if e.known >= since} == {GOOD}


@pytest.mark.parametrize("update", ["triggered", "stream"])
def test_no_later_version_learns_from_it_and_the_record_verifies(update: str) -> None:
    more: dict[str, Any] = {"learner": "linear", "publish_every": 50} if update == "stream" else {}
    here = world(update=update, **more)
    here.stream(120)
    here.poisoned = True
    here.stream(120)
    here.command("unlearn", source=BAD)
    last = here.state().next_version - 1
    here.stream(240)
    state = here.state()
    later = [one for one in state.known if one.number >= last]
    assert later
    assert [one.number for one in later if state.tainted(one.number)] == []
    assert not state.tainted(state.champion)
    store = here.store
    found = verify(
        "toy", log=store.log, ledger=store.ledger, versions=store.versions, artifacts=store.artifacts
    )
    assert found.differences == ()
    assert found.artifacts_checked > 1


def test_nothing_goes_on_from_a_champion_that_is_withdrawn() -> None:
    here = world()
    here.stream(150)
    body = {"name": "unlearn", "arguments": {"source": BAD}}
    here.store.log.append("toy", [NewEvent(EventKind.COMMAND, here.clock.now(), None, body)])
    here.advance()  # and no job is done
    engine = restore("toy", here.store.log, here.store.ledger.checkpoint("toy").state)
    assert engine.state.tainted(engine.state.champion)
    for mode in ("incremental", "recalibrate"):
        engine.update(mode, "it was asked for", {})
        assert engine.take().decisions[-1].evidence["plan"]["mode"] == "fresh"


def test_a_frozen_model_is_cleaned_and_asks_for_nothing() -> None:
    here = world()
    here.stream(150)
    here.command("freeze")
    here.command("unlearn", source=BAD)
    kinds = [one.kind for one in here.decisions()]
    assert kinds[kinds.index(DecisionKind.UNLEARN) :] in (
        [DecisionKind.UNLEARN],
        [DecisionKind.UNLEARN, REFUSE],
    )
    here.command("unlearn", source=BAD)
    assert here.decisions()[-1].kind is DecisionKind.REFUSE
