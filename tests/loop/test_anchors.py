from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop.anchors import Anchor, Reservoir, eligible


def anchor(row: int, truth: str = "a") -> Anchor:
    return Anchor(row, f"p{row}", truth, float(row))


def filled(rows: list[int], anchors: int) -> Reservoir:
    kept = Reservoir()
    for row in rows:
        kept.add(anchor(row), anchors)
    return kept


class TestEligible:
    @pytest.mark.parametrize("every", [2, 10, 40, 100])
    def test_about_one_row_in_so_many(self, every: int) -> None:
        share = sum(eligible(row, every) for row in range(1, 20_001)) / 20_000
        assert share == pytest.approx(1 / every, rel=0.15)

    def test_no_beat_with_what_repeats_in_the_stream(self) -> None:
        """Every residue of a period gets its share: anchors must not all be of one hour of the day."""
        for period in (7, 24, 40, 48):
            hits = [sum(eligible(r, 40) for r in range(k + 1, 200_000, period)) for k in range(period)]
            expected = 200_000 / 40 / period
            assert min(hits) > 0.5 * expected
            assert max(hits) < 1.6 * expected

    def test_none_of_history_and_none_if_switched_off(self) -> None:
        assert not any(eligible(0, every) for every in (0, 1, 40))
        assert not any(eligible(row, 0) for row in range(1000))
        assert all(eligible(row, 1) for row in range(1, 1000))


class TestReservoir:
    def test_spread_evenly_over_a_long_regime(self) -> None:
        kept = filled(list(range(1, 20_001, 40)), 100)
        rows = [a.row for a in kept.entries]
        gaps = [b - a for a, b in pairwise(rows)]
        assert len(rows) == 100
        assert rows[0] == 1
        assert max(gaps) <= 3 * 20_000 / 100

    @given(
        rows=st.lists(st.integers(1, 10_000), max_size=120, unique=True),
        anchors=st.integers(0, 20),
    )
    def test_bounded_sorted_and_a_subset(self, rows: list[int], anchors: int) -> None:
        kept = [a.row for a in filled(rows, anchors).entries]
        assert kept == sorted(set(kept))
        assert set(kept) <= set(rows)
        assert len(kept) == min(anchors, len(rows))
        if anchors >= 3 and rows:
            assert (kept[0], kept[-1]) == (min(rows), max(rows))

    @given(st.lists(st.integers(1, 500), max_size=60, unique=True), st.integers(1, 10))
    def test_what_is_kept_does_not_depend_on_truths(self, rows: list[int], anchors: int) -> None:
        other = Reservoir()
        for row in rows:
            other.add(anchor(row, truth="b" if row % 2 else "a"), anchors)
        assert [a.row for a in other.entries] == [a.row for a in filled(rows, anchors).entries]

    def test_frozen_takes_nothing_in_but_a_correction(self) -> None:
        kept = filled([1, 5, 9], 5)
        kept.frozen = True
        kept.add(anchor(7), 5)
        assert [a.row for a in kept.entries] == [1, 5, 9]
        assert kept.correct(5, "b")
        assert kept.entries[1].truth == "b"
        assert not kept.correct(7, "b")

    def test_a_row_twice_is_one_anchor(self) -> None:
        assert len(filled([3, 3, 3], 5).entries) == 1

    def test_split_and_merge_give_back_the_whole(self) -> None:
        kept = filled(list(range(1, 21)), 30)
        later = kept.split(11)
        assert [a.row for a in kept.entries] == list(range(1, 11))
        kept.merge(later, 30)
        assert [a.row for a in kept.entries] == list(range(1, 21))

    def test_a_subject_is_forgotten(self) -> None:
        kept = filled([1, 2, 3], 5)
        assert kept.forget({"p2", "unknown"}) == 1
        assert [a.id for a in kept.entries] == ["p1", "p3"]

    def test_stored_as_plain_json(self) -> None:
        kept = filled([1, 2], 5)
        data = msgspec.json.encode(kept)
        assert msgspec.json.decode(data, type=Reservoir) == kept
        assert b'[1,"p1","a",1.0,null]' in data
        before = data.replace(b",null", b"")  # as it was stored before sources were noted
        assert msgspec.json.decode(before, type=Reservoir) == kept
