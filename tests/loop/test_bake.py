"""The bake: what comes back, what stays, and how storms are kept from the house."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from everlearn.loop import bake as b
from everlearn.loop.bake import Bake, Storm
from everlearn.loop.pairs import Columns, Pair
from everlearn.spec import RollbackSpec

SPEC = RollbackSpec(bake=2000)


def columns(rng: np.random.Generator, rows: int, old_wins: float, old_loses: float) -> Columns:
    u = rng.random(rows)
    old = ((u >= old_wins) & (u < old_wins + old_loses)).astype(float)
    return Columns(old, (u < old_wins).astype(float))


def bake(*stretches: tuple[int, float, float], spec: RollbackSpec = SPEC, binary: bool = True) -> Bake:
    rng, on = np.random.default_rng(4), b.open_bake(1, 2, 500, spec, binary)
    for rows, wins, losses in stretches:
        b.take(on, columns(rng, rows, wins, losses))
    return on


@pytest.mark.parametrize("binary", [True, False])
def test_a_version_that_is_worse_from_the_start_goes(binary: bool) -> None:
    verdict = b.verdict(bake((1500, 0.1, 0.03), binary=binary), SPEC)
    assert verdict.end == "rollback"
    assert "version 1 is proven better on 1,500 rows" in verdict.reason
    assert verdict.numbers["served_loss"] > verdict.numbers["old_loss"]


def test_an_earlier_good_stretch_hides_nothing() -> None:
    on = bake((900, 0.02, 0.1), (700, 0.12, 0.02))
    assert on.evidence.wins < 1.2 * on.evidence.losses
    assert b.verdict(on, SPEC).end == "rollback"


def test_a_version_that_is_as_good_is_baked() -> None:
    assert b.verdict(bake((1999, 0.04, 0.06)), SPEC).end is None
    assert b.verdict(bake((2000, 0.04, 0.06)), SPEC).end == "baked"


def test_a_bake_that_leans_to_the_old_version_goes_on_but_not_for_ever() -> None:
    leaning = bake((1800, 0.04, 0.06), (200, 0.12, 0.04))
    assert b.verdict(leaning, SPEC).end is None
    b.take(leaning, columns(np.random.default_rng(1), 2000, 0.05, 0.05))
    assert b.verdict(leaning, SPEC).end == "baked"


def test_a_loss_that_has_certainly_risen_is_enough() -> None:
    """Where each loss is plain by itself: the paired evidence is held off by an alpha out of its reach."""
    on = bake((1000, 0.6, 0.0))
    bounds = b._bounds(on, SPEC)
    assert bounds is not None
    assert bounds["served_low"] > bounds["old_high"] + SPEC.tolerance
    assert b._bounds(bake((1000, 0.05, 0.05)), SPEC) is None


def test_without_a_bake_there_is_nothing_to_watch() -> None:
    assert b.verdict(bake(spec=RollbackSpec(bake=0)), RollbackSpec(bake=0)).end == "baked"


@pytest.mark.parametrize("step", [1, 7, 100, 3000])
def test_rows_one_by_one_are_the_same_as_at_once(step: int) -> None:
    rng = np.random.default_rng(2)
    rows = [Pair(i, *map(float, rng.integers(0, 2, 2))) for i in range(450)]
    spec = RollbackSpec(bake=300)
    on, whole = (b.open_bake(1, 2, 0, spec, False) for _ in range(2))
    for start in range(0, len(rows), step):
        b.take(on, rows[start : start + step])
    b.take(whole, rows)
    assert on == whole
    assert [mark.rows for mark in on.marks] == list(range(0, 300, 30))
    assert msgspec.json.decode(msgspec.json.encode(on), type=Bake) == on


def test_equal_versions_rarely_go() -> None:
    """Looked at every 50 rows: within alpha."""
    gone, spec = 0, RollbackSpec(bake=400, alpha=0.1)
    for seed in range(150):
        rng, on = np.random.default_rng(seed), b.open_bake(1, 2, 0, spec, True)
        end = None
        while end is None:
            b.take(on, columns(rng, 50, 0.2, 0.2))
            end = b.verdict(on, spec).end
        gone += end == "rollback"
    assert gone <= 15


def test_one_step_back_a_bake_period() -> None:
    storm = Storm()
    assert not b.held_back(storm, 100, SPEC)
    b.record(storm, 100, SPEC)
    assert b.held_back(storm, 2099, SPEC)
    assert not b.held_back(storm, 2100, SPEC)


def test_rollbacks_in_a_row_freeze_unless_a_promotion_held_between() -> None:
    storm = Storm()
    assert [b.record(storm, row, SPEC) for row in (0, 3000, 6000)] == [False, False, True]
    storm.streak = 0
    assert not b.record(storm, 9000, SPEC)
    assert b.record(Storm(), 5, RollbackSpec(freeze_after=1))


def test_a_version_that_was_proven_better_in_service_has_held_for_good() -> None:
    never, once = bake((1500, 0.05, 0.05)), bake((900, 0.02, 0.1))
    assert not b.hold(never, SPEC)
    assert b.hold(once, SPEC)
    b.take(once, columns(np.random.default_rng(2), 900, 0.3, 0.02))
    assert b.hold(once, SPEC)
    assert msgspec.json.decode(msgspec.json.encode(once), type=Bake).held


def test_a_bake_knows_about_when_the_old_version_began_to_be_better() -> None:
    assert 600 <= b.turned(bake((1000, 0.02, 0.1), (700, 0.15, 0.02))) <= 900
