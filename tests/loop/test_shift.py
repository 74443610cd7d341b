from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.cells import cells_of
from everlearn.loop.joint import c2st
from everlearn.loop.serial import autocorrelation_time
from everlearn.loop.shift import (
    Shift,
    adjusted_p_values,
    benjamini_hochberg,
    chi2_test,
    ks_test,
    psi,
    psi_test,
)
from everlearn.loop.sketches import category_sketch, numeric_sketch
from everlearn.loop.watch import CONFIDENCE, PREDICTION, FeatureWatch, Finding
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Output, Scalar

RNG = np.random.default_rng
SPEC = parse_spec(
    {
        "name": "m",
        "target": "y",
        "features": {"x": "numeric", "colour": "categorical", "on": "boolean", "when": "timestamp"},
        "drift": {"rows": 200},
    }
)
Rows = list[tuple[dict[str, Scalar], Output]]


def numeric(test: Callable[..., Shift], reference: list[float], window: list[float]) -> Shift:
    cells = cells_of(numeric_sketch(reference))
    return test(cells.reference, cells.count(list(window)).tolist())


def make(rows: int, seed: int, *, moved: float = 0.0, red: float = 0.5) -> Rows:
    rng = RNG(seed)
    made: Rows = []
    for _ in range(rows):
        x, yes = float(rng.normal(moved)), float(rng.random())
        row = {"x": x, "colour": "red" if rng.random() < red else "blue", "on": bool(rng.random() < 0.3)}
        made.append((row, Output("yes" if yes > 0.5 else "no", {"no": 1 - yes, "yes": yes})))
    return made


def watched(watch: FeatureWatch, rows: Rows) -> Iterator[list[Finding]]:
    for row, output in rows:
        watch.take(row, output)
        if watch.full:
            yield watch.look()


def spec_of(columns: list[str]) -> ModelSpec:
    return parse_spec({"name": "m", "target": "y", "features": dict.fromkeys(columns, "numeric")})


@pytest.mark.parametrize("test", [ks_test, psi_test])
@pytest.mark.parametrize("rows", [100, 1000])
def test_a_stable_column_alarms_as_often_as_stated(test: Callable[..., Shift], rows: int) -> None:
    rng = RNG(rows)
    cases = [numeric(test, rng.normal(size=2000), rng.normal(size=rows)).p_value for _ in range(400)]
    assert 0.02 <= np.mean(np.array(cases) <= 0.05) <= 0.08
    assert np.mean(np.array(cases) <= 0.5) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("rows", [100, 2000])
def test_stable_categories_alarm_as_often_as_stated_though_most_are_rare(rows: int) -> None:
    names, rng = [f"c{i}" for i in range(200)], RNG(rows)
    share = 1.0 / np.arange(1.0, 201.0)
    share /= share.sum()
    found = []
    for _ in range(300):
        cells = cells_of(category_sketch(rng.choice(names, size=2000, p=share).tolist()))
        window = cells.count(rng.choice(names, size=rows, p=share).tolist())
        found.append(chi2_test(cells.reference, window.tolist(), 1.0, cells.floor).p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.085


def test_a_moved_column_is_found_and_its_size_is_told() -> None:
    rng = RNG(1)
    reference, window = rng.normal(size=2000), rng.normal(0.5, size=500)
    assert numeric(ks_test, reference, window).p_value < 1e-10
    assert numeric(psi_test, reference, window).p_value < 1e-6
    assert numeric(psi_test, reference, window).statistic == pytest.approx(0.25, abs=0.12)


def test_missing_cells_new_values_and_new_categories_are_shifts() -> None:
    gaps = [None if i % 5 == 0 else 1.0 for i in range(500)]
    assert numeric(ks_test, [1.0] * 1000, gaps).p_value < 1e-6
    assert numeric(psi_test, [1.0] * 1000, [2.0] * 100).p_value < 1e-6
    names = cells_of(category_sketch(["a", "b"] * 500))
    new = names.count(["a", "b", "c"] * 40).tolist()
    assert chi2_test(names.reference, new).p_value < 1e-6


def test_chi2_is_the_textbook_one_for_frequent_categories() -> None:
    from scipy.stats import chi2_contingency

    table = [[0.0, 300.0, 200.0, 100.0, 50.0, 0.0], [0.0, 80.0, 70.0, 30.0, 20.0, 0.0]]
    found = chi2_test(table[0], table[1])
    wanted = chi2_contingency([[300, 200, 100, 50], [80, 70, 30, 20]])
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=0.05)


def test_dependent_rows_count_for_less() -> None:
    cells, window = [0.0, 500.0, 500.0], [0.0, 70.0, 30.0]
    for test in (ks_test, psi_test, chi2_test):
        assert test(cells, window, 10.0).p_value > 20 * test(cells, window).p_value


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=20),
    st.lists(st.integers(0, 200), min_size=20, max_size=20),
    st.floats(1.0, 30.0),
)
@settings(max_examples=40, deadline=None)
def test_p_values_are_probabilities_whatever_the_counts(
    held: list[int], seen: list[int], spread: float
) -> None:
    window = [float(count) for count in seen[: len(held)]]
    for test in (ks_test, psi_test, chi2_test):
        shift = test([float(count) for count in held], window, spread)
        assert 0.0 <= shift.p_value <= 1.0
        assert math.isfinite(shift.statistic)
    assert psi(held, window) >= 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_benjamini_hochberg_rejects_the_smallest_up_to_the_last_under_its_line(
    p_values: list[float], q: float
) -> None:
    count = len(p_values)
    under = [rank for rank, p in enumerate(sorted(p_values), 1) if p * count / rank <= q]
    least = sorted(p_values)[max(under) - 1] if under else -1.0
    assert benjamini_hochberg(p_values, q) == [p <= least for p in p_values]
    adjusted = adjusted_p_values(p_values)
    assert all(p <= 1e-12 + least <= 1.0 + 1e-9 for p, least in zip(p_values, adjusted, strict=True))


def test_autocorrelation_time_of_independent_rows_is_one_and_of_ar1_what_it_should_be() -> None:
    from scipy.signal import lfilter

    rng = RNG(0)
    assert autocorrelation_time(rng.integers(0, 9, 2000), ordered=True) == 1.0
    assert autocorrelation_time(rng.integers(0, 9, 2000), ordered=False) == 1.0
    series = lfilter([1.0], [1.0, -0.8], rng.normal(size=4000))
    assert autocorrelation_time(series.tolist(), ordered=True) == pytest.approx(9.0, rel=0.3)
    levels = np.where(np.arange(4000) < 2000, 0.2, 0.4)
    assert autocorrelation_time((rng.random(4000) < levels).tolist(), ordered=True) == 1.0


def test_the_joint_test_sees_a_correlation_that_no_column_shows() -> None:
    rng = RNG(0)
    before, now = rng.normal(size=(300, 3)), rng.normal(size=(300, 3))
    assert c2st(before, now).p_value > 0.05
    now[:, 1] = 0.7 * now[:, 0] + math.sqrt(1 - 0.49) * now[:, 1]
    assert c2st(before, now).p_value < 1e-3
    assert c2st(before, now) == c2st(before, now)
    assert c2st(before[:10], now).p_value == 1.0


def test_the_joint_test_keeps_its_rate_and_takes_gaps_and_constants() -> None:
    rng = RNG(3)

    def sample() -> np.ndarray:
        rows = rng.exponential(size=(80, 4))
        rows[rng.random(rows.shape) < 0.2] = np.nan
        rows[:, 3] = 1.0
        return rows

    found = [c2st(sample(), sample(), seed).p_value <= 0.05 for seed in range(300)]
    assert np.mean(found) <= 0.08


def test_nothing_is_found_while_nothing_moves_and_a_shift_is_found_at_once() -> None:
    watch = FeatureWatch.start(SPEC)
    quiet = list(watched(watch, make(3000, 0)))
    assert sum(map(bool, quiet)) <= 1
    moved = list(watched(watch, make(400, 1, moved=1.0, red=0.8)))
    assert {finding.column for finding in moved[0]} == {"x", "colour"}
    assert [finding.windows for finding in moved[1]] == [2, 2]
    assert moved[0][0].p_value <= watch.alpha


def test_predictions_and_their_confidence_are_watched_and_timestamps_are_not() -> None:
    watch = FeatureWatch.start(SPEC)
    assert {PREDICTION, CONFIDENCE, "x", "colour", "on"} == set(watch.building)
    list(watched(watch, make(800, 0)))
    sure = [(row, Output("yes", {"no": 0.01, "yes": 0.99})) for row, _ in make(200, 1)]
    (found,) = watched(watch, sure)
    assert {PREDICTION, CONFIDENCE} <= {finding.column for finding in found}


def test_a_watch_goes_on_from_its_stored_state() -> None:
    rows = make(1500, 0, moved=0.1)
    whole, cut = FeatureWatch.start(SPEC), FeatureWatch.start(SPEC)
    wanted = list(watched(whole, rows))
    found = []
    for start in range(0, 1500, 170):
        found += watched(cut, rows[start : start + 170])
        cut = msgspec.json.decode(msgspec.json.encode(cut), type=FeatureWatch)
    assert found == wanted
    assert cut == whole


def test_the_state_is_bounded_however_many_columns_and_rows() -> None:
    names = [f"x{i:03}" for i in range(300)]
    watch = FeatureWatch.start(spec_of(names))
    rng = RNG(0)
    for values in rng.normal(size=(2100, 3)).tolist():
        watch.take({name: values[i % 3] for i, name in enumerate(names)}, Output("a", {"a": 1.0}))
        watch.look()
    assert len(watch.columns) == 102
    assert len(msgspec.json.encode(watch)) < 400_000


def test_a_restart_makes_a_new_reference() -> None:
    watch = FeatureWatch.start(SPEC)
    list(watched(watch, make(800, 0)))
    watch.restart(SPEC)
    assert not any(watched(watch, make(1200, 1, moved=3.0)))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_the_budget_of_false_alarms_holds_on_stable_streams(memory: float) -> None:
    from scipy.signal import lfilter

    names = [f"x{i}" for i in range(8)]
    hits = windows = 0
    for seed in range(8):
        noise = RNG(seed).normal(size=(25_000, 8))
        series = lfilter([math.sqrt(1 - memory**2)], [1, -memory], noise, axis=0)
        watch = FeatureWatch.start(spec_of(names))
        rows = [
            (dict(zip(names, row, strict=True)), Output("a", {"a": 0.5, "b": 0.5})) for row in series.tolist()
        ]
        looks = list(watched(watch, rows))[4:]
        hits, windows = hits + sum(map(bool, looks)), windows + len(looks)
    assert hits / windows <= 0.08
