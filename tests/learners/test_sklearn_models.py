"""Estimators with partial_fit: hidden classes, blocks, scaling, and their stored form."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build
from everlearn.learners.checks import check_learner
from everlearn.learners.sklearn_models import PartialFit
from everlearn.learners.states import same, stored

SMALL = partial(PartialFit, batch=20, max_classes=10)


def stream(n=600, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * [1.0, 50.0, 1.0] + [0.0, 1000.0, 0.0]
    X[:, 2] = rng.integers(0, 4, n)
    return X, np.where(X[:, 0] + (X[:, 1] - 1000.0) / 50.0 > 0.0, "yes", "no")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), list(check_learner(SMALL)))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize(
    ("task", "estimator", "parameters"),
    [
        ("classification", None, {}),
        ("classification", "sklearn.linear_model:SGDClassifier", {"loss": "hinge"}),
        ("classification", "sklearn.linear_model:Perceptron", {}),
        ("classification", "sklearn.naive_bayes:GaussianNB", {"var_smoothing": 0.01}),
        ("classification", "sklearn.neural_network:MLPClassifier", {"learning_rate_init": 0.02}),
        ("regression", None, {}),
        ("regression", "sklearn.neural_network:MLPRegressor", {"learning_rate_init": 0.02}),
    ],
)
def test_estimators_learn_take_gaps_and_come_back(task, estimator, parameters):
    X, labels = stream(900)
    X[::9, 1] = np.nan
    y = labels if task == "classification" else (labels == "yes") * 1e4
    make = partial(build, "sklearn", task=task, categorical=[2], max_classes=4)
    learner, other = (make(estimator=estimator, parameters=parameters) for _ in range(2))
    learner.learn(X[:655], y[:655])
    other.restore(stored(learner.state()))
    for part in (slice(655, 700), slice(700, 701)):
        for one in (learner, other):
            one.learn(X[part], y[part])
    assert same(learner.state(), other.state())
    answer = learner.predict(X[701:])
    assert same(answer, other.predict(X[701:]))
    said = answer.argmax(axis=1) == learner.classes.index("yes") if task == "classification" else answer > 5e3
    assert (said == (labels[701:] == "yes")).mean() > 0.85


def test_a_class_that_comes_late_is_learned_and_one_that_never_came_is_hidden():
    X, y = stream(2000)
    y = np.where((np.arange(2000) >= 1000) & (X[:, 2] == 3), "late", y)
    learner = build("sklearn", categorical=[2], max_classes=5)
    learner.learn(X[:1000], y[:1000])
    assert learner.predict(X[:5]).shape == (5, 2)
    learner.learn(X[1000:], y[1000:])
    said = np.array(learner.classes)[learner.predict(X[1000:]).argmax(axis=1)]
    assert (said[y[1000:] == "late"] == "late").mean() > 0.8


def test_more_classes_than_there_are_slots_are_refused():
    X, _ = stream(40)
    learner = build("sklearn", max_classes=3)
    with pytest.raises(InvalidError, match="more than 3 classes"):
        learner.learn(X, list(range(40)))
    assert learner.classes == []


def test_rows_of_a_block_count_when_it_is_full():
    X, y = stream(60)
    learner = build("sklearn", batch=30)
    learner.learn(X[:29], y[:29])
    assert not learner.state()["taught"]
    assert same(learner.predict(X[:1]), learner.predict(X[1:2]))
    learner.learn(X[29:30], y[29:30])
    assert learner.state()["taught"]
    assert not same(learner.predict(X[:1]), learner.predict(X[1:2]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"estimator": "sklearn.svm:SVC"}, "SVC has no partial_fit"),
        ({"estimator": "os:system"}, "is no classification estimator"),
        ({"estimator": "sklearn.linear_model:SGDRegressor"}, "does not learn a classification"),
        ({"parameters": {"depth": 3}}, "depth: is not a parameter"),
        ({"parameters": {"loss": "none"}}, "could not be taught"),
        ({"batch": 0}, "batch: 0 is not"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_row(given, message):
    with pytest.raises(InvalidError, match=message):
        build("sklearn", **given)


def test_a_state_of_another_estimator_is_refused():
    X, y = stream(60)
    learner = build("sklearn", estimator="sklearn.naive_bayes:GaussianNB")
    learner.learn(X, y)
    with pytest.raises(IntegrityError, match="the estimator is a GaussianNB"):
        build("sklearn").restore(learner.state())
