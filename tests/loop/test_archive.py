"""Archived versions: when they come back, how sure that is, and what becomes of what they replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop import archive, promotions
from everlearn.loop.bake import open_bake
from everlearn.loop.engine import Engine
from everlearn.loop.gate import Mark
from everlearn.loop.shadow import Shadow, ShadowRow
from everlearn.loop.state import Known, LoopState, dump, load
from everlearn.spec import parse_spec
from everlearn.types import DecisionKind

SPEC = {
    "name": "toy",
    "target": "y",
    "features": {"a": "numeric"},
    "learner": {"name": "window", "estimator": "logistic"},
    "threshold": 0.8,
    "update": "triggered",
}


class Archive:
    """An engine whose version 3 answers; versions 1 and 2 served earlier regimes."""

    def __init__(self, **changes: Any) -> None:
        spec = parse_spec({**SPEC, **changes})
        state = LoopState(spec=spec.to_dict(), champion=3, previous=[0, 1, 2], next_version=4)
        state.known += [Known(1), Known(2), Known(3)]
        self.engine = Engine(state)
        regimes = state.regimes
        for row in range(1, 601):
            if row in (201, 401):
                regimes.cut(row, "the loss rose", spec.regimes)
            regimes.take(row, f"p{row}", "yes", 0.0, spec.regimes)
            if row % 200 == 1:
                regimes.promoted(row, row // 200 + 1)
        state.rows = state.matured = 600

    @property
    def state(self) -> LoopState:
        return self.engine.state

    def answer(self, champion: Any, others: dict[int, Any]) -> None:
        """Let rows mature on which the champion and other versions lose so much."""
        state = self.state
        archive.attend(self.engine)
        rows = []
        for loss in champion:
            state.matured += 1
            state.rows += 1
            number = state.rows
            rows.append(
                ShadowRow(number, number, f"p{number}", "yes", state.champion, Mark(loss), [], state.matured)
            )
        marks = {number: [Mark(loss) for loss in losses] for number, losses in others.items()}
        if state.archived is not None:
            archive.judge(self.engine, Shadow("job", rows, sorted(marks)), marks)

    def decided(self) -> list[tuple[str, int | None]]:
        return [(d.kind.value, d.version) for d in self.engine.take().decisions]


def losses(rng: np.random.Generator, rows: int, rate: float) -> list[float]:
    return [float(u < rate) for u in rng.random(rows)]


def play(home: Archive, rng: np.random.Generator, rows: int, rates: dict[int, float], batch: int = 25) -> int:
    """Rows with these error rates by version, until something is promoted; how many rows it took."""
    for done in range(0, rows, batch):
        champion = home.state.champion
        others = {number: losses(rng, batch, rates[number]) for number in (1, 2) if number != champion}
        home.answer(losses(rng, batch, rates[champion]), others)
        if home.state.champion != champion:
            return done + batch
    return rows


def test_what_served_a_regime_that_is_past_may_come_back() -> None:
    home = Archive()
    assert archive.archived_versions(home.state) == [2, 1]
    assert archive.watched(home.state) == [2, 1]


def test_a_version_comes_back_soon_after_its_concept_has_without_a_warning() -> None:
    home, rng = Archive(), np.random.default_rng(1)
    assert play(home, rng, 3000, {1: 0.5, 2: 0.5, 3: 0.1}) == 3000
    took = play(home, rng, 1000, {1: 0.1, 2: 0.5, 3: 0.5})
    assert home.state.champion == 1
    assert took <= 100
    (kind, version), *_ = [d for d in home.decided() if d[0] != "regime"]
    assert (kind, version) == ("promote", 1)


def test_after_a_warning_it_comes_back_in_haste() -> None:
    took = []
    for warned in (False, True):
        home, rng = Archive(), np.random.default_rng(2)
        play(home, rng, 6000, {1: 0.5, 2: 0.5, 3: 0.1})
        if warned:
            archive.try_archived(home.engine, "drift")
            assert archive.look_every(home.state) == archive.LOOK
        took.append(play(home, rng, 1000, {1: 0.15, 2: 0.5, 3: 0.4}, batch=5))
    assert took[1] < took[0]


def test_a_warning_that_brings_nothing_back_is_held_and_let_go() -> None:
    home, rng = Archive(), np.random.default_rng(3)
    archive.try_archived(home.engine, "drift")
    play(home, rng, archive.ROWS + 50, {1: 0.5, 2: 0.5, 3: 0.1})
    assert home.decided() == [("trial", 2), ("hold", None)]
    assert home.state.archived is not None
    assert home.state.archived.until == 0


@given(st.integers(0, 3000), st.sampled_from([archive.FAVOURITE, 1, archive.FLAT]))
def test_shares_never_sum_to_more_than_one(places: int, flat: float) -> None:
    assert sum(archive.share(place, flat) for place in range(places)) <= 1.0 + 1e-9


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_all_trials_together_spend_no_more_than_alpha(warned: list[bool]) -> None:
    home, spent = Archive(), 0.0
    for warns in warned:
        home.state.matured += archive.EVERY
        before = [] if home.state.archived is None else home.state.archived.begun
        known = {id(one) for one in before}
        if warns:
            archive.try_archived(home.engine, "drift")
        else:
            archive.attend(home.engine)
        assert home.state.archived is not None
        spent += sum(one.trial.alpha for one in home.state.archived.begun if id(one) not in known)
    assert 0.0 < spent <= home.engine.spec.gate.alpha


def test_versions_no_better_rarely_come_back_however_often_they_are_looked_at_and_warned_of() -> None:
    back, runs = 0, 60
    for seed in range(runs):
        home, rng = Archive(gate={"alpha": 0.1}), np.random.default_rng(seed)
        for _ in range(6):
            archive.try_archived(home.engine, "drift")
            play(home, rng, 300, {1: 0.3, 2: 0.3, 3: 0.3})
        back += home.state.champion != 3
    assert back <= 10  # 6 are expected at most; more than 10 of 60 happen in 1 case of 25


def test_few_trials_are_kept_and_survive_storage() -> None:
    home, rng = Archive(), np.random.default_rng(5)
    play(home, rng, 3000, {1: 0.3, 2: 0.3, 3: 0.3})
    archived = home.state.archived
    assert archived is not None
    assert len(archived.begun) <= 2 * (archive.KEPT + 1)
    assert load(dump(home.state)).archived == archived


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"policy": {"reuse": False}}, "not wanted"), ({"update": "stream"}, "a stream learner goes on")],
)
def test_nothing_is_watched_where_it_is_not_asked_for(changes: dict[str, Any], why: str) -> None:
    home = Archive(**changes)
    archive.attend(home.engine)
    assert home.state.archived is None, why


class TestRollback:
    """What is replaced by its old champion: withdrawn if it never held, remembered if it did."""

    def bake(self, home: Archive, held: int, worse: int) -> None:
        state, spec = home.state, home.engine.spec
        state.bake = open_bake(2, 3, 600, spec.rollback, True)
        rng = np.random.default_rng(6)
        for rows, (old, new) in ((held, (0.4, 0.1)), (worse, (0.1, 0.5))):
            for _ in range(0, rows, 50):
                served = losses(rng, 50, new)
                state.matured += 50
                numbers = range(state.rows + 1, state.rows + 51)
                state.rows += 50
                asked = [
                    ShadowRow(n, n, f"p{n}", "yes", 3, Mark(loss), [], n)
                    for n, loss in zip(numbers, served, strict=True)
                ]
                marks = {2: [Mark(loss) for loss in losses(rng, 50, old)]}
                if state.bake is not None:
                    promotions.watch(home.engine, Shadow("job", asked, [2]), marks)

    def test_a_version_that_never_held_is_withdrawn(self) -> None:
        home = Archive()
        self.bake(home, 0, 500)
        assert home.state.champion == 2
        assert home.state.withdrawn == [3]
        assert 3 not in archive.archived_versions(home.state)
        assert home.state.storm.streak == 1

    def test_a_version_that_held_until_the_world_turned_may_come_back(self) -> None:
        home = Archive()
        self.bake(home, 500, 2000)
        assert home.state.champion == 2
        assert home.state.withdrawn == []
        assert 3 in archive.archived_versions(home.state)
        assert home.state.storm.streak == 0
        (rolled,) = [d for d in home.engine.take().decisions if d.kind is DecisionKind.ROLLBACK]
        assert rolled.evidence["withdrawn"] is False

    def test_the_old_champion_is_not_tried_twice_before_the_new_one_has_held(self) -> None:
        home = Archive()
        home.state.bake = open_bake(2, 3, 600, home.engine.spec.rollback, True)
        assert archive.archived_versions(home.state) == [1]
        home.state.bake.held = True
        assert archive.archived_versions(home.state) == [2, 1]
