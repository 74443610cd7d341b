"""A trial: each bar by an example, and what must hold whatever the rows are."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop import gate
from everlearn.loop import trial as t
from everlearn.loop.forgetting import anchor_numbers
from everlearn.loop.trial import Columns, Pair, Trial, Verdict
from everlearn.spec import GateSpec, ModelSpec

GATE = GateSpec(min_rows=50, label_budget=5000)


def pairs(wins: int, losses: int, ties: int, group: str | None = None, **more: float) -> list[Pair]:
    groups = (group,) if group else ()
    losses_of_both = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(0.0, 0.0)] * ties
    return [Pair(i, old, new, groups=groups, **more) for i, (old, new) in enumerate(losses_of_both)]  # type: ignore[arg-type]


def judged(rows: list[Pair], gate: GateSpec = GATE, attempt: int = 1, **asked: object) -> Verdict:
    on = t.open_trial(7, attempt, gate, True)
    t.take(on, rows)
    return t.verdict(on, gate, **asked)  # type: ignore[arg-type]


def test_a_candidate_that_is_proven_better_is_promoted() -> None:
    verdict = judged(pairs(60, 15, 400))
    assert verdict.end == "promote"
    assert "proven better on 475 rows" in verdict.reason
    bar = verdict.bars["superiority"]
    assert bar["passed"]
    assert bar["e_value"] > bar["needed"] > 30
    assert 0 < bar["low"] < bar["gain"] < bar["high"]


def test_an_equal_one_stays_on_trial_until_its_labels_are_spent() -> None:
    assert judged(pairs(30, 30, 400)).end is None
    verdict = judged(pairs(250, 250, 4500))
    assert verdict.end == "expire"
    assert "label budget is spent: not proven better" in verdict.reason


def test_a_worse_one_is_rejected_before_that() -> None:
    verdict = judged(pairs(15, 60, 400))
    assert verdict.end == "reject"
    assert "proven worse on 475 rows" in verdict.reason


def test_a_few_rows_are_no_verdict_however_good() -> None:
    verdict = judged(pairs(40, 0, 0))
    assert verdict.end is None
    assert verdict.reason == "only 40 of at least 50 rows"


@given(
    wins=st.integers(0, 300), losses=st.integers(0, 300), ties=st.integers(0, 5000), attempt=st.integers(1, 9)
)
def test_undecided_says_what_the_whole_verdict_would(wins: int, losses: int, ties: int, attempt: int) -> None:
    on = t.open_trial(7, attempt, GATE, True)
    t.take(on, pairs(wins, losses, ties))
    assert t.undecided(on, GATE) == (t.verdict(on, GATE).end is None)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize("by_brier", [False, True])
@pytest.mark.parametrize("group", [(), ("region=EU",)])
def test_columns_of_marks_are_those_of_their_pairs(
    metric: str, by_brier: bool, group: tuple[str, ...]
) -> None:
    spec = ModelSpec(name="m", target="y", features={"x": "numeric"}, metric=metric, threshold=0.5)
    old = [gate.Mark(1.0, 0.7, 0.3), gate.Mark(0.0, None, None), gate.Mark(0.0, 0.9, 0.1)]
    new = [gate.Mark(0.0, 0.8, 0.2), gate.Mark(0.0, 0.6, 0.4), gate.Mark(1.0, 0.9, 0.6)]
    paired = [
        gate.pair(i, *both, group, spec, by_brier=by_brier)
        for i, both in enumerate(zip(old, new, strict=True))
    ]
    direct = gate.columns(old, new, [group] * 3, spec, by_brier=by_brier)
    for name in Columns.__slots__:
        np.testing.assert_equal(getattr(direct, name), getattr(t.columns_of(paired), name))


def test_a_later_attempt_must_show_more() -> None:
    rows = pairs(50, 20, 400)
    assert judged(rows).end == "promote"
    assert judged(rows, attempt=30).end is None


def test_better_on_the_whole_is_not_enough_for_a_group_that_loses() -> None:
    verdict = judged(pairs(400, 100, 1000, "region=EU") + pairs(40, 160, 800, "region=US"))
    assert verdict.end == "reject"
    assert "worse by more than 0.01 in region=US: loss 0.04 → 0.16" in verdict.reason
    groups = verdict.bars["non_inferiority"]["groups"]
    assert groups["region=EU"]["passed"] is True
    assert groups["region=US"]["passed"] is False


def test_a_group_that_is_not_proven_yet_holds_the_promotion_up() -> None:
    unclear = pairs(400, 100, 1000, "region=EU") + pairs(5, 5, 90, "region=US")
    assert judged(unclear).end is None
    assert "not proven as good in region=US" in judged(unclear).reason
    proven = pairs(400, 100, 1000, "region=EU") + pairs(30, 5, 500, "region=US")
    assert judged(proven).end == "promote"


def test_a_required_group_must_come_and_be_proven() -> None:
    on = t.open_trial(7, 1, GATE, True, ["regime 3"])
    t.take(on, pairs(60, 15, 400))
    assert t.verdict(on, GATE).end is None
    t.take(on, pairs(30, 5, 500, "regime 3"))
    assert t.verdict(on, GATE).end == "promote"


def test_rare_groups_are_judged_together() -> None:
    rows = pairs(300, 50, 1000, "city=A")
    for city in "BCDE":
        rows += pairs(6, 1, 20, f"city={city}")
    groups = judged(rows).bars["non_inferiority"]["groups"]
    assert set(groups) == {"city=A", "the rare ones together"}
    assert groups["the rare ones together"]["rows"] == 108
    assert judged(pairs(60, 10, 400) + pairs(1, 1, 1, "city=Z")).end == "promote"


def test_what_cannot_be_served_or_is_slow_is_rejected_at_once() -> None:
    better = pairs(60, 15, 400)
    assert judged(better, facts={"servable": True, "latency_ms": 3.0}).end == "promote"
    assert "does not answer" in judged(better[:5], facts={"servable": False}).reason
    slow = judged(better, facts={"servable": True, "latency_ms": 250.0})
    assert slow.end == "reject"
    assert "250 ms, more than 100 ms" in slow.reason
    assert judged(
        better, GATE.model_copy(update={"max_latency_ms": None}), facts={"latency_ms": 250}
    ).end == ("promote")


def test_an_open_gate_lets_pass_whatever_answers() -> None:
    gate = GateSpec(name="open")
    assert judged([], gate).end == "promote"
    assert judged(pairs(0, 90, 10), gate, facts={"servable": True}).end == "promote"
    assert judged([], gate, facts={"servable": False}).end == "reject"


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_forgotten_is_seen_on_the_anchors(binary: bool) -> None:
    def anchors(lost: int) -> dict[str, dict[str, object]]:
        old, new = [0.0] * 200, [1.0] * lost + [0.0] * (200 - lost)
        return {"regime 2": anchor_numbers(old, new, binary)}

    better = pairs(60, 15, 400)
    assert judged(better, anchors=anchors(5)).end == "promote"
    verdict = judged(better, anchors=anchors(60))
    assert verdict.end == "reject"
    assert "forgotten regime 2: loss 0 → 0.3 on 200 anchors" in verdict.reason
    assert verdict.bars["forgetting"]["regimes"]["regime 2"]["high"] < -0.01


def test_a_better_one_that_is_badly_calibrated_is_rejected() -> None:
    modest = pairs(120, 30, 800, old_p=0.87, new_p=0.95, old_brier=0.2, new_brier=0.15)
    assert judged(modest).end == "promote"
    boaster = pairs(400, 200, 400, old_p=0.625, new_p=1.0, old_brier=0.4, new_brier=0.4)
    verdict = judged(boaster)
    assert verdict.end == "reject"
    assert "badly calibrated: error 0.025 → 0.2" in verdict.reason
    sure = judged(pairs(120, 30, 800, old_brier=0.1, new_brier=0.3))
    assert "Brier score 0.1 → 0.3" in sure.reason


def test_losses_of_a_regression_are_clipped_and_scaled() -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=(2, 3000)))
    told = {"name": "m", "target": "y", "features": {"x": "numeric"}, "threshold": 1.0}
    spec = ModelSpec(task="regression", metric="mae", **told)
    scale = gate.scale_of([gate.Mark(e) for e in errors[0].tolist()])
    assert 1.9 < scale < 2.1
    assert [gate.bounded(gate.Mark(e), spec, 4.0) for e in (3.0, 9.0)] == [0.75, 1.0]
    assert gate.bounded(gate.Mark(1.0), spec, 0.0) == 1.0
    old = np.array([gate.bounded(gate.Mark(e), spec, scale) for e in errors[0]])
    new = np.array([gate.bounded(gate.Mark(0.7 * e), spec, scale) for e in errors[1]])
    on = t.open_trial(7, 1, GATE, False)
    t.take(on, Columns(old, new))
    assert t.verdict(on, GATE).end == "promote"
    assert gate.scale_of([]) == 0.0


LOSS = st.sampled_from([0.0, 1.0])
ROW = st.tuples(LOSS, LOSS, st.sampled_from([(), ("a",), ("a", "b")]), st.floats(0, 1), st.floats(0, 1))


@given(st.lists(ROW, max_size=60), st.integers(0, 60), st.booleans())
def test_however_the_rows_come_the_trial_is_the_same(rows: list[tuple], cut: int, binary: bool) -> None:  # type: ignore[type-arg]
    every = [
        Pair(i, old, new, old_p=p, new_p=q, old_brier=p, new_brier=q, groups=groups)
        for i, (old, new, groups, p, q) in enumerate(rows)
    ]
    whole, parts = (t.open_trial(1, 1, GATE, binary) for _ in range(2))
    t.take(whole, every)
    t.take(parts, every[:cut])
    t.take(parts, every[cut:])
    assert (whole.overall, whole.groups, whole.brier) == (parts.overall, parts.groups, parts.brier)
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Trial) == whole
    assert t.verdict(whole, GATE) == t.verdict(
        msgspec.json.decode(msgspec.json.encode(whole), type=Trial), GATE
    )


def test_the_state_is_bounded_and_its_numbers_are_json() -> None:
    on = t.open_trial(1, 1, GATE, True)
    t.take(on, [Pair(i, 0.0, 1.0, groups=(f"city={i}",)) for i in range(1000)])
    assert len(on.groups) <= t.MOST_GROUPS + 1
    assert on.groups[t.OTHERS].rows == 900
    assert b"null" not in msgspec.json.encode(t.verdict(on, GATE).bars["superiority"])
