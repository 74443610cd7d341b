"""The patches learner: the contract, what trees are for, drift, memory, damage."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks import check_learner
from everlearn.learners.patches import Patches
from everlearn.learners.patches_grove import (
    AGE,
    COLUMN,
    DEPTH,
    HIST,
    HIST_FREE,
    LEFT,
    NODE_FREE,
    NODE_USED,
    RIGHT,
    ROOT,
    SEEN,
    SIZE,
)
from everlearn.learners.states import same, size, stored

SMALL = partial(Patches, trees=3, max_nodes=15)
SOME = partial(Patches, trees=4)


def accuracy(learner, X, y):
    """Share of right answers to rows that were answered before they were learned."""
    said = learner.test_then_train(X, y)
    return np.mean([learner.classes[best] == label for best, label in zip(said.argmax(1), y, strict=True)])


def right(learner, X, y):
    """Share of right answers to rows that are not learned."""
    return np.mean(np.array(learner.classes)[learner.predict(X).argmax(1)] == y)


def xor(rows, seed, columns=2):
    """Rows whose class is the sign of a product."""
    X = np.random.default_rng(seed).uniform(-1, 1, size=(rows, columns))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.mark.parametrize(("name", "check"), list(check_learner(SMALL)))
def test_keeps_the_contract(name, check):
    check()


def test_it_learns_how_columns_act_together():
    X, y = xor(3000, 0)
    learner = SOME()
    learner.learn(X[:2500], y[:2500])
    assert right(learner, X[2500:], y[2500:]) > 0.93


def test_columns_that_say_nothing_do_little_harm():
    X = np.random.default_rng(1).uniform(-1, 1, size=(3000, 20))
    y = ((X[:, 0] > -0.3) & (np.abs(X[:, 1]) < 0.6)).astype(int)
    learner = SOME()
    learner.learn(X[:2500], y[:2500])
    assert right(learner, X[2500:], y[2500:]) > 0.95


def test_it_splits_at_a_slant():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 2))
    y = (np.floor(X[:, 0] + X[:, 1]) % 2).astype(int)  # stripes
    scores = []
    for sums in (0, 8):
        learner = SOME(sums=sums)
        learner.learn(X[:2500], y[:2500])
        scores.append(right(learner, X[2500:], y[2500:]))
    assert scores[1] > scores[0] + 0.05


def test_it_follows_an_abrupt_drift_and_replaces_its_members():
    X, y = xor(2000, 3)
    y[1000:] = 1 - y[1000:]
    learner = SOME()
    learner.learn(X[:1000], y[:1000])
    assert accuracy(learner, X[1000:1300], y[1000:1300]) > 0.6
    learner.learn(X[1300:1500], y[1300:1500])
    assert right(learner, X[1500:], y[1500:]) > 0.88
    assert (learner.state()["trees"][::2, AGE] < 700).sum() >= 2  # of four


def test_it_follows_concepts_that_recur():
    X, y = xor(6000, 16)
    turned = np.arange(6000) // 1500 % 2 == 1
    y[turned] = 1 - y[turned]
    said = SOME().test_then_train(X, y).argmax(axis=1) == (y != y[0])  # y[0] is class 0
    assert min(said[start + 400 : start + 1500].mean() for start in range(0, 6000, 1500)) > 0.9


def test_no_member_is_replaced_without_a_drift():
    X, y = xor(3000, 4)
    learner = SOME()
    learner.learn(X, y)
    # The first rows are learned anew when row 64 has come. Poisson(6) draws a row not at all 1 time in 400.
    assert (learner.state()["trees"][::2, AGE] > 0.98 * 2900).all()


def test_categories_are_told_apart_by_the_digits_of_their_codes():
    rng = np.random.default_rng(5)
    X = rng.integers(0, 40, size=(4000, 1)).astype(float)
    y = rng.integers(0, 3, 40)[X[:, 0].astype(int)]
    learner = SOME(categorical=[0])
    learner.learn(X[:3000], y[:3000])
    assert right(learner, X[3000:], y[3000:]) > 0.9
    assert np.allclose(learner.predict(np.array([[1e14], [-3.0], [np.nan]])).sum(axis=1), 1.0)


def test_a_missing_value_is_a_value():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2000, 3))
    y = rng.integers(0, 2, 2000)
    X[y == 1, 2] = np.nan
    learner = SOME()
    learner.learn(X, y)
    told = learner.predict(np.array([[0.0, 0.0, 0.3], [0.0, 0.0, np.nan]])).argmax(axis=1)
    assert [learner.classes[best] for best in told] == [0, 1]


def test_a_new_class_is_known_soon():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(2000, 4))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    new = (np.arange(2000) >= 1500) & (X[:, 1] > 0.5)
    y[new] = "c"
    learner = SOME()
    learner.learn(X[:1500], y[:1500])
    assert learner.classes == ["a", "b"] or learner.classes == ["b", "a"]
    learner.learn(X[1500:1700], y[1500:1700])
    last = np.arange(2000) >= 1700
    assert right(learner, X[last & new], y[last & new]) > 0.8


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_a_regression_of_pieces_whatever_the_scale(scale):
    rng = np.random.default_rng(8)
    X = rng.uniform(-1, 1, size=(4000, 3))
    y = scale * np.where(X[:, 0] > 0, 10.0 + 3.0 * X[:, 1], -5.0 * X[:, 2])
    learner = SOME(task="regression")
    learner.learn(X[:3500], y[:3500])
    error = np.abs(learner.predict(X[3500:]) - y[3500:]).mean()
    assert error < 0.4 * scale  # a line alone errs by 1.5


def test_a_regression_follows_a_drift_and_does_not_extrapolate():
    rng = np.random.default_rng(9)
    X = rng.uniform(-1, 1, size=(3000, 2))
    y = 5.0 * X[:, 0]
    y[1500:] *= -1.0
    learner = SOME(task="regression")
    said = learner.test_then_train(X, y)
    assert np.abs(said[2000:] - y[2000:]).mean() < 0.3
    far = learner.predict(np.array([[1e6, 0.0], [-1e6, 0.0]]))
    assert np.abs(far).max() <= 10.0 + 1e-9  # half as much again as the range of 10 on either side


def test_heavy_rows_count_more_than_light_ones():
    rng = np.random.default_rng(10)
    X = rng.uniform(-1, 1, size=(1500, 2))
    y = (np.abs(X[:, 0]) < 0.5).astype(int)
    told = np.where(rng.random(1500) < 0.6, 1 - y, y)  # more often wrong than right
    plain, weighted = SOME(), SOME()
    plain.learn(X, told)
    weighted.learn(X, told, weights=np.where(told == y, 3.0, 0.3))
    assert right(plain, X, y) < 0.5
    assert right(weighted, X, y) > 0.9


def test_seeds_make_other_trees():
    X, y = xor(300, 11)
    answers = []
    for seed in (0, 0, 1, 2**64 - 1, -1):
        learner = SOME(seed=seed)
        learner.learn(X, y)
        answers.append(learner.predict(X))
    assert same(answers[0], answers[1])
    assert not np.allclose(answers[0], answers[2])
    assert same(answers[3], answers[4])


def test_trees_and_state_are_bounded():
    rng = np.random.default_rng(12)
    X = rng.normal(size=(6000, 3))
    y = (np.floor(3.0 * X[:, 0]) % 2 == np.floor(3.0 * X[:, 1]) % 2).astype(int)
    y[3000:] = (np.floor(3.0 * X[3000:, 2]) % 2).astype(int)
    learner = SMALL(sums=2)
    learner.learn(X, y)
    state = learner.state()
    assert 11 <= state["trees"][::2, SIZE].max() <= 15
    t, n, s, e, k = 3, 15, 3, 2, 2
    most = (1 + 4 / n) * (16 * t * n * (s + 1) * (k + 1) + 68 * t * n * (s + e) * (k + 2))
    fixed = sum(size(state[name]) for name in ("ring", "trees", "spaces", "mixes", "records", "scale"))
    assert size(state) <= most + fixed + 20_000


def taught():
    """The state of a learner whose pools have had free places."""
    X, y = xor(1200, 13)
    y[600:] = 1 - y[600:]
    learner = SMALL()
    learner.learn(X, y)
    return learner.state()


def test_places_are_given_back_and_taken_again():
    state = taught()
    assert state["pool"][NODE_FREE] >= 0
    assert state["pool"][HIST_FREE] >= 0
    learner = SMALL()
    learner.restore(stored(state))
    X, y = xor(1200, 14)
    learner.learn(X, y)
    learner.restore(stored(learner.state()))  # each node and histogram is in exactly one place
    assert right(learner, X, y) > 0.8


def put(name, at, value):
    """A damage to a state."""

    def damage(state):
        state[name][at] = value

    return damage


def shorter(name):
    """A pool that has lost half of its places."""

    def damage(state):
        state[name] = state[name][: len(state[name]) // 2]

    return damage


def inner(state):
    """The root of a tree that has children."""
    roots = state["trees"][::2, ROOT]
    return next(int(root) for root in roots if state["links"][root, COLUMN] >= 0)


def at_root(column, value):
    """A damage to an inner node."""

    def damage(state):
        state["links"][inner(state), column] = value

    return damage


def crossed(state):
    """Two ways to one child: no tree."""
    root = inner(state)
    state["links"][root, LEFT] = state["links"][root, RIGHT]


def circle(state):
    """A child that leads back to its root."""
    root = inner(state)
    state["links"][root, LEFT] = root


def shared(state):
    """Two leaves that count in one histogram."""
    leaves = np.flatnonzero((state["links"][:, COLUMN] == -1) & (state["links"][:, HIST] >= 0))
    state["links"][leaves[0], HIST] = state["links"][leaves[1], HIST]


def endless(state):
    """A list of free nodes that leads back to its head."""
    head = state["pool"][NODE_FREE]
    state["links"][head, LEFT] = head


@pytest.mark.parametrize(
    "damage",
    [
        *(shorter(name) for name in ("links", "nodes", "counts", "lines", "hists", "edges")),
        put("pool", NODE_USED, 10**6),
        put("pool", NODE_USED, 5),
        put("pool", NODE_FREE, 10**6),
        put("pool", HIST_FREE, -2),
        put("pool", SEEN, 3),
        put("pool", SEEN, 1),
        put("trees", (0, ROOT), -1),
        put("trees", (0, ROOT), 10**6),
        put("trees", (0, SIZE), 16),
        put("spaces", (0, 0), 2),
        put("ring", (0, -2), 2.0),
        put("ring", (0, -2), 0.5),
        put("ring", (0, -1), np.nan),
        put("scale", (2, 0), np.inf),
        put("hists", (0, 0, 0, 0), -1.0),
        put("edges", (1, 0, 0), np.nan),
        put("lines", (0, 0, 0), np.nan),
        at_root(COLUMN, 99),
        at_root(COLUMN, -1),
        at_root(LEFT, 10**6),
        at_root(RIGHT, -1),
        at_root(HIST, 0),
        at_root(DEPTH, 1),
        crossed,
        circle,
        shared,
        endless,
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damage):
    state, learner = taught(), SMALL()
    learner.restore(stored(state))
    damaged = stored(state)
    damage(damaged)
    with pytest.raises(IntegrityError):
        learner.restore(damaged)
    assert same(learner.state(), state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trees", 0), ("trees", 2.5), ("subspace", 0.0), ("subspace", 1.5), ("sums", -1), ("bag", 0),
        ("bag", 100), ("grace", 0), ("caution", -1.0), ("memory", np.nan), ("step", 0), ("warning", 1.0),
        ("warning", 1e-6), ("drift", 0.5), ("max_nodes", 0), ("max_columns", 0), ("max_classes", 1),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_named(name, value):
    field = "warning" if name == "drift" else name
    with pytest.raises(InvalidError, match=f"^{field}: "):
        Patches(**{name: value})


@pytest.mark.parametrize("parameters", [{"subspace": 0.5}, {"max_columns": 2}, {"sums": 0, "max_nodes": 1}])
def test_it_works_with_few_columns_and_no_splits(parameters):
    rng = np.random.default_rng(15)
    X = rng.normal(size=(800, 6))
    y = (X.sum(axis=1) > 0).astype(int)
    learner = SOME(trees=6, **parameters)
    learner.learn(X, y)
    assert right(learner, X, y) > 0.75


def test_a_huge_weight_counts_as_64():
    X, y = xor(300, 17)
    answers = []
    for heavy in (64.0, 1e90):
        learner = SOME()
        learner.learn(X, y, weights=np.where(np.arange(300) % 3, 1.0, heavy))
        answers.append(learner.predict(X))
    assert same(answers[0], answers[1])
    assert np.isfinite(answers[0]).all()
