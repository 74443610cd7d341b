from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from everlearn.loop.baselines import Baselines
from everlearn.loop.bounds import jackknife_interval, mean_interval, proportion_interval
from everlearn.loop.scores import (
    Scored,
    Totals,
    Window,
    brier,
    ece,
    ece_noise,
    loss,
    metric_interval,
    metrics,
    reliability,
    score_row,
    summed_metrics,
    terms_of,
)
from everlearn.types import Output


def scored_rows(n: int = 300, seed: int = 0) -> list[Scored]:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        p, truth = rng.random(), rng.choice(["no", "yes"])
        output = Output("yes" if p > 0.5 else "no", {"no": 1 - p, "yes": p})
        rows.append(score_row(i + 1, 1, truth, output, rng.choice(["no", "yes"]), "yes"))
    return rows


def test_classification_metrics_are_those_of_scikit_learn() -> None:
    rows = scored_rows()
    truth, answered = [s.truth for s in rows], [s.value for s in rows]
    positive = [s.p_positive for s in rows]
    ours = metrics(rows, "classification")
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, answered))
    assert ours["f1"] == pytest.approx(sk.f1_score(truth, answered, average="macro"))
    assert ours["auc"] == pytest.approx(sk.roc_auc_score([t == "yes" for t in truth], positive))
    assert ours["log_loss"] == pytest.approx(
        sk.log_loss(truth, [[1 - p, p] for p in positive], labels=["no", "yes"])
    )


def test_kappa_t_and_kappa_m_measure_against_their_baselines() -> None:
    rows = scored_rows()
    accuracy = sum(s.value == s.truth for s in rows) / len(rows)
    no_change = sum(s.no_change == s.truth for s in rows) / len(rows)
    assert metrics(rows, "classification")["kappa_t"] == pytest.approx(
        (accuracy - no_change) / (1 - no_change)
    )


def test_regression_metrics_are_those_of_scikit_learn() -> None:
    rng = random.Random(1)
    truth = [rng.gauss(0, 2) for _ in range(200)]
    guess = [t + rng.gauss(0, 1) for t in truth]
    rows = [
        score_row(i, 1, t, Output(g), 0.0, 0.0) for i, (t, g) in enumerate(zip(truth, guess, strict=True))
    ]
    ours = metrics(rows, "regression")
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(truth, guess))
    assert ours["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(truth, guess)))
    assert ours["r2"] == pytest.approx(sk.r2_score(truth, guess))


def test_sums_over_all_rows_agree_with_the_rows() -> None:
    rows, totals = scored_rows(), Totals()
    for scored in rows:
        totals.add(terms_of(scored, "classification"))
    summed = summed_metrics(totals.sums, totals.rows, "classification")
    whole = metrics(rows, "classification")
    assert all(summed[name] == pytest.approx(whole[name]) for name in summed)


def test_an_unanswered_row_counts_as_wrong() -> None:
    row = score_row(1, 0, "yes", Output(None), None, None)
    assert metrics([row], "classification")["accuracy"] == 0.0


def test_rows_before_the_first_label_have_no_part_in_the_losses() -> None:
    blank = score_row(1, 0, 1e6, Output(None), None, None)
    known = score_row(2, 1, 4.0, Output(3.0), 2.0, 2.0)
    late = score_row(3, 1, 5.0, Output(None), 2.0, 3.0)  # a label was known: the mean stands in
    assert metrics([blank], "regression") == {"mae": None, "rmse": None, "r2": None}
    assert metrics([blank, known, late], "regression")["mae"] == 1.5
    assert metric_interval([blank], "mae", "regression", 0.95) is None
    unasked = score_row(1, 0, "yes", Output(None), None, None)
    assert metrics([unasked, *scored_rows()], "classification")["log_loss"] == pytest.approx(
        metrics(scored_rows(), "classification")["log_loss"]
    )


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_sums_leave_out_what_the_rows_leave_out(task: Any) -> None:
    truth = {"classification": "yes", "regression": 7.0}[task]
    rows, totals = [score_row(1, 0, truth, Output(None), None, None)], Totals()
    if task == "classification":
        rows += scored_rows()
    else:
        rows += [score_row(i, 1, i % 7, Output(i % 5), i % 3, 3.0) for i in range(2, 90)]
    for scored in rows:
        totals.add(terms_of(scored, task))
    summed = summed_metrics(totals.sums, totals.rows, task)
    assert {name: pytest.approx(metrics(rows, task)[name]) for name in summed} == summed


def test_a_truth_that_does_not_vary_has_no_r2() -> None:
    rows = [score_row(i, 1, 0.1, Output(0.1 + 1e-9), 0.1, 0.1) for i in range(1, 400)]
    totals = Totals()
    for scored in rows:
        totals.add(terms_of(scored, "regression"))
    assert metrics(rows, "regression")["r2"] is None
    assert summed_metrics(totals.sums, totals.rows, "regression")["r2"] is None


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_loss_of_a_regression_has_no_scale(scale: float) -> None:
    row = score_row(1, 1, 4 * scale, Output(3 * scale), None, 1 * scale)
    assert loss(row, "regression") == pytest.approx(0.25)


def test_a_third_class_ends_the_auc() -> None:
    rows = scored_rows()
    third = score_row(301, 1, "maybe", Output("yes", {"no": 0.4, "yes": 0.6}), "yes", "yes")
    assert metrics([*rows, third], "classification")["auc"] is None


def test_a_one_class_window_has_no_auc_and_breaks_nothing() -> None:
    rows = [s for s in scored_rows() if s.truth == "yes"]
    assert metrics(rows, "classification")["auc"] is None
    assert metric_interval(rows, "auc", "classification", 0.95) is None


def test_no_rows_have_no_metrics() -> None:
    assert metrics([], "classification") == {}
    assert metrics([], "regression") == {}
    assert metric_interval([], "accuracy", "classification", 0.95) is None


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_each_bound_of_a_proportion_holds_at_least_as_often_as_it_says(rate: float) -> None:
    rng = random.Random(7)
    seen = [proportion_interval(sum(rng.random() < rate for _ in range(150)), 150, 0.95) for _ in range(1500)]
    for held in ([i.lower <= rate for i in seen], [i.upper >= rate for i in seen]):
        assert sum(held) / len(held) > 0.94


def test_the_jackknife_of_a_mean_is_close_to_the_normal_interval() -> None:
    rng = random.Random(3)
    values = [rng.gauss(5, 2) for _ in range(1000)]
    blocks = [values[i * 100 : (i + 1) * 100] for i in range(10)]
    left_out = [sum(sum(b) for j, b in enumerate(blocks) if j != i) / 900 for i in range(10)]
    ours = jackknife_interval(sum(values) / 1000, left_out, 1000, 0.95)
    normal = mean_interval(values, 0.95)
    assert ours.value == pytest.approx(normal.value)
    assert ours.upper - ours.lower == pytest.approx(normal.upper - normal.lower, rel=0.6)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc", "log_loss", "kappa_m", "kappa_t"])
def test_every_metric_has_bounds_around_its_value(metric: str) -> None:
    interval = metric_interval(scored_rows(), metric, "classification", 0.95)
    assert interval is not None
    assert interval.lower <= interval.value <= interval.upper


CLASSES = ("accuracy", "f1", "auc", "log_loss", "kappa_m", "kappa_t")
NUMBERS = ("mae", "rmse", "r2")


def regression_rows(n: int, seed: int = 0, level: float = 0.0) -> list[Scored]:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        truth = rng.gauss(level, 1)
        known = None if rng.random() < 0.1 else level
        answer = None if rng.random() < 0.1 else truth + rng.gauss(0, 0.5)
        rows.append(score_row(i + 1, 1, truth, Output(answer), known, known))
    return rows


@pytest.mark.parametrize("metric", CLASSES + NUMBERS)
def test_a_window_is_the_metric_of_its_newest_rows_however_they_came(metric: str) -> None:
    task: Any = "regression" if metric in NUMBERS else "classification"
    rows = regression_rows(400) if task == "regression" else scored_rows(400)
    window = Window(150, metric, rows[:37])
    for i, scored in enumerate(rows[37:], 38):
        window.add(scored)
        if i % 45 == 0:
            newest = rows[max(0, i - 150) : i]
            assert window.interval(0.95) == metric_interval(newest, metric, task, 0.95)
            assert len(window) == len(newest)
    window.refill(rows[:10])
    assert window.interval(0.95) == metric_interval(rows[:10], metric, task, 0.95)


@pytest.mark.parametrize("metric", ["f1", "auc", "kappa_m", "kappa_t", "rmse", "r2"])
@pytest.mark.parametrize("n", [3, 57, 300])
@pytest.mark.parametrize("level", [0.0, 1e7])
def test_the_jackknife_leaves_out_one_block_at_a_time(metric: str, n: int, level: float) -> None:
    task: Any = "regression" if metric in NUMBERS else "classification"
    rows = regression_rows(n, level=level) if task == "regression" else scored_rows(n)
    edges = [round(i * n / min(10, n)) for i in range(min(10, n) + 1)]
    left_out = [metrics([*rows[:start], *rows[end:]], task)[metric] for start, end in pairwise(edges)]
    whole = metrics(rows, task)[metric]
    interval = metric_interval(rows, metric, task, 0.9)
    if whole is None or None in left_out:
        assert interval is None
        return
    expected = jackknife_interval(whole, [value for value in left_out if value is not None], n, 0.9)
    assert interval is not None
    assert interval.value == whole
    assert interval.lower == pytest.approx(expected.lower, rel=1e-6, abs=1e-9)
    assert interval.upper == pytest.approx(expected.upper, rel=1e-6, abs=1e-9)


def test_an_empty_window_has_no_metric() -> None:
    assert all(Window(10, metric).interval(0.95) is None for metric in CLASSES + NUMBERS)


def test_the_confidence_of_an_answer_is_its_probability() -> None:
    three = Output("b", {"a": 0.2, "b": 0.5, "c": 0.3})
    assert score_row(1, 1, "c", three, None, None).confidence == 0.5
    assert score_row(1, 1, "b", three, None, None).p_truth == 0.5
    assert score_row(1, 1, True, Output(True, {"false": 0.3, "true": 0.7}), None, None).confidence == 0.7
    assert score_row(1, 1, "a", Output(None, {}), None, None).confidence is None
    assert score_row(1, 1, 2.0, Output(1.0), None, None).confidence is None


@pytest.mark.parametrize(("n", "low"), [(50, 0.5), (500, 0.5), (2000, 0.5), (500, 0.99)])
def test_the_noise_of_a_calibration_error_is_what_calibrated_answers_show(n: int, low: float) -> None:
    rng = random.Random(9)
    confidences = [rng.uniform(low, 1) for _ in range(n)]
    seen = [ece(confidences, [rng.random() < c for c in confidences]) for _ in range(300)]
    mean, spread = ece_noise(confidences)
    average = sum(seen) / len(seen)
    assert mean == pytest.approx(average, rel=0.1)
    assert spread == pytest.approx(math.sqrt(sum((e - average) ** 2 for e in seen) / 299), rel=0.25)


def test_reliability_tells_a_fault_from_noise() -> None:
    rng = random.Random(4)

    def rows(power: float) -> list[Scored]:
        found = []
        for i in range(500):
            p = rng.random()
            q = p**power / (p**power + (1 - p) ** power)
            answer = Output("yes" if q > 0.5 else "no", {"no": 1 - q, "yes": q})
            found.append(score_row(i, 1, "yes" if rng.random() < p else "no", answer, None, None))
        return found

    calibrated, sure = reliability(rows(1.0)), reliability(rows(4.0))
    assert calibrated is not None
    assert sure is not None
    assert calibrated.excess < 3 * calibrated.spread
    assert sure.excess > 5 * sure.spread
    assert sure.brier > calibrated.brier
    assert reliability(regression_rows(10)) is None


def test_the_brier_score_is_that_of_scikit_learn() -> None:
    rng = random.Random(2)
    chances = [rng.random() for _ in range(100)]
    truths = [rng.random() < 0.4 for _ in chances]
    assert brier(chances, truths) == pytest.approx(sk.brier_score_loss(truths, chances))
    assert (ece([], []), brier([], []), ece_noise([])) == (0.0, 0.0, (0.0, 0.0))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=80), st.integers(0, 80))
@settings(max_examples=60, deadline=None)
def test_baselines_know_what_had_come_before_a_position(labels: list[tuple[str, int]], cut: int) -> None:
    baselines, past = Baselines(), list[str]()
    for seq, (value, back) in enumerate(labels, 1):
        past.append(value)
        baselines.learn(seq, value, False)
        if seq == cut:  # what is not stored is found again
            baselines = msgspec.json.decode(msgspec.json.encode(baselines), type=Baselines)
        asked = max(1, seq - back + 1)
        known = past[: asked - 1]
        majority = max(dict.fromkeys(known), key=known.count) if known else None
        assert baselines.before(asked) == (known[-1] if known else None, majority)


def test_the_baselines_of_numbers_are_the_newest_and_the_mean() -> None:
    baselines = Baselines()
    assert baselines.before(1) == (None, None)
    for seq, value in enumerate([4.0, 2.0, 2.0, 8.0], 1):
        baselines.learn(seq, value, True)
    assert [baselines.before(seq) for seq in (5, 2, 4, 1, 3)] == [
        (8.0, 4.0),
        (4.0, 4.0),
        (2.0, 8 / 3),
        (None, None),
        (2.0, 3.0),
    ]
    assert baselines.majority() == Output(4.0)
