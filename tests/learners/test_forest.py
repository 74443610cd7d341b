"""The Mondrian forest: the contract, shapes, relevance, drift, memory, contributions, damage."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks import check_learner
from everlearn.learners.forest import Forest

_SMALL = partial(Forest, trees=4, max_nodes=200, patience=100)


def _accuracy(learner, X, y, start=0):
    answers = learner.test_then_train(X, y)[start:]
    return (np.array(learner.classes)[answers.argmax(axis=1)] == np.asarray(y)[start:]).mean()


@pytest.mark.parametrize(("name", "check"), list(check_learner(_SMALL)))
def test_keeps_the_contract(name, check):
    check()


def test_it_learns_what_columns_mean_together():
    X = np.random.default_rng(0).uniform(-1, 1, size=(4000, 2))
    assert _accuracy(Forest(), X, X[:, 0] * X[:, 1] > 0, 1000) > 0.95


def test_relevance_keeps_columns_that_say_nothing_out_of_the_cuts():
    X = np.random.default_rng(1).normal(size=(3000, 20))
    y = np.abs(X[:, 3]) > 0.7
    relevant, plain = _accuracy(Forest(), X, y, 1000), _accuracy(Forest(sharpness=0), X, y, 1000)
    assert relevant > 0.9
    assert relevant > plain + 0.1


def test_an_outlier_does_not_ruin_the_cuts():
    X = np.random.default_rng(2).normal(size=(2000, 2))
    y = X[:, 0] > 0.3
    X[100:2000:100, 0] = 1e12
    y[100:2000:100] = True
    assert _accuracy(Forest(), X, y, 500) > 0.95


def test_it_follows_a_drift():
    X = np.random.default_rng(3).normal(size=(4000, 3))
    y = X[:, 0] + X[:, 1] > 0
    y[2000:] = ~y[2000:]
    learner = Forest()
    learner.learn(X[:2000], y[:2000])
    assert _accuracy(learner, X[2000:], y[2000:], 1000) > 0.85


def test_young_trees_replace_those_that_a_drift_made_wrong():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(6000, 3))
    y = np.where(np.arange(6000) < 4000, X[:, 0], X[:, 1]) > 0
    y ^= rng.random(6000) < 0.1
    kept, renewed = Forest(forgetting=1.0, patience=10**9), Forest(forgetting=1.0, patience=200)
    assert _accuracy(renewed, X, y, 4500) > _accuracy(kept, X, y, 4500) + 0.05


def test_a_new_class_is_predicted_within_two_hundred_rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3200, 3))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    y[3000:] = np.where(X[3000:, 1] > 0.5, "new", y[3000:])
    learner = Forest()
    learner.learn(X[:3000], y[:3000])
    assert learner.classes == list(dict.fromkeys(y[:3000]))
    learner.learn(X[3000:], y[3000:])
    asked = rng.normal(size=(200, 3))
    asked[:, 1] = np.abs(asked[:, 1]) + 1.0
    assert (learner.predict(asked).argmax(axis=1) == 2).mean() > 0.6


def test_missing_values_leave_the_other_columns_their_say():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(3000, 3))
    y = X[:, 0] > 0
    X[rng.random(X.shape) < 0.2] = np.nan
    learner = Forest()
    answers = learner.test_then_train(X, y)[1000:]
    right = np.array(learner.classes)[answers.argmax(axis=1)] == y[1000:]
    assert right[~np.isnan(X[1000:, 0])].mean() > 0.93
    assert np.isfinite(learner.predict(np.full((1, 3), np.nan))).all()


def test_a_set_of_categories_is_told_apart():
    X = np.random.default_rng(7).integers(0, 30, size=(3000, 2)).astype(float)
    assert _accuracy(Forest(categorical=(0, 1)), X, X[:, 1] % 3 == 0, 1500) > 0.95


def test_the_nodes_of_a_tree_are_bounded():
    X = np.random.default_rng(8).normal(size=(3000, 3))
    learner = Forest(trees=3, max_nodes=40)
    learner.learn(X, np.random.default_rng(9).integers(0, 2, 3000))
    state = learner.state()
    assert state["trees"][:, 1].max() <= 40
    assert state["trees"][:3, 1].min() > 20
    assert len(state["links"]) <= 5 * 42


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_contributions_add_up_to_the_answer(task):
    rng = np.random.default_rng(10)
    X = rng.normal(size=(1500, 4))
    X[:, 3] = rng.integers(0, 4, 1500)
    X[rng.random(X.shape) < 0.05] = np.nan
    values = np.nan_to_num(X[:, 0]) ** 2 + 5.0
    learner = Forest(task=task, categorical=(3,))
    learner.learn(X, values if task == "regression" else np.digitize(values, (5.2, 6.0)))
    added, answers = learner.contributions(X[:80]), learner.predict(X[:80])
    assert added.shape == (80, 5, *answers.shape[1:])
    assert added.sum(axis=1) == pytest.approx(answers, abs=1e-9)
    sizes = np.abs(added[:, :4]).reshape(80, 4, -1).sum(axis=2).mean(axis=0)
    assert sizes[0] > 2 * sizes[1:].max()


def test_regression_follows_a_surface():
    X = np.random.default_rng(11).uniform(-2, 2, size=(4000, 2))
    y = 1000.0 * np.sin(2 * X[:, 0]) + 3000.0
    off = np.abs(Forest(task="regression").test_then_train(X, y) - y)[2000:].mean()
    assert off < 0.2 * np.abs(y - y.mean()).mean()


def test_a_heavy_row_counts_more():
    X = np.random.default_rng(12).normal(size=(400, 2))
    y = np.arange(400) % 2
    learner = Forest()
    learner.learn(X, y, weights=np.where(y == 1, 8.0, 1.0))
    assert learner.predict(np.random.default_rng(13).normal(size=(100, 2)))[:, 1].mean() > 0.75


def test_the_seed_decides():
    X = np.random.default_rng(14).normal(size=(500, 3))
    y = X[:, 0] > 0
    first, again, other = Forest(seed=1), Forest(seed=1), Forest(seed=2)
    for learner in (first, again, other):
        learner.learn(X, y)
    assert (first.predict(X) == again.predict(X)).all()
    assert (first.predict(X) != other.predict(X)).any()


def test_a_state_with_many_nodes_goes_on_as_if_nothing_had_happened():
    X = np.random.default_rng(15).normal(size=(1600, 3))
    y = np.random.default_rng(16).integers(0, 3, 1600)
    learner, other = Forest(trees=3, patience=50), Forest(trees=3, patience=50)
    learner.learn(X[:800], y[:800])
    other.restore(learner.state())
    for one in (learner, other):
        one.learn(X[800:], y[800:])
    for key, value in learner.state().items():
        assert np.array_equal(value, other.state()[key], equal_nan=key == "boxes")


def _with(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def test_refuses_a_state_that_would_lead_astray():
    X = np.random.default_rng(17).normal(size=(300, 2))
    learner = Forest(trees=2)
    learner.learn(X, X[:, 0] > 0)
    state = learner.state()
    Forest(trees=2).restore(state)
    links, root = state["links"], int(state["trees"][0, 0])
    child = int(links[root, 1])
    assert child >= 0
    for damage in (
        {"links": _with(links, (root, 1), len(links))},
        {"links": _with(links, (root, 1), -1)},
        {"links": _with(links, (root, 1), root)},
        {"links": _with(links, (root, 2), child)},
        {"links": _with(links, (child, 0), child)},
        {"links": _with(links, (root, 3), 2)},
        {"trees": _with(state["trees"], (0, 0), child)},
        {"trees": _with(state["trees"], (0, 0), -1)},
        {"trees": _with(state["trees"], (0, 0), -5)},
        {"trees": _with(state["trees"], (0, 1), 1)},
        {"spare": _with(state["spare"], 0, root)},
        {"spare": _with(state["spare"], 0, len(links))},
        {"numbers": _with(state["numbers"], 2, len(links) + 1)},
        {"numbers": _with(state["numbers"], 0, 3)},
        {"counts": _with(state["counts"], (root, 0), -1.0)},
        {"facts": _with(state["facts"], (root, 2), np.nan)},
        {"losses": _with(state["losses"], 0, np.nan)},
        {"facts": state["facts"][:-1]},
    ):
        with pytest.raises(IntegrityError):
            Forest(trees=2).restore({**state, **damage})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trees": 0}, "trees"), ({"max_nodes": 2}, "max_nodes"), ({"dirichlet": 0}, "dirichlet"),
        ({"step": -1}, "step"), ({"forgetting": 1.5}, "forgetting"), ({"sharpness": -1}, "sharpness"),
        ({"memory": 10}, "memory"),
    ],
)  # fmt: skip
def test_refuses_parameters_that_make_no_sense(wrong, message):
    with pytest.raises(InvalidError, match=message):
        Forest(**wrong)
