"""The image learner: exact, whatever the order, and as if it had never seen what it was told to forget."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build
from everlearn.learners.checks import check_learner
from everlearn.learners.images.features import GRAIN
from everlearn.learners.images.packed import Gram
from everlearn.learners.states import same, stored

PLAIN = partial(build, "image", projection=100)
DIGITS = partial(build, "image", shape=(1, 8, 8), scale=16.0, patch=3, filters=24, alpha=0.003)


@pytest.fixture(scope="module")
def digits():
    """Rows of 8 x 8 pixels in an order by chance, and their digits."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order], y[order]


def by_class(learner, y):
    """The weights (M + 1, 10) with a column for each digit in its place."""
    return learner.weights()[:, np.argsort(learner.classes)]


@pytest.mark.parametrize(("name", "check"), list(check_learner(PLAIN, tasks=("classification",))))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_packed_sums_are_the_matrix(size):
    rng = np.random.default_rng(size)
    rows, right = rng.normal(size=(20, size)), rng.normal(size=(size, 3))
    gram = Gram(size)
    gram.add(rows[:13])
    gram.add(rows[13:])
    gram.raise_diagonal(np.arange(size, dtype=float))
    matrix = rows.T @ rows + np.diag(np.arange(size, dtype=float))
    assert len(gram.values) == size * (size + 1) // 2
    np.testing.assert_allclose(gram.diagonal(), np.diag(matrix))
    np.testing.assert_allclose(gram.copy().solve(right), np.linalg.solve(matrix, right), rtol=1e-8)


@pytest.mark.parametrize("features", ["learned", "random"])
@pytest.mark.parametrize("mirror", [False, True])
def test_weights_are_the_joint_solution_whatever_the_order_of_tasks(digits, features, mirror):
    X, y = digits
    make = partial(DIGITS, features=features, mirror=mirror, first=200)
    first = np.arange(len(y)) < 200  # what filters are learned from comes first, and is the same
    found = []
    for tasks in ((0, 1, 2, 3, 4), (3, 0, 4, 2, 1)):
        learner = make()
        learner.learn(X[first], y[first])
        for task in tasks:
            rows = ~first & (y // 2 == task)
            learner.learn(X[rows], y[rows])
        found.append(by_class(learner, y))
    assert np.array_equal(*found)
    phi = learner._map(X)
    spread = phi.var(axis=0).mean() * len(y) * learner.alpha
    centred, wanted = phi - phi.mean(axis=0), np.eye(10)[y] - np.eye(10)[y].mean(axis=0)
    rows = np.vstack([centred, np.sqrt(spread) * np.eye(phi.shape[1])])
    right = np.vstack([wanted, np.zeros((phi.shape[1], 10))])
    slopes = np.linalg.lstsq(rows, right, rcond=None)[0]
    np.testing.assert_allclose(found[0][:-1], slopes, atol=1e-6)


def test_features_are_of_an_image_alone_and_whole_grains(digits):
    X, _ = digits
    learner = DIGITS(features="random")
    learner.learn(X[:2], [0, 1])
    phi = learner._map(X[:70])
    assert np.array_equal(phi[13], learner._map(X[13:14])[0])
    assert np.array_equal(phi / GRAIN, np.rint(phi / GRAIN))


def test_with_mirror_an_image_and_its_mirror_image_are_one(digits):
    X, y = digits
    turned = X.reshape(-1, 8, 8)[:, :, ::-1].reshape(X.shape)
    learner = DIGITS(mirror=True, first=300)
    learner.learn(X, y)
    np.testing.assert_allclose(learner._map(X[:50]), learner._map(turned[:50]), atol=2 * GRAIN)


@pytest.mark.parametrize("features", ["learned", "random"])
@pytest.mark.parametrize("what", ["a class", "500 at random"])
def test_removing_is_never_having_seen(digits, features, what):
    X, y = digits
    later = np.arange(len(y)) >= 200
    rng = np.random.default_rng(1)
    gone = (
        later & (y == 7)
        if what == "a class"
        else np.isin(np.arange(len(y)), rng.permutation(1500)[:500] + 200)
    )
    learner, without = (DIGITS(features=features, first=200) for _ in range(2))
    learner.learn(X, y)
    learner.forget(X[gone][::-1], y[gone][::-1])
    without.learn(X[~gone], y[~gone])
    assert same(stored(learner.state())["gram"], without.state()["gram"])
    assert np.abs(by_class(learner, y) - by_class(without, y)).max() < 1e-6
    order = [learner.classes.index(c) for c in without.classes]
    np.testing.assert_allclose(learner.predict(X)[:, order], without.predict(X), atol=1e-6)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 99), max_size=60, unique=True), st.integers(0, 60))
def test_any_rows_can_be_removed_in_any_split(gone, cut):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(100, 3)), np.arange(100) % 3
    learner, without = PLAIN(), PLAIN()
    learner.learn(X, y)
    for part in (gone[:cut], gone[cut:]):
        learner.forget(X[part], y[part])
    stays = np.setdiff1d(np.arange(100), gone)
    without.learn(X[stays], y[stays])
    order = [learner.classes.index(c) for c in without.classes]
    np.testing.assert_allclose(learner.predict(X)[:, order], without.predict(X), atol=1e-6)


def test_a_class_whose_last_image_is_gone_has_no_chance(digits):
    X, y = digits
    learner = DIGITS(features="random")
    learner.learn(X, y)
    learner.forget(X[y == 3], y[y == 3])
    assert (learner.predict(X)[:, learner.classes.index(3)] == 0.0).all()
    learner.forget(X[y != 3], y[y != 3])
    np.testing.assert_allclose(learner.predict(X[:2]), 0.1)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((1, 64)), ["eleven"], "never learned"),
        (np.ones((300, 64)), [1] * 300, "only 182 are there"),
        (np.ones((1, 5)), [1], "columns"),
    ],
)
def test_what_cannot_be_removed_is_refused_and_nothing_is(digits, X, y, message):
    learner = DIGITS(features="random")
    learner.learn(*digits)
    before = learner.state()
    with pytest.raises(InvalidError, match=message):
        learner.forget(X, y)
    assert same(before, learner.state())


def test_an_image_that_filters_come_from_is_not_removed(digits):
    X, y = digits
    learner = DIGITS(first=200)
    learner.learn(X, y)
    assert not learner.exact_forgetting
    with pytest.raises(InvalidError, match="learn afresh without it"):
        learner.forget(X[[900, 199]], y[[900, 199]])
    assert DIGITS(features="random").exact_forgetting


def test_images_wait_only_until_there_are_filters(digits):
    X, y = digits
    learner = DIGITS(first=200)
    learner.learn(X[:199], y[:199])
    assert len(learner.state()["waiting"]) == 199
    np.testing.assert_allclose(learner.predict(X[:1])[0].sum(), 1.0)
    learner.forget(X[:9], y[:9])
    learner.learn(X[:10], y[:10])
    assert len(learner.state()["waiting"]) == 0
    other = DIGITS(first=200)
    other.restore(stored(learner.state()))
    learner.learn(X[300:], y[300:])
    other.learn(X[300:], y[300:])
    assert same(learner.state(), other.state())


def test_it_tells_digits_apart_that_came_class_after_class(digits):
    X, y = digits
    train = np.arange(len(y)) < 1400
    learner = DIGITS(first=200, filters=64)
    for task in range(5):
        rows = train & (y // 2 == task)
        learner.learn(X[rows], y[rows])
    said = np.array(learner.classes)[learner.predict(X[~train]).argmax(axis=1)]
    assert (said == y[~train]).mean() > 0.97


def test_a_frozen_backbone_gives_the_features(digits):
    X, y = digits
    learner = build(
        "image", shape=(8, 8), scale=16.0, backbone=lambda images: images.reshape(len(images), -1)[:, ::2]
    )
    learner.learn(X, y)
    assert learner.weights().shape == (33, 10)
    other = build(
        "image", shape=(8, 8), scale=16.0, backbone=lambda images: images.reshape(len(images), -1)[:, ::2]
    )
    other.restore(stored(learner.state()))
    assert same(learner.predict(X), other.predict(X))


def test_a_frozen_network_gives_the_features(digits):
    torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)
    X, y = digits
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 30), torch.nn.ReLU(), torch.nn.Dropout()
    )
    learner = build("image", shape=(1, 8, 8), scale=16.0, backbone=module)
    learner.learn(X, y)
    assert same(learner.predict(X[:9]), learner.predict(X[:9]))
    assert module.training


def test_a_state_that_is_not_whole_is_refused(digits):
    X, y = digits
    learner = DIGITS(first=200)
    learner.learn(X, y)
    for name in ("gram", "filters", "marks", "sums"):
        with pytest.raises(IntegrityError):
            DIGITS(first=200).restore({**learner.state(), name: np.zeros(3)})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"task": "regression"}, "task"),
        ({"features": "deep"}, "features"),
        ({"shape": (1, 8, 8), "patch": 9}, "shape"),
        ({"shape": (1, 8, 8), "mirror": True, "filters": 5}, "filters"),
        ({"alpha": 0.0}, "alpha"),
        ({"threshold": -1.0}, "threshold"),
    ],
)
def test_a_wrong_value_is_refused_by_field(given, field):
    with pytest.raises(InvalidError) as caught:
        build("image", **given)
    assert [fault.field for fault in caught.value.faults] == [field]
