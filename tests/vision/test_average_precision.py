"""Average precision, by hand and beside Ultralytics' own."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from everlearn.vision.average_precision import average_precision, by_class, mean_ap
from everlearn.vision.boxes import Box, matched

CAT = [Box("cat", 0, 0, 10, 10), Box("cat", 20, 0, 30, 10)]


def test_what_is_found_first_and_whole_is_worth_one() -> None:
    found = [Box("cat", 0, 0, 10, 10, 0.9), Box("cat", 20, 0, 30, 10, 0.8)]
    scores = by_class([CAT], [found])
    assert scores["cat"].ap == 1.0
    assert scores["cat"].truths == 2


def test_a_wrong_box_costs_by_how_sure_it_was() -> None:
    right = [(0.9, True), (0.7, True)]
    before, between, after = ([*right, (p, False)] for p in (0.95, 0.8, 0.1))
    assert average_precision(after, 2) == 1.0, "what is less sure than all that is right costs nothing"
    # One of three points of precision: 1/2 and 2/3, made monotone to 2/3 everywhere.
    assert average_precision(before, 2) == pytest.approx(2 / 3)
    assert average_precision(between, 2) == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)


def test_what_was_missed_costs_its_recall() -> None:
    assert average_precision([(0.9, True)], 2) == pytest.approx(51 / 101)
    assert average_precision([], 2) == 0.0


def test_classes_are_scored_apart_and_made_up_ones_do_not_count() -> None:
    truths = [CAT, [Box("dog", 0, 0, 10, 10)], []]
    answers = [[Box("cat", 0, 0, 10, 10, 0.9)], [], [Box("cow", 0, 0, 5, 5, 0.99)]]
    scores = by_class(truths, answers)
    assert set(scores) == {"cat", "dog"}
    assert scores["dog"].ap == 0.0
    assert mean_ap(scores) == pytest.approx(51 / 202)
    assert mean_ap({}) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_ultralytics_computes(seed: int) -> None:
    pytest.importorskip("ultralytics", reason="everlearn[vision] is not installed")
    metrics = importlib.import_module("ultralytics.utils.metrics")
    random = np.random.default_rng(seed)
    truths, answers = zip(*(_frame(random) for _ in range(60)), strict=True)
    ours = by_class(truths, answers)
    names = sorted(ours)
    tp = np.array([[r] for t, a in zip(truths, answers, strict=True) for r in matched(t, a)])
    told = [box for answer in answers for box in answer]
    theirs = metrics.ap_per_class(
        tp,
        np.array([box.score for box in told]),
        np.array([names.index(box.name) for box in told]),
        np.array([names.index(box.name) for truth in truths for box in truth]),
    )[5]
    assert [ours[name].ap for name in names] == pytest.approx(theirs[:, 0].tolist(), abs=0.01)


def _frame(random: np.random.Generator) -> tuple[list[Box], list[Box]]:
    """Some boxes, and an answer that finds most of them and makes some up, with distinct scores."""
    truth, answer = [], []
    for i in range(int(random.integers(1, 5))):
        x, y = 40.0 * i, float(random.uniform(0, 40))
        box = Box(str(random.choice(["cat", "dog"])), x, y, x + 20, y + 20)
        truth.append(box)
        if random.random() < 0.8:
            off = float(random.normal(0, 3))
            answer.append(box._replace(x1=x + off, x2=x + 20 + off, score=float(random.uniform(0.2, 1.0))))
        if random.random() < 0.3:
            answer.append(box._replace(y1=y + 60, y2=y + 80, score=float(random.uniform(0.0, 0.9))))
    return truth, answer
