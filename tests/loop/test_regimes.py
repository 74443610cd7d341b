from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.regimes import LEAST_ROWS, Regimes
from everlearn.loop.state import load
from everlearn.spec import RegimeSpec
from everlearn.types import EventKind, NewEvent

ALL = RegimeSpec(anchor_every=1, anchors=50)


def seen(*stretches: int, spec: RegimeSpec = ALL) -> Regimes:
    """A memory after stretches of so many rows each, each cut where it ended."""
    memory, row = Regimes(), 0
    for length in stretches:
        start = row + 1
        for _ in range(length):
            row += 1
            memory.take(row, f"p{row}", "a", float(row), spec)
        if start > 1:
            memory.cut(start, "the loss rose", spec)
    return memory


class TestCutting:
    def test_anchors_and_versions_from_the_change_on_go_with_the_new_regime(self) -> None:
        memory = Regimes()
        for row in range(1, 401):
            memory.take(row, f"p{row}", "a", 0.0, RegimeSpec(anchor_every=1, anchors=1000))
        memory.promoted(120, 1)
        memory.promoted(380, 2)
        new = memory.cut(351, "the loss rose", ALL)
        old = memory.find(1)
        assert old is not None
        assert new is not None
        assert [a.row for a in old.reservoir.entries] == list(range(1, 351))
        assert [a.row for a in new.reservoir.entries] == list(range(351, 401))
        assert (old.best, new.best) == (1, 2)
        assert (old.rows, new.rows) == (350, 50)
        assert old.reservoir.frozen
        assert not new.reservoir.frozen

    def test_the_same_change_told_twice_is_one_change(self) -> None:
        memory = seen(300, 50)
        assert [r.number for r in memory.regimes] == [1, 2]
        memory.cut(301, "again", ALL)
        memory.cut(250, "earlier than that", ALL)
        assert [r.stretches for r in memory.regimes] == [[(1, 300)], [(301, 0)]]

    def test_a_stretch_too_short_to_be_a_regime_was_the_change_itself(self) -> None:
        memory = seen(300, LEAST_ROWS // 2, 200)
        assert [r.number for r in memory.regimes] == [1, 2]
        current = memory.regimes[-1]
        assert current.opened == 300 + LEAST_ROWS // 2 + 1
        assert {a.row for a in current.reservoir.entries} <= set(range(current.opened, 10_000))

    def test_before_any_row_there_is_nothing_to_cut(self) -> None:
        assert Regimes().cut(5, "nothing", ALL) is None

    def test_no_memory_if_switched_off(self) -> None:
        memory = seen(300, spec=RegimeSpec(anchor_every=0))
        assert memory.current is None


class TestRecognising:
    def test_a_regime_goes_on_where_it_stopped(self) -> None:
        memory = seen(300, 300, 200)
        known = memory.find(1)
        assert known is not None
        known.obsolete = True
        back = memory.recognise(1, "its anchors look the same", ALL)
        assert back is memory.current
        assert back.stretches == [(1, 300), (601, 0)]
        assert back.rows == 500
        assert not back.obsolete
        assert [r.number for r in memory.regimes] == [2, 1]
        rows = [a.row for a in back.reservoir.entries]
        assert min(rows) <= 300 < 600 < max(rows)
        memory.take(801, "p801", "a", 0.0, ALL)
        assert back.reservoir.entries[-1].row == 801

    def test_numbers_are_never_used_twice(self) -> None:
        memory = seen(300, 300, 200)
        memory.recognise(1, "back", ALL)
        for row in range(801, 1001):
            memory.take(row, f"p{row}", "a", 0.0, ALL)
        fresh = memory.cut(901, "the loss rose", ALL)
        assert fresh is not None
        assert fresh.number == 4
        assert memory.find(1) is not None
        assert memory.find(1).stretches == [(1, 300), (601, 900)]  # type: ignore[union-attr]

    @pytest.mark.parametrize("number", [2, 9])
    def test_only_a_past_regime_can_come_back(self, number: int) -> None:
        with pytest.raises(KeyError, match=f"regime {number}"):
            seen(300, 200).recognise(number, "back", ALL)


class TestProtection:
    def test_what_was_found_decides_unless_the_operator_says_otherwise(self) -> None:
        memory = seen(300, 300, 300, 200)
        memory.judge(1, "protected", "only x moved")
        memory.judge(2, "obsolete", "the truth changed")
        memory.judge(3, "undecided", "too few rows")
        assert [r.number for r in memory.protected(ALL)] == [1]
        assert memory.groups_for(150, ALL) == ["regime 1"]
        assert memory.groups_for(450, ALL) == []
        overruled = RegimeSpec(protect={1: False, 2: True})
        assert [r.number for r in memory.protected(overruled)] == [2]
        assert memory.groups_for(450, overruled) == ["regime 2"]

    def test_the_current_regime_is_not_judged(self) -> None:
        memory = seen(300, 200)
        memory.judge(2, "obsolete", "nonsense")
        assert memory.to_dict(ALL)[-1]["obsolete"] is False

    def test_for_people(self) -> None:
        memory = seen(300, 200)
        memory.promoted(350, 7)
        first, second = memory.to_dict(RegimeSpec(protect={1: True}))
        assert (first["stretches"], first["protected"], first["by_operator"]) == ([[1, 300]], True, True)
        assert (second["best"], second["current"], second["stretches"]) == (7, True, [[301, None]])


class TestRoom:
    def test_the_oldest_obsolete_goes_first_then_the_smallest_unprotected(self) -> None:
        spec = RegimeSpec(anchor_every=1, anchors=20, most=3)
        memory = seen(400, 200, 300, spec=spec)
        memory.judge(1, "obsolete", "the truth changed")
        for row in range(901, 1201):
            memory.take(row, f"p{row}", "a", 0.0, spec)
        memory.cut(1001, "the loss rose", spec)
        assert [r.number for r in memory.regimes] == [2, 3, 4]
        memory.judge(2, "protected", "only x moved")
        for row in range(1201, 1501):
            memory.take(row, f"p{row}", "a", 0.0, spec)
        memory.cut(1401, "the loss rose", spec)
        assert [r.number for r in memory.regimes] == [2, 4, 5]

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 260), st.booleans()), max_size=25))
    def test_bounded_and_never_overlapping(self, steps: list[tuple[int, bool]]) -> None:
        spec = RegimeSpec(anchor_every=3, anchors=10, most=4)
        memory, row = Regimes(), 0
        for length, back in steps:
            start = row + 1
            for _ in range(length):
                row += 1
                memory.take(row, f"p{row}", "a", 0.0, spec)
            memory.cut(start, "change", spec)
            if back and memory.past() and len(memory.regimes[-1].stretches) == 1:
                memory.recognise(memory.past()[0].number, "back", spec)
        assert len(memory.regimes) <= 4
        assert all(len(r.reservoir.entries) <= 10 for r in memory.regimes)
        spans = sorted(s for r in memory.regimes for s in r.stretches)
        assert all(last < first for (_, last), (first, _) in pairwise(spans))
        for regime in memory.regimes:
            assert all(regime.holds(a.row) for a in regime.reservoir.entries)
            assert regime.rows >= 0
        assert msgspec.json.decode(msgspec.json.encode(memory), type=Regimes) == memory


def test_late_labels_count_where_they_belong_and_change_no_frozen_reservoir() -> None:
    memory = seen(300, 200)
    before = [a.row for a in memory.regimes[0].reservoir.entries]
    memory.take(100, "late", "b", 0.0, ALL)
    assert memory.regimes[0].rows == 301
    assert [a.row for a in memory.regimes[0].reservoir.entries] == before


def test_corrections_and_deletions_reach_every_regime() -> None:
    memory = seen(300, 200)
    row = memory.regimes[0].reservoir.entries[3].row
    assert memory.correct(row, "b")
    assert memory.regimes[0].reservoir.entries[3].truth == "b"
    assert memory.forget({f"p{row}"}) == 1
    assert not memory.correct(row, "c")


def test_a_corrected_label_corrects_what_is_remembered_of_its_row(make_world: Any) -> None:
    world = make_world(regimes={"anchor_every": 1})
    world.predict([world.row() for _ in range(20)])
    world.label(world.asked)
    world.predict([world.row() for _ in range(10)])
    world.settle()
    body = {"value": "other", "correction": True}
    world.store.log.append("toy", [NewEvent(EventKind.LABEL, 2000.0, "p4", body)])
    world.settle()
    state = load(world.store.ledger.checkpoint("toy").state)
    anchors = {anchor.id: anchor.truth for anchor in state.regimes.current.reservoir.entries}
    recent = {row.id: row.truth for row in state.recent}
    assert anchors["p4"] == recent["p4"] == "other"
    assert [name for name, truth in anchors.items() if truth == "other"] == ["p4"]
