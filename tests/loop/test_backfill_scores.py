"""The scores of a backfill do not depend on how it was cut into parts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop.backfill_scores import SUMMED, Sums, add_exactly, scores, shown_metric
from everlearn.loop.measures import metrics
from everlearn.loop.scored import score_row
from everlearn.types import Output, Scalar, Task

Case = tuple[Scalar, Output, Output]
NUMBERS = st.floats(-1e6, 1e6)
CLASSES = st.sampled_from(["yes", "no", "maybe"])


def answered(value: str, chance: float) -> Output:
    others = [name for name in ("yes", "no", "maybe") if name != value]
    return Output(value, {value: chance, **dict.fromkeys(others, (1 - chance) / 2)})


CLASSIFIED = st.builds(answered, CLASSES, st.floats(0.4, 1.0))
NOTHING = st.just(Output(None, {}))
CLASS_CASES = st.tuples(st.none() | CLASSES, CLASSIFIED, CLASSIFIED | NOTHING)
NUMBER_CASES = st.tuples(
    st.none() | NUMBERS, st.builds(Output, NUMBERS), st.builds(Output, NUMBERS | st.none())
)


def part(cases: Sequence[Case], task: Task, metric: str) -> dict[str, object]:
    """The sums of a part as they come back from a job."""
    sums = Sums(task, metric)
    for place, (truth, version, served) in enumerate(cases):
        sums.add(place, truth, version, served)
    kept: dict[str, object] = json.loads(json.dumps(sums.to_dict(), allow_nan=False))
    return kept


@given(st.lists(st.floats(-1e100, 1e100), max_size=30))
def test_a_sum_loses_nothing(numbers: list[float]) -> None:
    partials: list[float] = []
    for number in numbers:
        add_exactly(partials, number)
    assert sum(map(Fraction, partials), Fraction(0)) == sum(map(Fraction, numbers), Fraction(0))


@given(st.lists(CLASS_CASES, min_size=1, max_size=30), st.integers(1, 7))
def test_any_cut_of_classes_comes_to_the_same(cases: list[Case], size: int) -> None:
    cut = [part(cases[i : i + size], "classification", "f1") for i in range(0, len(cases), size)]
    whole = part(cases, "classification", "f1")
    assert scores(cut, "classification", "f1") == scores([whole], "classification", "f1")


@given(st.lists(NUMBER_CASES, min_size=1, max_size=30), st.integers(1, 7))
def test_any_cut_of_numbers_comes_to_the_same(cases: list[Case], size: int) -> None:
    cut = [part(cases[i : i + size], "regression", "mae") for i in range(0, len(cases), size)]
    whole = part(cases, "regression", "mae")
    assert scores(cut, "regression", "mae") == scores([whole], "regression", "mae")


def drawn(task: Task) -> list[Case]:
    """Rows that both answered, from a seed."""
    draw = np.random.default_rng(7)

    def one() -> Case:
        if task == "regression":
            truth = float(draw.normal(5.0, 2.0))
            return truth, Output(truth + float(draw.normal())), Output(float(draw.normal()))
        names = draw.choice(["yes", "no", "maybe"], 3).tolist()
        return names[0], answered(names[1], float(draw.uniform(0.4, 1))), answered(names[2], 0.5)

    return [one() for _ in range(200)]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_they_are_the_metrics_of_all_rows_at_once(task: Task) -> None:
    cases = drawn(task)
    found = scores([part(cases, task, "f1")], task, "f1")
    for place, side in ((1, "version"), (2, "served")):
        rows = [score_row(i, 0, case[0], case[place], None, "yes" if task == "classification" else 0.0)
                for i, case in enumerate(cases)]  # fmt: skip
        wanted = metrics(rows, task)
        assert found[side] == {name: pytest.approx(wanted[name], rel=1e-12) for name in found[side]}
    assert set(found["version"]) == set(SUMMED[task])


def test_a_row_without_an_answer_is_wrong_and_left_out_of_what_needs_a_number() -> None:
    silent = part([("yes", answered("yes", 0.5), Output(None, {}))], "classification", "accuracy")
    assert scores([silent], "classification", "accuracy") == {
        "version": {"accuracy": 1.0, "log_loss": None},
        "served": {"accuracy": 0.0, "log_loss": None},
    }
    mute = part([(3.0, Output(2.0), Output(None))], "regression", "mae")
    assert scores([mute], "regression", "mae")["version"] == {"mae": None, "rmse": None, "r2": None}
    recorded = part([("yes", answered("yes", 0.5), Output("yes"))], "classification", "accuracy")
    assert scores([recorded], "classification", "accuracy")["served"] == {"accuracy": 1.0, "log_loss": None}


def test_without_labels_there_is_no_score() -> None:
    empty = part([(None, answered("yes", 0.9), answered("yes", 0.9))], "classification", "f1")
    assert scores([empty], "classification", "f1")["version"] == dict.fromkeys(("accuracy", "log_loss", "f1"))
    assert (empty["rows"], empty["agreed"]) == (1, 1)
    flat = part([(2.0, Output(2.0), Output(1.0))] * 3, "regression", "r2")
    assert scores([flat], "regression", "r2")["served"] == {"mae": 1.0, "rmse": 1.0, "r2": None}


def test_large_numbers_lose_nothing_to_cancellation() -> None:
    cases: list[Case] = [(1e9 + i, Output(1e9 + i + 0.5), Output(1e9)) for i in range(1000)]
    found = scores([part(cases, "regression", "r2")], "regression", "r2")["version"]
    assert math.isclose(found["mae"], 0.5)
    assert math.isclose(found["r2"], 1 - 0.25 / ((1000**2 - 1) / 12), rel_tol=1e-12)


def test_numbers_that_no_square_holds_break_nothing() -> None:
    cases: list[Case] = [(1e300, Output(-1e300), Output(0.0)), (0.0, Output(1e-300), Output(0.0))]
    found = scores([part(cases, "regression", "rmse")], "regression", "rmse")
    assert found["served"]["mae"] == 5e299
    assert all(math.isfinite(number) for side in found.values() for number in side.values())


def test_a_metric_that_needs_all_rows_has_one_that_stands_in() -> None:
    assert shown_metric("auc", "classification") == shown_metric("kappa_t", "classification") == "accuracy"
    assert shown_metric("r2", "regression") == "r2"
