"""Policies, the ladder, the budget, what an update is worth, and the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import InvalidError
from everlearn.loop import oracle
from everlearn.loop.bounds import Interval
from everlearn.loop.budget import DAY, MOST_ENTRIES, BudgetState, room
from everlearn.loop.cost import CostState, Settings
from everlearn.loop.forecast import forecast
from everlearn.loop.policies.asking import part_of
from everlearn.loop.policy import Advice, Situation, advise
from everlearn.loop.state import load
from everlearn.spec import ModelSpec, PolicySpec, parse_spec


def spec(**policy: Any) -> ModelSpec:
    return parse_spec({"name": "m", "target": "y", "features": {"a": "numeric"}, "policy": policy})


HEALTHY = Interval(0.95, 0.93, 0.97, 500)
FAILING = Interval(0.70, 0.66, 0.74, 500)
CALM: dict[str, Any] = {
    "champion": 1,
    "learnable": 5000,
    "since_update": 1000,
    "at_update": 4000,
    "new_history": 0,
    "refusals": 0,
    "acting": False,
    "metric": HEALTHY,
    "now": 1e6,
    "updated_at": 1e6 - 3600.0,
    "row": 5500,
}


def said(policy: dict[str, Any], streaming: bool = False, **changes: Any) -> Advice:
    return advise(spec(**policy), 0.8, streaming, Situation(**{**CALM, **changes}))


# -- who asks -----------------------------------------------------------------------------------------


def test_always_updates_at_every_check_that_has_new_labels() -> None:
    assert said({"name": "always"}, since_update=1).action == "fresh"
    assert said({"name": "always"}, since_update=0).action == "hold"


def test_every_may_be_a_time_of_the_events() -> None:
    assert said({"name": "every", "every": "1h"}).action == "fresh"
    assert said({"name": "every", "every": "61m"}).action == "hold"
    assert said({"name": "every", "every": "1h"}, since_update=0).action == "hold"


def test_on_drift_waits_for_labels_of_the_new_concept() -> None:
    drift = {"name": "on_drift", "min_labels": 200}
    assert said(drift).action == "hold"
    early = said(drift, warned=True, drift_rows=150)
    assert (early.action, early.key) == ("hold", "drift-labels")
    assert said(drift, warned=True, drift_rows=200).action == "fresh"


def test_who_acts_on_evidence_rests_after_an_update() -> None:
    drift = {"name": "on_drift", "cooldown": 500}
    resting = said(drift, warned=True, drift_rows=400, since_update=499)
    assert (resting.action, resting.key) == ("hold", "cooldown")
    assert said(drift, warned=True, drift_rows=400, since_update=500, refusals=1).action == "hold"
    assert said(drift, warned=True, drift_rows=400, since_update=500).action == "fresh"


def test_any_of_asks_when_one_of_its_parts_does() -> None:
    both = {"name": "any_of", "any_of": ["on_drift", {"name": "every", "every": 2000}]}
    assert said(both).action == "hold"
    assert said(both, since_update=2000).key == "every"
    assert said(both, warned=True, drift_rows=300).key == "drift"


def test_parts_inherit_what_they_leave_open_also_after_being_stored() -> None:
    whole = spec(name="any_of", cooldown=900, price=7.0, any_of=["cost_aware", {"name": "every", "every": 3}])
    again = parse_spec(whole.to_dict()).policy
    cost_aware, every = (part_of(again, part) for part in again.any_of)
    assert (cost_aware.name, cost_aware.cooldown, cost_aware.price) == ("cost_aware", 900, 7.0)
    assert (every.name, every.every, every.any_of) == ("every", 3, ())


def test_evidence_without_labels_only_warns_unless_the_spec_asks_for_more() -> None:
    assert said({"name": "threshold"}, unlabelled=True).action == "hold"
    assert said({"name": "threshold", "on_unlabelled": "update"}, unlabelled=True).key == "unlabelled"
    assert said({"name": "never", "on_unlabelled": "update"}, unlabelled=True).action == "hold"


# -- which rung ---------------------------------------------------------------------------------------


def test_archived_versions_are_tried_before_a_fresh_one_is_made() -> None:
    assert said({}, metric=FAILING, archived=3).action == "reuse"
    assert said({}, metric=FAILING, archived=3, reuse_tried=True).action == "fresh"
    assert said({"reuse": False}, metric=FAILING, archived=3).action == "fresh"
    assert said({"name": "every"}, archived=3).action == "fresh"
    assert said({"name": "every"}, archived=3, warned=True).action == "reuse"


def test_calibration_beyond_noise_is_corrected_while_the_answers_are_right() -> None:
    off: dict[str, Any] = {"ece": 0.09, "ece_noise": 0.04}
    assert said({}, **off).action == "recalibrate"
    assert said({}, **{**off, "ece": 0.045}).action == "hold"
    assert said({}, **off, recalibrate_tried=True).action == "hold"
    assert said({"recalibrate": False}, **off).action == "hold"
    assert said({"name": "never"}, **off).action == "hold"
    assert said({"cooldown": 5000}, **off, metric=FAILING).action == "hold"


def test_a_stream_learner_publishes_and_is_degraded_under_its_threshold() -> None:
    assert said({}, True, since_update=99, metric=FAILING).state == "degraded"
    assert said({}, True, since_update=99, metric=FAILING).action == "hold"
    assert said({"name": "on_drift"}, True, since_update=100).action == "incremental"


# -- the budget ---------------------------------------------------------------------------------------


def test_a_budget_of_updates_holds_and_says_so() -> None:
    budget = BudgetState()
    budget.started(CALM["now"] - DAY + 1)
    held = said({"name": "always", "updates_per_day": 1}, budget=budget)
    assert (held.action, held.key) == ("hold", "budget")
    assert "1 updates a day" in held.reason
    tomorrow = said({"name": "always", "updates_per_day": 1}, budget=budget, now=CALM["now"] + 1)
    assert tomorrow.action == "fresh"


def test_an_update_that_would_take_longer_than_what_is_left_is_held() -> None:
    budget = BudgetState()
    budget.started(CALM["now"] - 100)
    budget.finished(CALM["now"] - 90, 8.0)
    assert said({"name": "always", "seconds_per_day": 15.0}, budget=budget).key == "budget"
    allowed = said({"name": "always", "seconds_per_day": 16.0}, budget=budget)
    assert (allowed.action, allowed.seconds_left) == ("fresh", 8.0)


@given(
    st.lists(st.floats(0, 20_000), min_size=1, max_size=80),
    st.integers(0, 6),
    st.floats(0.1, 60.0),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_no_24_hours_hold_more_than_the_budget(
    gaps: list[float], most: int, seconds: float, seed: int
) -> None:
    policy, budget, draw = (
        PolicySpec(updates_per_day=most, seconds_per_day=100.0),
        BudgetState(),
        random.Random(seed),
    )
    at, made = 0.0, list[tuple[float, float]]()
    for gap in gaps:
        at += gap
        left = room(policy, budget, at)
        if left.reason is None:
            took = seconds if left.seconds_left is None else min(draw.uniform(0, seconds), left.seconds_left)
            budget.started(at)
            budget.finished(at, took)
            made.append((at, took))
    for end, _ in made:
        day = [(when, took) for when, took in made if end - DAY < when <= end]
        assert len(day) <= most
        assert sum(took for _, took in day) <= 100.0 + 1e-6


def test_the_budget_stays_small_and_frees_nothing_early() -> None:
    budget = BudgetState()
    for at in range(3 * MOST_ENTRIES):
        budget.started(float(at))
        budget.finished(float(at), 2.0)
    assert len(budget.times) <= MOST_ENTRIES
    assert budget.spent(3.0 * MOST_ENTRIES) == (3 * MOST_ENTRIES, 6.0 * MOST_ENTRIES)
    assert msgspec.json.decode(msgspec.json.encode(budget), type=BudgetState) == budget


# -- what an update is worth --------------------------------------------------------------------------


def lived(
    rates: list[tuple[int, float]], previous: float | None = None, state: CostState | None = None
) -> CostState:
    """A champion that was trained at row 1,000 and then erred at these rates for so many rows each."""
    draw, known = random.Random(5), state or CostState()
    known.updated(1000, 500)
    for rows, rate in rates:
        for _ in range(rows):
            loss = float(draw.random() < rate)
            known.saw(loss)
            if previous is not None:
                known.compared(float(draw.random() < previous), loss)
    return known


def test_a_loss_that_has_risen_makes_an_update_worth_its_price() -> None:
    steady, risen = lived([(3000, 0.1)]), lived([(1500, 0.1), (1500, 0.3)])
    assert not forecast(steady, 4500, 4000, 100.0).worth
    assert forecast(risen, 4500, 4000, 100.0).worth
    assert not forecast(risen, 4500, 4000, 5000.0).worth


def test_the_dearer_an_update_the_later_it_comes() -> None:
    draw, came = random.Random(1), list[int]()
    for price in (5.0, 25.0, 125.0):
        state = CostState()
        state.updated(0, 1)
        for row in range(1, 60_000):
            state.saw(float(draw.random() < 0.1 + row / 100_000))
            if row % 250 == 0 and forecast(state, row, row, price, 1).worth:
                break
        came.append(row)
    assert came == sorted(came)
    assert came[0] < came[-1] < 59_999


def test_a_version_that_began_worse_than_those_before_it_has_risen() -> None:
    """As where the concept changed between its last label and its first answer."""
    after_good, after_bad = lived([(2000, 0.1)]), lived([(2000, 0.4)])
    assert forecast(lived([(1500, 0.4)], state=after_good), 3500, 3000, 100.0, 500).pays
    assert not forecast(lived([(1500, 0.4)], state=after_bad), 3500, 3000, 100.0, 500).pays


def test_nobody_buys_before_a_good_part_of_the_price_was_paid_in_rent() -> None:
    state, draw = CostState(), random.Random(4)
    state.updated(20_000, 19_500)
    for rate in [0.1] * 1500 + [0.9] * 150:
        state.saw(float(draw.random() < rate))
    early, later = (forecast(state, row, row - 500, 100.0, 500) for row in (21_700, 22_500))
    assert early.excess >= early.average
    assert early.accumulated < early.paid
    assert not early.pays
    assert later.pays


def test_what_an_update_leads_to_is_dearer_where_versions_grow_old_and_time_is_short() -> None:
    """With a loss that grows linearly it is what the economic order quantity costs: sqrt(2 s p)."""
    known = Settings(beliefs=((0.5, 1e-6), (0.0, 1e-6), (0.0, 1e-6)), paid=0.0)
    state = lived([(3000, 0.2)])
    slope = 0.5 * state.first / state.first_rows / 1000.0
    told = forecast(state, 40_000, 39_500, 50.0, 500, known)
    assert told.average == pytest.approx((2 * slope * 50.0) ** 0.5, rel=0.01)
    short = replace(known, horizon=100 / 40_000)
    assert forecast(state, 40_000, 39_500, 50.0, 500, short).average >= 50.0 / 100
    never_old = replace(known, beliefs=((0.0, 1e-6), (0.0, 1e-6), (0.0, 1e-6)))
    assert not forecast(state, 40_000, 39_500, 50.0, 500, never_old).pays


def test_few_examples_make_the_next_update_come_sooner() -> None:
    """With nothing but a learning curve, a version that knew 300 rows goes before one that knew 5,000."""
    firsts = []
    for known in (300, 5000):
        state, row = CostState(), 6000
        state.updated(row, known)
        draw = random.Random(3)
        while not forecast(state, row, known + row - 6000, 25.0).pays and row < 40_000:
            for _ in range(250):
                state.saw(float(draw.random() < 0.1))
            row += 250
        firsts.append(row)
    assert firsts[0] < firsts[1]


def test_updates_that_brought_nothing_teach_that_age_is_no_loss() -> None:
    weights = []
    for brought in (0.0, 0.2):
        state, row, draw = CostState(), 1000, random.Random(2)
        state.updated(row, 500)
        for _ in range(6):
            for _ in range(1500):
                loss = float(draw.random() < 0.1)
                state.saw(loss)
                state.compared(float(draw.random() < 0.1 + brought), loss)
            row += 2000
            state.updated(row, row - 500)
        weights.append(state.beliefs()[0])
    vain, useful = weights
    assert vain < useful


def test_an_update_that_costs_little_beside_what_is_lost_is_tried() -> None:
    state = lived([(3000, 0.3)])
    assert forecast(state, 4500, 4000, 10.0).explores
    assert not forecast(state, 4500, 4000, 100.0).explores
    assert not forecast(CostState(), 0, 0, 1.0).worth


def test_the_losses_of_what_had_learned_nothing_are_no_yardstick() -> None:
    state = CostState()
    for _ in range(500):
        state.saw(1.0)
    state.updated(600, 400)
    assert (state.base, state.asked) == (0.0, [])


def test_what_it_remembers_is_small_and_plain() -> None:
    state = lived([(20_000, 0.2)], 0.25)
    stored = msgspec.json.encode(state)
    assert len(stored) < 2000
    assert msgspec.json.decode(stored, type=CostState) == state


def test_cost_aware_asks_with_its_numbers_beside_those_of_the_metric_and_waits_for_labels() -> None:
    state = lived([(1500, 0.1), (3000, 0.5)])
    told = said({"name": "cost_aware"}, cost=state)
    assert (told.action, told.key) == ("fresh", "cost")
    found = told.evidence
    assert found["excess_per_row"] >= found["average_per_row"] > 0.0
    assert found["accumulated"] >= 0.6 * found["cost"]
    assert (found["cost"], found["cost_rows"]) == (25.0, CALM["row"] - 1000)
    assert (found["upper"], found["rows"]) == (HEALTHY.upper, HEALTHY.rows)
    assert said({"name": "cost_aware"}, cost=state, since_update=100).action == "hold"
    assert said({"name": "cost_aware"}).action == "hold"


def test_the_measured_work_of_an_update_is_part_of_its_cost() -> None:
    budget = BudgetState()
    budget.finished(0.0, 40.0)
    state = lived([(1500, 0.1), (3000, 0.5)])
    dear = said({"name": "cost_aware", "price_per_second": 1000.0}, cost=state, budget=budget)
    assert dear.action == "hold"
    assert (
        said({"name": "cost_aware", "price_per_second": 0.1}, cost=state, budget=budget).evidence["cost"]
        == 29.0
    )


def test_a_live_model_learns_what_its_updates_brought_from_the_reverse_shadow(
    make_world: Callable[..., Any],
) -> None:
    quick = {"first_rows": 60, "min_labels": 40, "cooldown": 40, "check_every": 10}
    world = make_world(policy={**quick, "name": "cost_aware", "price": 5.0, "reuse": False})
    world.stream(250, batch=25)
    world.stream(300, turned=True, batch=25)
    cost = load(world.store.ledger.checkpoint("toy").state).cost
    assert "promote" in world.kinds()
    assert cost.pair_rows >= 100
    assert cost.pair_sum > 0.3 * cost.pair_rows  # the old concept is wrong by now
    assert cost.beliefs() != CostState().beliefs()


# -- hindsight ----------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(0, 2), st.integers(0, 2**32), st.floats(0, 8))
@settings(max_examples=60, deadline=None)
def test_the_oracle_is_the_cheapest_of_all_sequences(
    versions: int, latency: int, seed: int, price: float
) -> None:
    losses = np.random.default_rng(seed).integers(0, 10, size=(versions, versions)).astype(float)
    best = oracle.best_sequence(losses, price, latency=latency)
    allowed = [
        picked
        for size in range(versions)
        for picked in combinations(range(1, versions), size)
        if all(b - a >= latency for a, b in pairwise(picked))
    ]
    costs = [oracle.cost_of(losses, picked, price, latency=latency) for picked in allowed]
    assert best.cost == pytest.approx(min(costs))
    assert oracle.cost_of(losses, best.updates, price, latency=latency) == pytest.approx(best.cost)
    assert oracle.best_cadence(losses, price, latency=latency).cost >= best.cost - 1e-9


def test_regret_and_bad_input() -> None:
    losses = np.array([[1.0, 5.0], [0.0, 1.0]])
    assert oracle.regret(oracle.cost_of(losses, (), 2.0), losses, 2.0) == 2.0
    with pytest.raises(InvalidError, match="shape"):
        oracle.best_sequence(np.zeros((3, 2)), 1.0)
    with pytest.raises(InvalidError, match="below 0"):
        oracle.best_sequence(losses, -1.0)
