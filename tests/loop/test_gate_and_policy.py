from __future__ import annotations

import random
from typing import Any

import pytest
from scipy.stats import binomtest, ttest_rel

from everlearn.loop import gate
from everlearn.loop.bounds import Interval
from everlearn.loop.policy import MAX_BACKOFF, Situation, advise, cooldown
from everlearn.loop.scores import Scored, score_row
from everlearn.spec import GateSpec, ModelSpec, parse_spec
from everlearn.types import Output


def answers(rights: list[bool]) -> list[Scored]:
    return [score_row(i, 1, "y", Output("y" if ok else "n"), None, None) for i, ok in enumerate(rights)]


def evidence(wins: int, losses: int, ties: int = 100) -> dict[str, Any]:
    old = [False] * wins + [True] * losses + [True] * ties
    new = [True] * wins + [False] * losses + [True] * ties
    return gate.compare(answers(old), answers(new), "accuracy", "classification")


def test_a_clearly_better_candidate_passes_and_an_equal_one_does_not() -> None:
    assert gate.judge(evidence(30, 5), GateSpec(), quick=False).passed
    assert not gate.judge(evidence(15, 15), GateSpec(), quick=False).passed
    assert not gate.judge(evidence(0, 0), GateSpec(), quick=False).passed


def test_doubt_refuses() -> None:
    verdict = gate.judge(evidence(20, 14), GateSpec(), quick=False)
    assert not verdict.passed
    assert "not proven better" in verdict.reason


def test_too_few_unseen_rows_refuse_and_say_so() -> None:
    verdict = gate.judge(evidence(20, 0, ties=5), GateSpec(min_rows=50), quick=False)
    assert not verdict.passed
    assert "only 25 unseen rows" in verdict.reason


def test_a_candidate_that_cannot_be_served_is_refused_whatever_it_scored() -> None:
    verdict = gate.judge({**evidence(50, 0), "servable": False}, GateSpec(), quick=False)
    assert not verdict.passed


def test_the_quick_gate_refuses_only_what_is_proven_worse() -> None:
    assert gate.judge(evidence(10, 12), GateSpec(), quick=True).passed
    assert gate.judge(evidence(0, 0), GateSpec(), quick=True).passed
    assert not gate.judge(evidence(5, 30), GateSpec(), quick=True).passed


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 9), (40, 22), (200, 150)])
def test_the_exact_mcnemar_p_is_the_binomial_one(wins: int, losses: int) -> None:
    theirs = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue if wins + losses else 1.0
    assert gate.p_better(evidence(wins, losses)) == pytest.approx(theirs)


def test_the_paired_t_p_is_that_of_scipy() -> None:
    rng = random.Random(4)
    truth = [rng.gauss(0, 1) for _ in range(80)]
    old = [score_row(i, 1, t, Output(t + rng.gauss(0, 1.0)), 0, 0) for i, t in enumerate(truth)]
    new = [score_row(i, 2, t, Output(t + rng.gauss(0, 0.8)), 0, 0) for i, t in enumerate(truth)]
    ours = gate.p_better(gate.compare(old, new, "mae", "regression"))
    losses = [[abs(float(s.value or 0) - float(s.truth)) for s in rows] for rows in (old, new)]
    assert ours == pytest.approx(ttest_rel(*losses, alternative="greater").pvalue)


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
