from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.estimates import MEMORY, Known, LabelFree, boosted_loss, calibrate
from everlearn.loop.isotonic import isotonic, regressogram
from everlearn.loop.reconcile import Estimate, Reconciler
from everlearn.spec import parse_spec
from everlearn.types import Output

RNG = np.random.default_rng
SPEC = parse_spec({"name": "m", "target": "y", "features": {"x": "numeric"}, "drift": {"rows": 250}})


def sure(p: float) -> Output:
    return Output("yes", {"yes": p, "no": 1.0 - p}) if p >= 0.5 else Output("no", {"yes": p, "no": 1.0 - p})


def answered(rows: int, seed: int, easy: float = 1.0) -> list[tuple[Output, str]]:
    """Answers that are too sure of themselves, with their truth; ``easy`` > 1 leans to clear cases."""
    rng = RNG(seed)
    chance = rng.beta(1.0 / easy, 1.0 / easy, size=rows)
    told = chance**2 / (chance**2 + (1.0 - chance) ** 2)
    truth = rng.random(rows) < chance
    return [(sure(float(p)), "yes" if t else "no") for p, t in zip(told, truth, strict=True)]


def taught(rows: int, seed: int = 0) -> LabelFree:
    state = LabelFree.start(SPEC)
    for i, (output, truth) in enumerate(answered(rows, seed)):
        state.learn(i, output, truth)
    return state


def right(rows: list[tuple[Output, str]]) -> float:
    return float(np.mean([output.value == truth for output, truth in rows]))


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_isotonic_regression_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    from sklearn.isotonic import IsotonicRegression

    x, y = (np.array(part, dtype=np.float64) for part in zip(*rows, strict=True))
    steps = isotonic(x, y)
    assert steps.at(x) == pytest.approx(IsotonicRegression().fit(x, y).predict(x))
    assert sum(steps.weights) == len(x)
    thick = isotonic(x, y, fewest=10)
    assert min(thick.weights) >= 10 or len(thick.weights) == 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_bins_of_a_regressogram_do_not_overlap_and_hold_all_rows(x: list[float], bins: int) -> None:
    steps = regressogram(np.array(x), np.abs(np.array(x)), bins, 3)
    assert sum(steps.weights) == len(x)
    assert all(end < start for end, start in zip(steps.ends, steps.starts[1:], strict=False))
    assert sum(v * w for v, w in zip(steps.values, steps.weights, strict=True)) == pytest.approx(
        float(np.abs(x).sum())
    )


def test_accuracy_is_estimated_without_labels_when_easier_rows_come() -> None:
    state = taught(3000)
    rows = answered(250, 7, easy=4.0)
    before, now = right(answered(3000, 0)), right(rows)
    estimates = [state.take(10_000 + i, output) for i, (output, _) in enumerate(rows)]
    found = estimates[-1]
    assert found is not None
    assert estimates[:-1] == [None] * 249
    assert now > before + 0.05
    assert abs(found.value - now) < 2.5 * found.error()
    assert (found.first, found.last, found.rows) == (10_000, 10_249, 250)


def test_the_standard_error_is_about_right() -> None:
    z = []
    for seed in range(40):
        state, rows = taught(600, seed), answered(250, 100 + seed)
        found = [state.take(10_000 + i, output) for i, (output, _) in enumerate(rows)][-1]
        assert found is not None
        z.append((found.value - right(rows)) / found.error())
    assert 0.6 <= np.std(z) <= 1.4
    assert abs(np.mean(z)) < 0.6


def test_there_is_no_estimate_before_enough_is_known() -> None:
    state = taught(50)
    assert not any(state.take(i, sure(0.9)) for i in range(600))


def test_an_estimate_is_compared_with_what_came_true() -> None:
    state, rows = taught(2000), answered(500, 5)
    for i, (output, _) in enumerate(rows):
        state.take(3000 + i, output)
    settled = [
        found for i, (output, truth) in enumerate(rows) for found in state.learn(3000 + i, output, truth)
    ]
    assert [(found.first, found.last, found.labelled) for found in settled] == [
        (3000, 3249, 250),
        (3250, 3499, 250),
    ]
    assert settled[0].realised == right(rows[:250])
    assert state.record.compared == 2
    assert state.record.mean_error is not None
    assert state.record.mean_error < 0.08
    assert state.record.blind is None


def drifted(rows: int, seed: int) -> list[tuple[Output, str]]:
    """The same answers, but now half of them find the opposite true."""
    rng = RNG(seed)
    turn = {"yes": "no", "no": "yes"}
    return [(output, turn[truth] if rng.random() < 0.5 else truth) for output, truth in answered(rows, seed)]


def test_concept_drift_makes_estimates_blind_and_is_flagged_until_they_see_again() -> None:
    state, delay = taught(2000), 300
    rows = answered(2000, 1) + drifted(8000, 2)
    blind = []
    for i, (output, _) in enumerate(rows):
        state.take(2000 + i, output)
        if i >= delay:
            state.learn(2000 + i - delay, *rows[i - delay])
        blind.append(state.record.blind is not None)
    assert not any(blind[:2000])
    assert any(blind[2000:3500])
    assert not blind[-1]


def test_blindness_needs_more_than_one_chunk_and_one_side() -> None:
    def settle(record: Reconciler, chunk: int, realised: float) -> None:
        record.expect(Estimate(100 * chunk, 100 * chunk + 99, 100, 0.8, 0.0001, 0.16))
        for row in range(100):
            record.arrive(100 * chunk + row, float(row < 100 * realised))

    record = Reconciler()
    for chunk, (realised, blind) in enumerate(
        [(0.8, None), (0.5, None), (1.0, None), (0.5, 100), (0.5, 100), (0.8, 100), (0.8, 100), (0.8, None)]
    ):
        settle(record, chunk, realised)
        assert record.blind == blind, chunk
    assert record.compared == 8


def test_chunks_whose_labels_never_come_are_left_out() -> None:
    record = Reconciler()
    for chunk in range(300):
        record.expect(Estimate(100 * chunk, 100 * chunk + 99, 100, 0.8, 0.0, 0.16))
    assert len(record.waiting) == 100
    assert record.arrive(50_000, 1.0) == []
    assert (record.compared, record.waiting, record.mean_error) == (0, [], None)


def test_absolute_errors_are_estimated_from_what_was_answered() -> None:
    spec = parse_spec({**SPEC.to_dict(), "task": "regression", "metric": "mae", "threshold": 1.0})
    state, rng = LabelFree.start(spec), RNG(0)
    for i, value in enumerate(rng.uniform(0, 1, 3000).tolist()):
        state.learn(i, Output(value), value + float(rng.normal(0, 0.1 + value)))
    high = rng.uniform(0.7, 1, 250).tolist()
    found = [state.take(3000 + i, Output(value)) for i, value in enumerate(high)][-1]
    assert found is not None
    wanted = float(np.mean(np.sqrt(2 / np.pi) * (0.1 + np.array(high))))
    assert found.value == pytest.approx(wanted, rel=0.08)


def test_boosted_loss_uses_the_features() -> None:
    rng = RNG(0)
    known, now = rng.uniform(0, 1, (1500, 3)), rng.uniform(0, 1, (400, 3))
    now[:, 1] = rng.uniform(0.8, 1.0, 400)
    losses = np.abs(rng.normal(0, 0.1 + known[:, 1]))
    value, error = boosted_loss(known, losses, now)
    assert value == pytest.approx(float(np.sqrt(2 / np.pi) * np.mean(0.1 + now[:, 1])), abs=3 * error)
    assert value > losses.mean() + 3 * error


def test_the_state_is_bounded_and_goes_on_from_json() -> None:
    rows = answered(6000, 3)
    whole, cut = LabelFree.start(SPEC), LabelFree.start(SPEC)
    for i, (output, truth) in enumerate(rows):
        for state in (whole, cut):
            state.take(i, output)
            if i >= 100:
                state.learn(i - 100, rows[i - 100][0], rows[i - 100][1])
        if i % 1000 == 500:
            cut = msgspec.json.decode(msgspec.json.encode(cut), type=LabelFree)
        assert truth in ("yes", "no")
    assert cut == whole
    assert len(whole.known.signal) <= 1.25 * MEMORY
    assert len(msgspec.json.encode(whole)) < 100_000


def test_a_change_of_level_does_not_widen_the_band() -> None:
    rng, known = RNG(0), Known()
    for i in range(MEMORY):
        known.add(9000, int(rng.random() < (0.9 if i < 3000 else 0.5)), "a")
    assert calibrate(known, "classification").spread < 1.5


def test_answers_that_say_nothing_are_left_out() -> None:
    state = taught(500)
    for i in range(300):
        assert state.take(i, Output(None)) is None
        assert state.learn(i, Output(None), "yes") == []
    state.restart()
    assert (state.known, state.signal) == (Known(), [])
