"""The score over time: windows that are merged, stretches that are read, and a model's state in one word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop.bake import Bake
from everlearn.loop.card import make_card
from everlearn.loop.engine import Engine
from everlearn.loop.history import merged
from everlearn.loop.history_read import row_at, thinned, time_at
from everlearn.loop.scored import Scored
from everlearn.loop.state import Activity, LoopState
from everlearn.spec import parse_spec
from everlearn.types import ScorePoint

SPEC = parse_spec({"name": "m", "target": "y", "features": {"x": "numeric"}, "threshold": 0.8})


def point(number: int, score: float | None = 0.5, rows: int = 100) -> ScorePoint:
    bounds = (None, None) if score is None else (score - 0.1, score + 0.05)
    return ScorePoint(
        level=0, number=number, seq=number * 20, at=10.0 * number, row=number * 100, rows=rows, first=1,
        last=2, score=score, lower=bounds[0], upper=bounds[1], low=score, high=score, no_change=None,
        threshold=0.8, champion=1,
    )  # fmt: skip


scores = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=40)


@given(scores, st.integers(1, 7))
def test_to_merge_in_parts_is_to_merge_at_once(values: list[float | None], size: int) -> None:
    points = [point(n, value) for n, value in enumerate(values, 1)]
    whole = merged(points)
    parts = merged([merged(points[start : start + size]) for start in range(0, len(points), size)])
    assert (whole.rows, whole.low, whole.high, whole.at) == (parts.rows, parts.low, parts.high, parts.at)
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        assert whole.score == pytest.approx(sum(known) / len(known))
        assert (whole.score, whole.lower, whole.upper) == pytest.approx(
            (parts.score, parts.lower, parts.upper)
        )
        assert whole.score - whole.lower == pytest.approx(0.1 / len(known) ** 0.5)
    if not known:
        assert (whole.score, whole.lower, whole.low) == (None, None, None)


@given(scores, st.integers(1, 50))
def test_a_thinned_stretch_loses_no_row(values: list[float | None], most: int) -> None:
    points = [point(n, value, rows=10 * n) for n, value in enumerate(values, 1)]
    kept = thinned(points, most)
    assert len(kept) <= most
    assert sum(one.rows for one in kept) == sum(one.rows for one in points)
    assert kept[-1].at == points[-1].at


def test_places_between_points_are_read_off() -> None:
    points = [point(1), point(2)]
    assert (row_at(points, 10), row_at(points, 20), row_at(points, 30), row_at(points, 99)) == (
        None,
        100,
        150,
        200,
    )
    assert (time_at(points, 50), time_at(points, 100), time_at(points, 150), time_at(points, 201)) == (
        None, 10.0, 15.0, None,
    )  # fmt: skip
    assert (row_at([], 1), time_at([], 1)) == (None, None)


def standing(right: float, **changed: Any) -> LoopState:
    """A champion whose newest 400 rows were right to some share."""
    rows = [
        Scored(n, 1, "a", "a" if n <= 400 * right else "b", None, None, False, None, None)
        for n in range(1, 401)
    ]
    given = {"champion": 1, **changed}
    return LoopState(spec=SPEC.to_dict(), rows=400, matured=400, window=rows, **given)


def moved() -> LoopState:
    state = standing(0.95, bake=Bake(0, 1, 0, 1000))
    state.warned = True
    return state


def came_back() -> LoopState:
    state = standing(0.95, learnable=10, quiet_until=500)
    state.history.back = True
    return state


@pytest.mark.parametrize(
    ("state", "word", "severity"),
    [
        (standing(0.95), "healthy", "ok"),
        (standing(0.5), "degraded", "trouble"),
        (standing(0.5, activity=Activity("j", 2, "fresh", 1)), "updating", "attention"),
        (standing(0.95, activity=Activity("j", 2, "fresh", 1)), "updating", "ok"),
        (standing(0.95, frozen=True), "frozen", "attention"),
        (standing(0.5, frozen=True), "frozen", "trouble"),
        (standing(0.95, bake=Bake(0, 1, 0, 1000)), "in bake", "ok"),
        (moved(), "warning", "attention"),
        (came_back(), "rolled back", "trouble"),
        (LoopState(spec=SPEC.to_dict()), "insufficient labels", "ok"),
    ],
)
def test_of_several_states_the_most_urgent_is_shown(state: LoopState, word: str, severity: str) -> None:
    card = make_card(Engine(state))
    assert (card.state, card.severity) == (word, severity)
    assert card.reason


def test_a_new_champion_is_not_credited_with_the_rows_of_others() -> None:
    card = make_card(Engine(standing(0.95, champion=2)))
    assert card.score_rows == 400
    assert card.reason == f"0 of {SPEC.policy.min_labels} matured labels that version 2 is judged by"


def test_models_are_ranked_by_urgency() -> None:
    cards = [
        make_card(Engine(standing(right, **more)))
        for right, more in ((0.9, {}), (0.5, {"frozen": True}), (0.4, {}))
    ]
    assert sorted(cards, key=lambda card: card.rank) == [cards[2], cards[1], cards[0]]
