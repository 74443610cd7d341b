from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop.changepoint import rise


@pytest.mark.parametrize(("before", "after", "rows"), [(0.15, 0.5, 32), (0.05, 0.5, 20), (0.1, 0.25, 200)])
def test_near_the_change(before: float, after: float, rows: int) -> None:
    """So many rows after the change, as a detector would ask; half of the estimates are this close."""
    rng = np.random.default_rng(0)
    off = []
    for _ in range(200):
        losses = np.concatenate([rng.random(400) < before, rng.random(rows) < after]).astype(np.float64)
        found = rise(losses)
        off.append(1000 if found is None else abs(found - 400))
    assert np.median(off) <= rows / 4


def test_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.beta(2, 8, 300), rng.beta(5, 5, 60)])
    assert rise(losses) == pytest.approx(300, abs=10)


def test_none_where_nothing_is_plain() -> None:
    assert rise(np.zeros(100)) is None
    assert rise(np.repeat([1.0, 0.0], 50)) is None
    assert rise(np.ones(6)) is None
    assert rise(np.empty(0)) is None


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5])
def test_seldom_a_change_in_stable_losses(mean: float) -> None:
    rng = np.random.default_rng(1)
    found = [rise((rng.random(400) < mean).astype(np.float64)) is not None for _ in range(500)]
    assert np.mean(found) <= 0.04


@given(st.lists(st.floats(0, 1), max_size=60))
def test_within_the_losses_and_higher_after(values: list[float]) -> None:
    losses = np.array(values)
    at = rise(losses)
    if at is not None:
        assert 5 <= at <= len(values) - 5
        assert losses[at:].mean() > losses[:at].mean()
