"""The layer over a learner's answers: what it may change, and that it helps where answers are off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from everlearn.errors import IntegrityError
from everlearn.learners.calibration import Calibrator, fit
from everlearn.learners.isotonic import isotonic_knots
from everlearn.loop.reliability import ece, ece_noise

CHANCES = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(0, 1))


def softmax(z: Any) -> Any:
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def drawn(n: int, k: int = 2, seed: int = 0, shift: float = 0.0) -> tuple[Any, Any]:
    """True probabilities (n, k) and the classes that came true (n,)."""
    rng = np.random.default_rng(seed)
    truth = softmax(rng.normal(scale=1.5, size=(n, k)) + shift * np.arange(k))
    return truth, (rng.random((n, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)


def confident(chances: Any, power: float) -> Any:
    return chances**power / (chances**power).sum(axis=1, keepdims=True)


def error(chances: Any, columns: Any) -> float:
    best = chances.argmax(axis=1)
    return ece(chances.max(axis=1).tolist(), (best == columns).tolist())


@pytest.mark.parametrize("k", [2, 3, 10])
def test_answers_that_are_too_sure_get_their_temperature_back(k: int) -> None:
    truth, columns = drawn(2000, k)
    layer = fit(confident(truth, 3.0), columns)
    assert layer.kind == "temperature"
    assert layer.scale == pytest.approx(1 / 3, rel=0.15)


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_the_calibration_error_falls_on_rows_to_come(power: float) -> None:
    truth, columns = drawn(1500)
    raw = confident(truth, power)
    layer = fit(raw[:500], columns[:500])
    before, after = error(raw[500:], columns[500:]), error(layer.apply(raw[500:]), columns[500:])
    expected, spread = ece_noise(truth[500:].max(axis=1).tolist())
    assert before > 0.06
    assert after < expected + 4 * spread + 0.01


def test_a_shift_of_the_classes_needs_more_than_a_temperature() -> None:
    truth, columns = drawn(2000, shift=1.5)
    raw = softmax(np.log(truth) - 1.5 * np.arange(2))
    layer = fit(raw, columns)
    assert layer.kind == "platt"
    assert layer.shift == pytest.approx(1.5, abs=0.25)


def test_a_bent_answer_needs_isotonic_regression() -> None:
    rng = np.random.default_rng(4)
    truth, columns = drawn(3000)
    steps = np.where(truth[:, 1] < 0.5, 0.02, 0.7) + 0.01 * rng.random(3000) * truth[:, 1]
    steps = np.where(np.abs(truth[:, 1] - 0.9) < 0.1, 0.98, steps)
    layer = fit(np.column_stack((1 - steps, steps)), columns)
    assert layer.kind == "isotonic"


def test_right_answers_are_mostly_left_alone() -> None:
    kinds = [fit(*drawn(300, seed=seed)).kind for seed in range(60)]
    assert kinds.count("identity") >= 45


@given(CHANCES, st.floats(0.05, 20))
@settings(max_examples=150, deadline=None)
def test_a_temperature_never_changes_the_answer(chances: Any, power: float) -> None:
    chances = chances + 1e-9
    chances /= chances.sum(axis=1, keepdims=True)
    applied = Calibrator("temperature", power).apply(chances)
    assert (applied.argmax(axis=1) == chances.argmax(axis=1)).all()
    assert applied.sum(axis=1) == pytest.approx(1)


def test_rounding_does_not_make_a_tie_of_the_answer() -> None:
    near = np.array([[0.5 - 1e-16, 0.5 + 1e-16], [0.1, 0.9]])
    assert (Calibrator("temperature", 0.05).apply(near).argmax(axis=1) == near.argmax(axis=1)).all()


@given(st.integers(0, 500), st.integers(50, 300), st.floats(0.2, 4))
@settings(max_examples=25, deadline=None)
def test_every_layer_of_two_classes_rises_and_sums_to_one(seed: int, n: int, power: float) -> None:
    truth, columns = drawn(n, seed=seed)
    layer = fit(confident(truth, power), columns)
    grid = np.linspace(0, 1, 101)
    applied = layer.apply(np.column_stack((1 - grid, grid)))
    assert (np.diff(applied[:, 1]) >= -1e-12).all()
    assert applied.sum(axis=1) == pytest.approx(1)
    assert ((applied >= 0) & (applied <= 1)).all()


def test_isotonic_knots_are_those_of_scikit_learn() -> None:
    truth, columns = drawn(400)
    chances = truth[:, 1].round(2)
    edge = 1 / 402
    theirs = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(chances, columns)
    grid = np.linspace(0, 1, 333)
    ours = np.interp(grid, *isotonic_knots(chances, columns.astype(float)))
    assert ours == pytest.approx(theirs.predict(grid), abs=1e-12)


def test_nothing_is_made_of_few_rows_or_of_one_class() -> None:
    truth, columns = drawn(2000)
    raw = confident(truth, 4.0)
    assert fit(raw[:49], columns[:49]).kind == "identity"
    assert fit(raw, np.ones(2000, dtype=int)).kind == "identity"
    assert fit(raw, np.full(2000, -1)).kind == "identity"
    assert fit(np.empty((0, 0)), np.empty(0, dtype=int)).kind == "identity"
    assert fit(np.empty(0), np.empty(0)).kind == "identity"


def test_what_is_not_finite_has_no_part_and_stays() -> None:
    truth, columns = drawn(1000)
    raw = confident(truth, 3.0)
    raw[::50] = np.nan
    layer = fit(raw, columns)
    assert layer.scale == pytest.approx(1 / 3, rel=0.2)
    applied = layer.apply(raw)
    assert np.isnan(applied[::50]).all()
    assert np.isfinite(np.delete(applied, np.s_[::50], axis=0)).all()
    for kind, knots in (("platt", np.empty((2, 0))), ("isotonic", np.array([[0.1, 0.9], [0.0, 1.0]]))):
        both = Calibrator(kind, 2.0, 0.1, knots).apply(np.array([[np.nan, np.nan], [0.5, 0.5], [0.0, 0.0]]))
        assert np.isnan(both[0]).all()
        assert np.isfinite(both[1:]).all()


def test_a_layer_of_two_classes_waits_while_there_are_three() -> None:
    three = np.array([[0.2, 0.3, 0.5]])
    assert (Calibrator("platt", 3.0, 1.0).apply(three) == three).all()
    assert (Calibrator("temperature", 2.0).apply(three) != three).any()


@pytest.mark.parametrize(("bent", "kind"), [((1.0, 4.0), "shift"), ((0.4, -2.0), "affine")])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e200])
def test_estimates_get_their_scale_and_level_back(bent: tuple[float, float], kind: str, scale: float) -> None:
    rng = np.random.default_rng(1)
    told = rng.normal(size=400)
    raw, truth = told * bent[0] + bent[1], told + 0.1 * rng.normal(size=400)
    layer = fit(raw * scale, truth * scale)
    assert layer.kind == kind
    assert np.abs(layer.apply(raw * scale) / scale - truth).mean() < 0.12


def test_a_line_that_would_fall_is_no_calibration() -> None:
    values = np.linspace(-1, 1, 200)
    assert fit(values, -values).kind == "identity"
    assert fit(np.ones(200), np.full(200, 3.0)).kind == "shift"
    assert np.isnan(Calibrator("affine", 2.0, 1.0).apply(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    "layer",
    [
        Calibrator(),
        Calibrator("temperature", 0.5),
        Calibrator("affine", 2.0, -1.0),
        Calibrator("isotonic", knots=np.array([[0.1, 0.2], [0.3, 0.3]])),
    ],
)
def test_a_layer_is_its_state(layer: Calibrator) -> None:
    again = Calibrator.from_state(layer.state())
    assert (again.kind, again.scale, again.shift) == (layer.kind, layer.scale, layer.shift)
    assert (again.knots == layer.knots).all()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"},
        {"scale": float("nan")},
        {"scale": -1.0},
        {"kind": "isotonic"},
        {"kind": "isotonic", "knots": np.array([[0.2, 0.1], [0.0, 1.0]])},
        {"kind": "isotonic", "knots": np.array([[0.1, 0.2], [1.0, 0.0]])},
        {"knots": "none"},
        {"shift": None},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Calibrator.from_state({**Calibrator("temperature", 2.0).state(), **change})
