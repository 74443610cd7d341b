"""The additive model: the contract, curves, pairs, contributions, damage."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.additive import Additive
from everlearn.learners.checks import check_learner


def _accuracy(learner, X, y, start=0):
    answers = learner.test_then_train(X, y)[start:]
    return (np.array(learner.classes)[answers.argmax(axis=1)] == np.asarray(y)[start:]).mean()


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(Additive, bins=6, pairs=2))))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(Additive, pairs=0))))
def test_keeps_the_contract_without_pairs(name, check):
    check()


def test_a_column_has_a_curve_of_its_own():
    X = np.random.default_rng(0).normal(size=(4000, 4))
    y = np.abs(X[:, 1]) > 0.7
    assert _accuracy(Additive(pairs=0), X, y, 1000) > 0.93


def test_pairs_tell_what_two_columns_mean_together():
    X = np.random.default_rng(1).normal(size=(6000, 3))
    y = X[:, 0] * X[:, 2] > 0
    assert _accuracy(Additive(), X, y, 2000) > 0.85
    assert _accuracy(Additive(pairs=0), X, y, 2000) < 0.6


def test_it_follows_a_drift():
    X = np.random.default_rng(2).normal(size=(4000, 3))
    y = np.abs(X[:, 0]) > 0.7
    y[2000:] = ~y[2000:]
    learner = Additive()
    learner.learn(X[:2000], y[:2000])
    assert _accuracy(learner, X[2000:], y[2000:], 500) > 0.9


def test_a_missing_value_and_a_category_have_effects_of_their_own():
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.normal(size=3000), rng.integers(0, 40, 3000)])
    X[rng.random(3000) < 0.3, 0] = np.nan
    assert _accuracy(Additive(categorical=(1,)), X, np.isnan(X[:, 0]), 300) > 0.98
    assert _accuracy(Additive(categorical=(1,)), X, X[:, 1] % 3 == 0, 1500) > 0.98


def test_contributions_add_up_to_the_answer():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(1500, 5))
    values = X[:, 0] ** 2 + X[:, 1] * X[:, 2]
    for pairs in (0, 10):
        learner = Additive(task="regression", pairs=pairs)
        learner.learn(X, values)
        added = learner.contributions(X[:50])
        assert added.shape == (50, 6)
        assert added.sum(axis=1) == pytest.approx(learner.predict(X[:50]), abs=1e-9)
    learner = Additive(pairs=0)
    learner.learn(X, np.digitize(values, (0.0, 1.0)))
    added = learner.contributions(X[:50])
    assert added.shape == (50, 6, 3)
    odds = np.log(learner.predict(X[:50]))
    assert added.sum(axis=1) == pytest.approx(odds - odds.mean(axis=1, keepdims=True), abs=1e-9)


def test_the_column_that_decides_contributes_most():
    X = np.random.default_rng(5).normal(size=(3000, 4))
    learner = Additive()
    learner.learn(X, np.abs(X[:, 3]) > 1.0)
    sizes = np.abs(learner.contributions(X[:300])[:, :4, 0]).mean(axis=0)
    assert sizes[3] > 3 * sizes[:3].max()


def test_regression_follows_a_curve():
    X = np.random.default_rng(6).uniform(-2, 2, size=(4000, 2))
    y = np.sin(2 * X[:, 0]) + 3.0
    learner = Additive(task="regression")
    off = np.abs(learner.test_then_train(X, y) - y)[2000:].mean()
    assert off < 0.15 * np.abs(y - y.mean()).mean() + 0.05


def test_a_row_of_weight_three_counts_like_three():
    X = np.random.default_rng(7).normal(size=(400, 2))
    y = (X[:, 0] > 0).astype(int)
    once, thrice = Additive(), Additive()
    once.learn(X, y, weights=np.full(len(y), 3.0))
    thrice.learn(np.repeat(X, 3, axis=0), np.repeat(y, 3))
    assert np.abs(once.predict(X) - thrice.predict(X)).max() < 0.1


def test_a_new_class_is_predicted_within_two_hundred_examples():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(10_200, 3))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    y[10_000:] = np.where(X[10_000:, 1] > 0.5, "new", y[10_000:])
    learner = Additive()
    learner.learn(X, y)
    asked = rng.normal(size=(200, 3))
    asked[:, 1] = np.abs(asked[:, 1]) + 1.0
    assert (learner.predict(asked).argmax(axis=1) == learner.classes.index("new")).mean() > 0.6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"bins": 1}, "bins"), ({"pairs": -1}, "pairs"), ({"fade": 1.5}, "fade"), ({"step": 0}, "step")],
)
def test_refuses_parameters_that_make_no_sense(wrong, message):
    with pytest.raises(InvalidError, match=message):
        Additive(**wrong)


def test_refuses_a_state_that_is_not_whole():
    learner = Additive()
    learner.learn(np.zeros((4, 2)), [0, 1, 0, 1])
    state = learner.state()
    for damage in (
        {"counts": np.array([9, 4])},
        {"tables": state["tables"][:1]},
        {"worth": np.full((2, 2), np.nan)},
    ):
        with pytest.raises(IntegrityError):
            Additive().restore({**state, **damage})
