"""Learners that know nothing but the labels."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import InvalidError
from everlearn.learners import build
from everlearn.learners.checks import check_learner


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(build, "rates"))))
def test_keeps_the_contract(name, check):
    check()


def test_a_memory_of_one_row_is_label_persistence():
    labels = np.array(list("aabbabba"))
    learner = build("rates", memories=(1,))
    answers = learner.test_then_train(np.zeros((8, 1)), labels)
    said = np.array(learner.classes)[answers[1:].argmax(axis=1)]
    assert said.tolist() == labels[:-1].tolist()


def test_an_endless_memory_is_the_running_majority():
    learner = build("rates", memories=(1e9,))
    learner.learn(np.zeros((10, 1)), ["a"] * 6 + ["b"] * 4)
    assert learner.predict(np.zeros((1, 1)))[0] == pytest.approx([0.6, 0.4], abs=0.01)


def test_the_mixture_follows_the_memory_that_foretells_best():
    runs = np.repeat(np.arange(60) % 2, 20)
    learner = build("rates", memories=(1, 200))
    answers = learner.test_then_train(np.zeros((len(runs), 1)), runs)
    assert (answers[200:].argmax(axis=1) == runs[200:]).mean() > 0.9


def test_a_weight_of_two_counts_as_learning_twice():
    twice, heavy = build("rates", memories=(50,)), build("rates", memories=(50,))
    row = np.zeros((1, 1))
    for learner in (twice, heavy):
        learner.learn(np.zeros((100, 1)), ["a"] * 100)
    twice.learn(np.zeros((2, 1)), ["b", "b"])
    heavy.learn(row, ["b"], weights=[2.0])
    assert heavy.predict(row) == pytest.approx(twice.predict(row), abs=2e-3)


def test_regression_gives_the_recent_mean():
    learner = build("rates", task="regression", memories=(1,))
    learner.learn(np.zeros((3, 1)), [1.0, 2.0, 7.0])
    assert learner.predict(np.zeros((2, 1))).tolist() == [7.0, 7.0]


def test_needs_a_memory():
    with pytest.raises(InvalidError, match="memories: is empty"):
        build("rates", memories=())


def test_rows_of_weight_nothing_are_answered_and_not_learned():
    y = ["up", "down"] * 20
    weights = np.tile([1.0, 0.0], 20)
    learner, other = (build("rates", memories=(5,)) for _ in range(2))
    answers = learner.test_then_train(np.zeros((40, 1)), y, weights, delay=2)
    other.learn(np.zeros((20, 1)), ["up"] * 20)
    assert learner.classes == ["up"]
    assert answers.shape == (40, 1)
    assert np.array_equal(learner.predict(np.zeros((1, 1))), other.predict(np.zeros((1, 1))))
