from __future__ import annotations

from typing import Any

import pytest

from everlearn.errors import SpecError
from everlearn.loop import gate
from everlearn.loop.bounds import Interval
from everlearn.loop.policy import MAX_BACKOFF, Situation, advise, cooldown
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Output

BASE = {"name": "m", "target": "y", "features": {"a": "numeric", "region": "categorical"}}


def test_a_mark_is_what_an_answer_cost() -> None:
    model = parse_spec(BASE)
    sure = Output("y", {"y": 0.8, "n": 0.2})
    assert gate.mark("y", sure, model) == gate.Mark(0.0, 0.8, pytest.approx(0.04))
    assert gate.mark("n", sure, model) == gate.Mark(1.0, 0.8, pytest.approx(0.64))
    assert gate.mark("y", Output(None), model).raw == 1.0


def test_losses_of_other_metrics_are_clipped_and_scaled() -> None:
    nats = parse_spec({**BASE, "metric": "log_loss", "threshold": 0.5})
    never = gate.mark("n", Output("y", {"y": 1.0, "n": 0.0}), nats)
    assert gate.bounded(never, nats, 0.0) == 1.0
    for metric, half in (("mae", 0.5), ("rmse", 0.25)):
        values = parse_spec({**BASE, "task": "regression", "metric": metric, "threshold": 1.0})
        assert gate.bounded(gate.mark(3.0, Output(2.0), values), values, 2.0) == half
        assert gate.bounded(gate.mark(3.0, Output(99.0), values), values, 2.0) == 1.0


def test_a_recalibrated_version_is_compared_by_its_probabilities() -> None:
    model = parse_spec(BASE)
    bold, modest = (gate.mark("n", Output("y", {"y": p, "n": 1 - p}), model) for p in (0.99, 0.6))
    assert gate.pair(1, bold, modest, (), model).old == gate.pair(1, bold, modest, (), model).new == 1.0
    better = gate.pair(1, bold, modest, (), model, by_brier=True)
    assert better.new < better.old


def test_the_segments_of_a_row_are_the_values_of_the_named_columns() -> None:
    model = parse_spec({**BASE, "gate": {"segments": ["region"]}})
    assert gate.groups_of({"a": 1.0, "region": "EU"}, model) == ["region=EU"]
    assert gate.groups_of({"a": 1.0}, model) == ["region=None"]


def test_segments_must_be_features() -> None:
    with pytest.raises(SpecError, match="segments"):
        parse_spec({**BASE, "gate": {"segments": ["nowhere"]}})


def spec(**policy: Any) -> ModelSpec:
    return parse_spec({"name": "m", "target": "y", "features": {"a": "numeric"}, "policy": policy})


def situation(value: float | None = None, **changes: Any) -> Situation:
    interval = None if value is None else Interval(value, value - 0.03, value + 0.03, 500)
    known: dict[str, Any] = {
        "champion": 1,
        "learnable": 1000,
        "since_update": 10_000,
        "at_update": 500,
        "new_history": 0,
        "refusals": 0,
        "acting": False,
        "metric": interval,
    }
    return Situation(**{**known, **changes})


def test_too_few_labels_are_a_state_not_a_guess() -> None:
    advice = advise(spec(), 0.8, False, situation(None))
    assert (advice.action, advice.state) == ("hold", "insufficient labels")


def test_doubt_about_the_threshold_updates_and_proof_of_it_holds() -> None:
    assert advise(spec(), 0.8, False, situation(0.81)).action == "fresh"
    assert advise(spec(), 0.8, False, situation(0.84)).action == "hold"


def test_a_policy_that_acts_on_proof_waits_until_the_upper_bound_is_under_the_threshold() -> None:
    assert advise(spec(act_on="proof"), 0.8, False, situation(0.78)).action == "hold"
    assert advise(spec(act_on="proof"), 0.8, False, situation(0.76)).action == "fresh"


def test_once_it_acts_it_goes_on_until_the_metric_is_safely_back() -> None:
    nearly = situation(0.835, acting=True)
    assert advise(spec(hysteresis=0.01), 0.8, False, nearly).state == "degraded"
    assert advise(spec(hysteresis=0.001), 0.8, False, nearly).state == "healthy"


def test_a_cooldown_grows_with_refusals_and_no_further() -> None:
    policy = spec(cooldown=100)
    assert [cooldown(policy, n) for n in (0, 1, 2)] == [100, 150, 200]
    assert cooldown(policy, 50) == cooldown(policy, MAX_BACKOFF)
    assert advise(policy, 0.8, False, situation(0.7, since_update=99)).action == "hold"


def test_never_and_every_do_as_they_say() -> None:
    assert advise(spec(name="never"), 0.8, False, situation(0.1)).action == "hold"
    assert (
        advise(spec(name="every", every=400), 0.8, False, situation(0.99, since_update=400)).action == "fresh"
    )
    assert (
        advise(spec(name="every", every=400), 0.8, False, situation(0.1, since_update=399)).action == "hold"
    )


def test_a_metric_where_less_is_better_is_turned_around() -> None:
    base = {"name": "m", "task": "regression", "target": "y", "features": {"a": "numeric"}}
    mae = parse_spec({**base, "metric": "mae", "threshold": 0.5})
    assert advise(mae, 0.5, False, situation(0.3)).action == "hold"
    assert advise(mae, 0.5, False, situation(0.6)).action == "fresh"


def test_a_stream_learner_publishes_by_the_count_of_its_new_labels() -> None:
    streaming = spec().model_copy(update={"publish_every": 100})
    assert advise(streaming, 0.8, True, situation(0.9, since_update=100)).action == "incremental"
    assert advise(streaming, 0.8, True, situation(0.9, since_update=99)).action == "hold"


def test_history_that_outweighs_what_was_known_is_learned() -> None:
    assert advise(spec(), 0.8, False, situation(0.95, new_history=500)).key == "history"
    assert advise(spec(), 0.8, False, situation(0.95, new_history=499)).action == "hold"
    assert advise(spec(name="never"), 0.8, False, situation(0.95, new_history=900)).action == "hold"
