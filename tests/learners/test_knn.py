"""The nearest-neighbour learner: the contract, drift, metrics, its memories, damage."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks import check_learner
from everlearn.learners.knn import Knn
from everlearn.learners.knn_memory import HAVE, KEPT, SEEN
from everlearn.learners.knn_metrics import RELEVANCE
from everlearn.learners.states import same, stored

SMALL = partial(Knn, size=200, long=60)


def accuracy(learner, X, y, *, delay=0):
    """Share of right answers to rows that were answered before they were learned."""
    said = learner.test_then_train(X, y, delay=delay)
    return np.mean([learner.classes[best] == label for best, label in zip(said.argmax(1), y, strict=True)])


@pytest.mark.parametrize(("name", "check"), list(check_learner(SMALL)))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(Knn, size=60, long=0, max_metric=0))))
def test_keeps_the_contract_with_one_metric_and_no_long_memory(name, check):
    check()


def test_it_learns_what_no_line_can_tell():
    X = np.random.default_rng(0).normal(size=(3000, 2))
    assert accuracy(Knn(), X, (X[:, 0] * X[:, 1] > 0)) > 0.95


def test_irrelevant_columns_lose_weight():
    X = np.random.default_rng(1).normal(size=(4000, 12))
    y = X[:, 3] * X[:, 7] > 0
    learner = Knn()
    late = accuracy(learner, X, y)
    weights = learner.state()["columns"][RELEVANCE]
    assert min(weights[[3, 7]]) > max(np.delete(weights, [3, 7])) + 0.5
    assert late > accuracy(Knn(pace=1e-9), X, y) + 0.05


def test_correlated_columns_are_told_apart_by_the_discriminant_metric():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 3000)
    X = rng.normal(size=(3000, 8)) * 3.0
    X[:, 1] = X[:, 0] + 1.5 * y
    assert accuracy(Knn(), X, y) > accuracy(Knn(max_metric=0), X, y) + 0.03


def test_it_follows_a_drift():
    X = np.random.default_rng(3).normal(size=(3000, 3))
    y = X[:, 0] > X[:, 1]
    y[1500:] = ~y[1500:]
    learner = Knn()
    learner.learn(X[:1500], y[:1500])
    assert accuracy(learner, X[1500:], y[1500:]) > 0.93


def test_the_long_memory_keeps_a_region_that_no_longer_comes():
    rng = np.random.default_rng(4)
    near, far = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) + 30.0
    y_near, y_far = near[:, 0] > 0, far[:, 1] > 30.0
    for long, least, most in ((500, 0.8, 1.0), (0, 0.3, 0.7)):
        learner = Knn(long=long)
        learner.learn(far, y_far)
        learner.learn(near, y_near)
        said = np.array(learner.classes)[learner.predict(far[:500]).argmax(axis=1)]
        assert least < (said == y_far[:500]).mean() < most


def test_the_long_memory_forgets_what_is_contradicted():
    X = np.random.default_rng(5).normal(size=(4000, 2))
    y = np.where(X[:, 0] > 0, "a", "b")
    learner = Knn(size=200, long=300)
    learner.learn(X[:2000], y[:2000])
    flipped = np.where(y == "a", "b", "a")
    learner.learn(X[2000:], flipped[2000:])
    state = learner.state()
    kept = slice(200, 200 + state["counts"][KEPT])
    old = np.array(learner.classes)[state["targets"][0, kept]]
    wrong = np.where(state["rows"][kept, 0] > 0, "a", "b") == old
    assert state["counts"][KEPT] > 50
    assert wrong.mean() < 0.1


def test_the_long_memory_holds_more_classes_than_it_has_places():
    learner = Knn(size=10, long=5)
    X = np.arange(100.0)[:, None]
    learner.learn(X, np.arange(100))
    assert learner.predict(X).shape == (100, 100)


def test_compression_keeps_categories_and_skips_missing_numbers():
    rng = np.random.default_rng(6)
    X = np.c_[rng.normal(size=2000), rng.integers(0, 4, 2000)]
    X[::3, 0] = np.nan
    X[::5, 1] = np.nan
    learner = Knn(size=50, long=40, categorical=[1])
    learner.learn(X, np.where(X[:, 1] > 1, "a", "b"))
    state = learner.state()
    kept = state["rows"][50 : 50 + state["counts"][KEPT], 1]
    assert len(kept)
    assert set(kept[~np.isnan(kept)]) <= {0.0, 1.0, 2.0, 3.0}


def test_compression_of_rows_that_are_all_alike():
    learner = Knn(size=10, long=8)
    learner.learn(np.zeros((200, 2)), ["a", "b"] * 100)
    assert learner.predict(np.zeros((1, 2)))[0] == pytest.approx([0.5, 0.5], abs=0.1)


def test_categories_are_equal_or_not():
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 30, size=(3000, 1)).astype(float)
    y = np.isin(codes[:, 0] % 7, [0, 2, 5])
    assert accuracy(Knn(categorical=[0]), codes, y) > 0.95


def test_a_new_class_is_predicted_soon():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(10_200, 3))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    y[10_000:] = np.where(X[10_000:, 1] > 0.5, "new", y[10_000:])
    learner = Knn()
    learner.learn(X, y)
    asked = rng.normal(size=(200, 3))
    asked[:, 1] = np.abs(asked[:, 1]) + 1.0
    assert (learner.predict(asked).argmax(axis=1) == learner.classes.index("new")).mean() > 0.6


def test_heavy_examples_have_more_votes():
    X, y = np.zeros((40, 1)), ["a", "b"] * 20
    learner = Knn()
    learner.learn(X, y, weights=[1.0, 9.0] * 20)
    assert learner.predict(X[:1])[0, 1] > 0.8
    for weight in (1e-300, 1e90):
        learner = Knn()
        learner.learn(X, y, weights=[weight] * 40)
        assert learner.predict(X[:1])[0] == pytest.approx([0.5, 0.5], abs=0.1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_regression_whatever_the_scale(scale):
    rng = np.random.default_rng(9)
    X = rng.uniform(-1, 1, size=(4000, 3))
    y = scale * (np.sin(3 * X[:, 0]) + X[:, 1] + 5.0)
    learner = Knn(task="regression")
    said = learner.test_then_train(X, y)
    assert np.abs(said - y)[2000:].mean() < 0.1 * scale


def test_regression_follows_the_line_past_what_it_has_seen():
    X = np.arange(600.0)[:, None]
    said = Knn(task="regression").test_then_train(X, 3.0 * X[:, 0])
    assert np.abs(said - 3.0 * X[:, 0])[300:].mean() < 60.0  # the mean of its neighbours lags more


def test_late_labels_give_the_answers_of_calls_row_by_row():
    rng = np.random.default_rng(10)
    X = rng.normal(size=(400, 4))
    for task, y in (("classification", rng.integers(0, 3, 400)), ("regression", X[:, 0] ** 2)):
        for delay in (0, 30):
            whole, single = SMALL(task=task), SMALL(task=task)
            said = whole.test_then_train(X, y, delay=delay)
            for i in range(len(X)):
                if i > delay:
                    single.learn(X[i - delay - 1 : i - delay], y[i - delay - 1 : i - delay])
                answer = single.predict(X[i : i + 1])[0]
                if task == "regression":
                    assert same(np.array(answer), np.array(said[i]))
                else:
                    assert same(answer, said[i, : len(answer)])
                    assert not said[i, len(answer) :].any()
            late = slice(len(X) - delay - 1, None)
            single.learn(X[late], y[late])
            assert same(single.state(), whole.state())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 90), max_size=6), st.booleans())
def test_any_split_into_batches_gives_the_same_state(seed, cuts, values):
    rng = np.random.default_rng(seed)
    X = rng.choice([np.nan, -1.0, 0.0, 2.5, 1e50], size=(120, 3))
    y = rng.integers(0, 4, 120)
    weights = rng.choice([0.0, 0.5, 1.0, 7.0], size=120)
    whole, parts = (
        Knn(size=37, long=11, categorical=[2], task="regression" if values else "classification", seed=seed)
        for _ in range(2)
    )
    whole.learn(X, y, weights)
    for start, stop in pairwise([0, *sorted(cuts), 120]):
        parts.learn(X[start:stop], y[start:stop], weights[start:stop])
    assert same(whole.state(), parts.state())
    said = whole.predict(X)
    assert np.isfinite(said).all()
    if not values:
        assert (said > 0.0).all()
        assert np.allclose(said.sum(axis=1), 1.0, atol=1e-12)


def test_neighbours_are_the_nearest_by_the_metric():
    X = np.arange(30.0)[:, None]
    learner = Knn(size=30, neighbours=1, smooth=1e-12, long=0, max_metric=0)
    learner.learn(X, np.arange(30))
    said = learner.predict(X[-14:] + 0.2).argmax(axis=1)  # the shortest memory has 16
    assert said.tolist() == list(range(16, 30))


@pytest.mark.parametrize(
    ("part", "place", "value"),
    [
        ("counts", HAVE, 10**6),
        ("counts", HAVE, -1),
        ("counts", KEPT, 61),
        ("counts", SEEN, 4),
        ("counts", 0, 300),
        ("targets", (0, 3), 7),
        ("targets", (0, 3), -2),
        ("shares", 0, 0.0),
        ("shares", 0, np.nan),
        ("weights", 0, 0.0),
        ("metric", (0, 0), np.inf),
        ("points", (0, 0), np.nan),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(part, place, value):
    X = np.random.default_rng(11).normal(size=(700, 3))
    learner = SMALL()
    learner.learn(X, np.digitize(X[:, 0], [-0.5, 0.5]))
    before = learner.state()
    damaged = stored(before)
    damaged[part][place] = value
    with pytest.raises(IntegrityError):
        learner.restore(damaged)
    assert same(learner.state(), before)


def test_a_state_of_another_size_is_refused():
    learner = SMALL()
    learner.learn(np.zeros((3, 2)), ["a", "b", "a"])
    with pytest.raises(IntegrityError, match="rows has shape"):
        Knn(size=100).restore(learner.state())


@pytest.mark.parametrize(
    "wrong", [{"size": 1}, {"long": -1}, {"neighbours": 0}, {"smooth": 0.0}, {"pace": -1.0}, {"refresh": 0}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidError, match=next(iter(wrong))):
        Knn(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "least"), [("elec", 0.89), ("insects", 0.77), ("phishing", 0.93)])
def test_one_default_is_good_on_real_streams(stream, least, real_stream):
    X, y = real_stream(stream)
    assert accuracy(Knn(), np.asarray(X, dtype=float), np.asarray(y)) >= least
