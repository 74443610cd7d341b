"""The ridge learner: equal to the batch solution whatever the order, and to never having seen a row."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks import check_learner
from everlearn.learners.ridge import Ridge
from everlearn.learners.ridge_kernels import recursive_answer, recursive_learn, recursive_penalty
from everlearn.learners.states import same, stored

SMALL = partial(Ridge, size=12)
CLOSE = 1e-8


def batch(phi, y, weights=None, alpha=1.0):
    """The penalised least-squares solution by a QR of all rows: a function of features (n, M)."""
    phi, y = phi[:, :-1], np.asarray(y, dtype=float).reshape(len(phi), -1)
    weights = np.ones(len(phi)) if weights is None else weights
    share = weights / weights.sum()
    mean, mean_y = share @ phi, share @ y
    spread = np.sqrt(share @ (phi - mean) ** 2)
    used = spread > 1e-12 * np.abs(phi).max(axis=0)
    root = np.sqrt(weights)[:, None]
    rows = np.vstack([root * (phi - mean)[:, used], np.diag(np.sqrt(alpha) * spread[used])])
    right = np.vstack([root * (y - mean_y), np.zeros((used.sum(), y.shape[1]))])
    unit = np.r_[spread[used]]
    slopes = np.zeros((phi.shape[1], y.shape[1]))
    slopes[used] = np.linalg.lstsq(rows / unit, right, rcond=None)[0] / unit[:, None]
    return lambda other: (other[:, :-1] - mean) @ slopes + mean_y


def scores(learner, X):
    """What the learner's solution gives before it is made a probability."""
    solution, _ = learner._solve()
    apart = learner._map(X) - solution[-1]
    apart[:, -1] = 1.0
    outputs = 1 if learner.task == "regression" else len(learner.classes)
    return apart @ solution[:outputs].T


def stream(rows, seed=0, task="regression"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 5))
    X[:, 3] = rng.integers(0, 6, rows)
    y = X[:, 0] * X[:, 1] + np.sin(X[:, 2]) + 0.3 * X[:, 3] + 0.1 * rng.normal(size=rows)
    return X, (y if task == "regression" else np.digitize(y, [0.2, 1.4]))


def indicators(learner, y):
    if learner.task == "regression":
        return y
    return np.equal.outer(np.asarray(y), np.array(learner.classes)).astype(float)


def apart(a, b):
    """The largest difference of answers, in units of their spread."""
    return float(np.abs(a - b).max() / max(np.std(b), 1e-300))


@pytest.mark.parametrize(("name", "check"), list(check_learner(SMALL)))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(SMALL, exact=False, gamma=0.999))))
def test_keeps_the_contract_recursively(name, check):
    check()


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(SMALL, gamma=0.99, features="relu"))))
def test_keeps_the_contract_with_fading(name, check):
    check()


def test_features_are_those_of_the_papers():
    X, _ = stream(50)
    for features in ("fourier", "relu", "linear"):
        learner = Ridge(task="regression", features=features, size=20, width=2.0, seed=4)
        learner.learn(X, X[:, 0])
        rng = np.random.Generator(np.random.PCG64(4))
        turned = X @ (rng.normal(size=(5, 20)) / (2.0 * np.sqrt(5)))
        if features == "fourier":
            drawn = np.sqrt(2 / 20) * np.cos(turned + rng.uniform(0, 2 * np.pi, 20))
        else:
            rng.uniform(size=20)
            drawn = np.sqrt(2 / 20) * np.maximum(turned + rng.normal(size=20), 0.0)
        expected = np.hstack([X, drawn[:, : 0 if features == "linear" else 20], np.ones((50, 1))])
        assert np.allclose(learner._map(X), expected, atol=1e-12)


# -- streaming is batch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("features", ["fourier", "relu", "linear"])
@pytest.mark.parametrize("gamma", [1.0, 0.999])
def test_streaming_is_the_batch_solution(task, features, gamma):
    X, y = stream(2000, task=task)
    learner = Ridge(task=task, features=features, gamma=gamma, alpha=0.7, categorical=[3])
    for start in range(0, 2000, 77):
        learner.learn(X[start : start + 77], y[start : start + 77])
    weights = gamma ** np.arange(1999.0, -1.0, -1.0)
    expected = batch(learner._map(X), indicators(learner, y), weights, 0.7)
    asked, _ = stream(300, seed=1)
    assert apart(scores(learner, asked), expected(learner._map(asked))) < CLOSE
    if task == "regression":
        assert np.allclose(learner.predict(asked), scores(learner, asked)[:, 0], atol=1e-12)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_order_and_the_batches_do_not_matter(task):
    X, y = stream(1500, task=task)
    first = Ridge(task=task)
    first.learn(X, y)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        order = rng.permutation(1500)
        other = Ridge(task=task)
        for part in np.split(order, np.sort(rng.choice(1500, 9, replace=False))):
            other.learn(X[part], y[part])
        places = [other.classes.index(label) for label in first.classes]
        said = other.predict(X)
        assert apart(said if task == "regression" else said[:, places], first.predict(X)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_streaming_is_the_batch_solution_over_100_000_rows_in_any_order(task):
    X, y = stream(100_000, task=task)
    asked, _ = stream(1000, seed=1)
    for order in (slice(None), slice(None, None, -1), np.random.default_rng(2).permutation(100_000)):
        learner = Ridge(task=task)
        rows, labels = np.ascontiguousarray(X[order]), y[order]
        for start in range(0, 100_000, 1013):
            learner.learn(rows[start : start + 1013], labels[start : start + 1013])
        expected = batch(learner._map(X), indicators(learner, y))
        assert apart(scores(learner, asked), expected(learner._map(asked))) < CLOSE


@pytest.mark.parametrize("gamma", [1.0, 0.9999])
def test_scale_and_shift_of_columns_do_not_matter(gamma):
    rng = np.random.default_rng(3)
    base = rng.normal(size=(3000, 6))
    y = base @ [1.0, -2.0, 0.5, 0.0, 3.0, 1.0] + 0.1 * rng.normal(size=3000) + 1e6
    X = base * [1e-3, 1.0, 1e3, 1e6, 1.0, 1e-3] + [0.0, 1e6, -1e6, 1e6, 1e6, 1.0]
    X = np.hstack([X, X[:, :1], np.full((3000, 1), 1e6)])  # a column twice, and a constant one
    order = rng.permutation(3000)
    said = []
    for rows in (np.arange(3000), order):
        learner = Ridge(task="regression", features="linear", gamma=gamma)
        learner.learn(X[rows], y[rows])
        weights = np.empty(3000)
        weights[rows] = gamma ** np.arange(2999.0, -1.0, -1.0)
        said.append(learner.predict(X))
        assert apart(said[-1], batch(learner._map(X), y, weights)(learner._map(X))[:, 0]) < CLOSE
    assert np.abs(said[0] - y).mean() < 0.2


def test_columns_of_any_unit_give_the_same_answers():
    X, y = stream(800)
    plain, scaled = (
        Ridge(task="regression", features="linear"),
        Ridge(task="regression", scale=[1e6, 1.0, 1e-3, 1.0, 1.0]),
    )
    plain.learn(X, y)
    other = Ridge(task="regression", features="linear")
    other.learn(X * [1e6, 1e-6, 1e3, 7.0, 1.0], y)
    assert apart(other.predict(X * [1e6, 1e-6, 1e3, 7.0, 1.0]), plain.predict(X)) < CLOSE
    same_units, fourier = X * [1e6, 1.0, 1e-3, 1.0, 1.0], Ridge(task="regression")
    fourier.learn(X, y)
    scaled.learn(same_units, y)
    assert apart(scaled.predict(same_units), fourier.predict(X)) < CLOSE


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_row_of_weight_three_is_three_rows(task):
    X, y = stream(300, task=task)
    weights = np.where(np.arange(300) % 5 == 0, 3.0, 1.0)
    heavy, often = Ridge(task=task), Ridge(task=task)
    heavy.learn(X, y, weights)
    repeated = np.repeat(np.arange(300), weights.astype(int))
    often.learn(X[repeated], y[repeated])
    assert apart(heavy.predict(X), often.predict(X)) < 1e-10


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_fading_is_a_weight(task):
    X, y = stream(900, task=task)
    fading, weighted = Ridge(task=task, gamma=0.995), Ridge(task=task)
    fading.learn(X, y)
    weighted.learn(X, y, 0.995 ** np.arange(899.0, -1.0, -1.0))
    assert apart(fading.predict(X), weighted.predict(X)) < 1e-10


def test_a_long_stream_that_fades_fast_neither_overflows_nor_underflows():
    X, y = stream(100_000)
    learner = Ridge(task="regression", features="linear", gamma=0.99)  # a span of 2^1450 in weight
    learner.learn(X[:70_000], y[:70_000])
    learner.learn(X[70_000:], y[70_000:])
    newest = slice(95_000, None)
    weights = 0.99 ** np.arange(4999.0, -1.0, -1.0)
    expected = batch(learner._map(X[newest]), y[newest], weights)
    assert apart(learner.predict(X[:500]), expected(learner._map(X[:500]))[:, 0]) < CLOSE
    short = Ridge(task="regression", features="linear", gamma=0.99)
    short.learn(X[newest], y[newest])
    assert apart(learner.predict(X[:500]), short.predict(X[:500])) < CLOSE


# -- forgetting ------------------------------------------------------------------------------------------

HALVES = {
    "random": lambda n: np.random.default_rng(5).permutation(n)[: n // 2],
    "first": lambda n: np.arange(n // 2),
    "last": lambda n: np.arange(n // 2, n),
    "every other": lambda n: np.arange(0, n, 2),
    "all but ten": lambda n: np.delete(np.arange(n), np.arange(7, n, n // 9)[:10]),
}


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("gamma", [1.0, 0.9999, 0.99])
@pytest.mark.parametrize("half", HALVES)
def test_forgetting_is_never_having_seen(task, gamma, half):
    X, y = stream(2000, task=task)
    own = np.random.default_rng(6).choice([0.5, 1.0, 3.0 if task == "regression" else 0.2], 2000)
    gone = HALVES[half](2000)
    rest = np.setdiff1d(np.arange(2000), gone)
    learner, trained = (Ridge(task=task, size=20, gamma=g, categorical=[3]) for g in (gamma, 1.0))
    learner.learn(X, y, own)
    pieces = np.array_split(gone, 3)
    for piece in pieces[:2]:
        learner.forget(X[piece], y[piece], piece, own[piece])
    other = Ridge(task=task, size=20, gamma=gamma, categorical=[3])
    other.restore(stored(learner.state()))
    other.forget(X[pieces[2]], y[pieces[2]], pieces[2], own[pieces[2]])
    weights = own[rest] * gamma ** (1999.0 - rest)
    trained.learn(X[rest], y[rest], weights)
    asked, _ = stream(200, seed=1)
    said = other.predict(asked)
    if task == "classification":
        places = [other.classes.index(label) for label in trained.classes]
        assert np.abs(said[:, places] - trained.predict(asked)).max() < CLOSE
        said = scores(other, asked)[:, places]
        expected = scores(trained, asked)
    else:
        expected = trained.predict(asked)
    assert apart(said, expected) < CLOSE
    solved = batch(trained._map(X[rest]), indicators(trained, y[rest]), weights)
    assert apart(said.reshape(200, -1), solved(trained._map(asked))) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [1.0, 0.9999])
@pytest.mark.parametrize("half", ["random", "first", "last"])
def test_forgetting_half_of_100_000_rows(gamma, half):
    X, y = stream(100_000)
    gone = HALVES[half](100_000)
    rest = np.setdiff1d(np.arange(100_000), gone)
    learner = Ridge(task="regression", gamma=gamma)
    learner.learn(X, y)
    learner.forget(X[gone], y[gone], gone)
    solved = batch(learner._map(X[rest]), y[rest], gamma ** (99_999.0 - rest))
    asked, _ = stream(1000, seed=1)
    assert apart(learner.predict(asked), solved(learner._map(asked))[:, 0]) < CLOSE


@pytest.mark.parametrize("gamma", [1.0, 0.9999, 0.99])
def test_forgetting_what_came_first_is_starting_later(gamma):
    X, y = stream(1200)
    learner, later = Ridge(task="regression", gamma=gamma), Ridge(task="regression", gamma=gamma)
    learner.learn(X, y)
    learner.forget(X[:700], y[:700], 0)
    later.learn(X[700:], y[700:])
    assert apart(learner.predict(X), later.predict(X)) < CLOSE
    for one in (learner, later):
        one.learn(X[:300], y[:300])
    assert apart(learner.predict(X), later.predict(X)) < CLOSE


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.999, 0.95]), st.booleans(), st.data())
def test_any_rows_can_be_forgotten_at_any_time(seed, gamma, values, data):
    """Learning and forgetting in any order leave what learning the rest leaves."""
    task = "regression" if values else "classification"
    rng = np.random.default_rng(seed)
    X = rng.choice([np.nan, -1.0, 0.0, 0.5, 2.0, 1e3], size=(60, 2)) + rng.normal(size=(60, 2))
    y = rng.normal(size=60) * 1e3 + 1e5 if values else rng.choice(["a", "b", "c"], 60)
    learner = Ridge(task=task, gamma=gamma, size=6, scale=[10.0, 1.0])
    there = []
    for start in range(0, 60, 15):
        learner.learn(X[start : start + 15], y[start : start + 15])
        there += range(start, start + 15)
        gone = data.draw(st.lists(st.sampled_from(there), unique=True, max_size=len(there) - 1))
        learner.forget(X[gone], y[gone], np.array(gone, dtype=int))
        there = [row for row in there if row not in gone]
    trained = Ridge(task=task, size=6, scale=[10.0, 1.0])
    trained.learn(X[there], y[there], gamma ** (59.0 - np.array(there)))
    said, expected = learner.predict(X), trained.predict(X)
    if not values:
        said = said[:, [learner.classes.index(label) for label in trained.classes]]
    assert np.abs(said - expected).max() < CLOSE * (1e3 if values else 1.0)


@pytest.mark.parametrize("gamma", [1.0, 0.99])
def test_with_everything_forgotten_nothing_is_known_and_it_learns_on(gamma):
    X, y = stream(500)
    learner, fresh = Ridge(task="regression", gamma=gamma), Ridge(task="regression", gamma=gamma)
    learner.learn(X, y)
    order = np.random.default_rng(7).permutation(500)
    learner.forget(X[order], y[order], order)
    assert np.isnan(learner.predict(X)).all()
    assert all(not learner.state()[name].any() for name in ("gram", "moments", "extra", "left"))
    learner.learn(X[:200], y[:200])
    fresh.learn(X[:200], y[:200])
    assert apart(learner.predict(X), fresh.predict(X)) < CLOSE

    classes = Ridge(gamma=gamma)
    classes.learn(X[:4], ["a", "b", "a", "b"])
    classes.forget(X[:4:2], ["a", "a"], [0, 2])
    assert classes.predict(X[:3]).tolist() == [[0.0, 1.0]] * 3
    classes.forget(X[1:4:2], ["b", "b"], [1, 3])
    assert classes.predict(X[:3]).tolist() == [[0.5, 0.5]] * 3


def test_what_has_faded_beyond_telling_is_forgotten_with_the_rest():
    X, y = stream(20_000)
    learner = Ridge(task="regression", features="linear", gamma=0.99)
    learner.learn(X, y)
    learner.forget(X[5000:], y[5000:], 5000)  # what is left weighs 2^-217 of what there was
    assert np.isnan(learner.predict(X[:5])).all()
    learner.forget(X[:10], y[:10], 0)
    learner.learn(X[:300], y[:300])
    fresh = Ridge(task="regression", features="linear", gamma=0.99)
    fresh.learn(X[:300], y[:300])
    assert apart(learner.predict(X), fresh.predict(X)) < CLOSE


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"when": [0, 1, 40]}, "when: is not within 0 and 39"),
        ({"when": [0, 1, -1]}, "when: is not within 0 and 39"),
        ({"when": 38}, "when: is not within 0 and 39"),
        ({"when": [0, 1, 1]}, "when: has the same time for two rows"),
        ({"when": [0, 1]}, "when: has shape"),
        ({"when": [0.0, 1.5, 2.0]}, "when: holds values that are no whole numbers"),
        ({"when": [0.0, np.nan, 2.0]}, "when: holds values that are no whole numbers"),
        ({"when": ["a", "b", "c"]}, "when: holds values that are no whole numbers"),
        ({"y": ["a", "b", "z"]}, "y: holds 'z', which was never learned"),
        ({"y": ["a", "b"]}, "y: has 2 values for 3 rows"),
        ({"y": ["a", "b", None]}, "is missing"),
        ({"y": ["rare", "rare", "a"]}, "y: holds 2 rows of 'rare', but only 1 are there to forget"),
        ({"weights": [1.0, 1.0, -1.0]}, "weights: holds a negative"),
        ({"weights": [1.0, 1.0, 1e9]}, "weights: are more than all that is there"),
        ({"weights": [1.0]}, "weights: has shape"),
        ({"X": np.zeros((3, 2))}, "X: has 2 columns"),
        ({"X": np.zeros(3)}, "X: has 1 dimensions"),
    ],
)
def test_bad_input_is_refused_and_nothing_forgotten(changed, message):
    X = np.random.default_rng(8).normal(size=(40, 3))
    y = ["a", "b"] * 19 + ["rare", "a"]
    learner = SMALL()
    learner.learn(X, y)
    before = learner.state()
    with pytest.raises(InvalidError, match=message):
        learner.forget(**{"X": X[:3], "y": ["a", "b", "a"], "when": [0, 1, 2], **changed})
    assert same(learner.state(), before)


def test_forgetting_twice_is_refused():
    X, y = stream(20)
    learner = SMALL(task="regression")
    learner.learn(X, y)
    learner.forget(X[:15], y[:15], 0)
    with pytest.raises(InvalidError, match="holds 15 rows, but only 5 are there"):
        learner.forget(X[:15], y[:15], 0)
    learner.forget(X[:0], y[:0], [])
    learner.forget(X[:1], y[:1], [3], weights=[0.0])
    with pytest.raises(InvalidError, match="nothing has been learned"):
        SMALL(task="regression").forget(X, y, 0)
    with pytest.raises(InvalidError, match="use exact=True"):
        SMALL(task="regression", exact=False).forget(X, y, 0)


# -- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_answers_do_not_depend_on_how_it_was_asked_and_taught(task, exact):
    X, y = stream(300, task=task)
    whole, single, unasked = (SMALL(task=task, exact=exact, gamma=0.99) for _ in range(3))
    said = whole.test_then_train(X, y, delay=20)
    for i in range(300):
        if i > 20:
            single.learn(X[i - 21 : i - 20], y[i - 21 : i - 20])
        answer = single.predict(X[i : i + 1])[0]
        known = said[i] if task == "regression" else said[i, : len(answer)].copy()
        assert same(np.array(answer), np.array(known))
    unasked.learn(X, y)
    assert same(unasked.state(), whole.state())
    assert same(unasked.predict(X), whole.predict(X))


def calibration(answers, right, bins=10):
    """Expected calibration error: how far confidence is from accuracy, in the mean over rows."""
    place = np.minimum((answers * bins).astype(int), bins - 1)
    sizes = np.bincount(place.ravel(), minlength=bins)
    off = np.bincount(place.ravel(), (answers - right).ravel(), minlength=bins)
    return np.abs(off).sum() / sizes.sum()


@pytest.mark.parametrize("rows", [40, 150, 1000, 10_000])
@pytest.mark.parametrize("gamma", [1.0, 0.995])
def test_probabilities_are_calibrated(rows, gamma):
    """Log-odds that are linear in the columns, with 64 random features and little data in the way."""
    rng = np.random.default_rng(9)
    losses, errors, least = [], [], []
    for _ in range(5):
        X = rng.normal(size=(rows + 10_000, 4))
        truth = 1.0 / (1.0 + np.exp(-1.5 * X[:, 0] + X[:, 1] + 1.0))
        y = rng.random(len(X)) < truth
        learner = Ridge(gamma=gamma)
        learner.learn(X[:rows], y[:rows])
        said = learner.predict(X[rows:])[:, learner.classes.index(True)]
        y, truth = y[rows:], truth[rows:]
        losses.append(-np.log(np.where(y, said, 1.0 - said)).mean())
        least.append(-np.log(np.where(y, truth, 1.0 - truth)).mean())
        errors.append(calibration(said, y))
    prior = 0.62  # nats of the classes' shares alone
    known = min(rows, 2.0 / (1.0 - gamma)) if gamma < 1.0 else rows
    assert np.mean(losses) < min(np.mean(least) + 15.0 / known + 0.015, prior + 0.08)
    assert np.mean(errors) < (0.045 if known >= 1000 else 0.12)


def test_three_classes_of_normal_rows_are_told_apart_as_well_as_can_be():
    rng = np.random.default_rng(10)
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    y = rng.integers(0, 3, 6000)
    X = centres[y] + rng.normal(size=(6000, 2))
    densities = np.exp(-0.5 * ((X[:, None] - centres) ** 2).sum(axis=2))
    best = densities / densities.sum(axis=1, keepdims=True)
    learner = Ridge(features="linear")
    learner.learn(X[:4000], y[:4000])
    said = learner.predict(X[4000:])[:, np.argsort(learner.classes)]
    loss, least = (-np.log(p[np.arange(2000), y[4000:]]).mean() for p in (said, best[4000:]))
    assert loss < least + 0.05


def test_it_learns_what_no_line_can_tell():
    X, y = stream(3000)
    learner = Ridge(task="regression")
    learner.learn(X[:2000], y[:2000])
    assert np.mean((learner.predict(X[2000:]) - y[2000:]) ** 2) < 0.25 * y.var()


def test_a_new_class_is_predicted_soon():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(10_200, 3))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    X[10_000:][::2] += [0.0, 4.0, 0.0]
    y[10_000:][::2] = "new"
    learner = Ridge(gamma=0.999)
    said = learner.test_then_train(X, y)
    assert (said[10_150::2].argmax(axis=1) == learner.classes.index("new")).mean() > 0.8


def test_it_follows_a_drift_if_it_fades():
    X = np.random.default_rng(12).normal(size=(3000, 4))
    y = X[:, 0] > X[:, 1]
    y[1500:] = ~y[1500:]
    for exact in (True, False):
        learner = Ridge(gamma=0.99, exact=exact)
        said = learner.test_then_train(X, y)
        assert (np.array(learner.classes)[said[1800:].argmax(axis=1)] == y[1800:]).mean() > 0.85


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_recursion_is_the_batch_solution_of_the_features_it_was_given(outputs):
    """Without fading: ``(Phi^T Phi + alpha I)^-1 Phi^T Y``, and with it the weights are powers of gamma."""
    rng = np.random.default_rng(13)
    phi, labels, weights = rng.normal(size=(3000, 30)), rng.integers(0, 3, 3000), rng.uniform(0.5, 2.0, 3000)
    phi[:, -1] = 1.0
    for gamma, alpha in ((1.0, 1.0), (1.0, 1e-3), (0.999, 1.0)):
        inverse, solution = np.eye(30) / alpha, np.zeros((outputs, 30))
        score, gain = np.empty(outputs), np.empty(30)
        for row, label, weight in zip(phi, labels, weights, strict=True):
            recursive_answer(row, solution, outputs, score)
            value = -1 if outputs == 1 else label
            recursive_learn(row, value, float(label), weight, outputs, inverse, solution, gamma, score, gain)
        w = weights * gamma ** np.arange(2999.0, -1.0, -1.0)
        y = labels[:, None] if outputs == 1 else np.eye(3)[labels]
        left = (phi * w[:, None]).T @ phi + alpha * gamma**3000 * np.eye(30)
        expected = np.linalg.solve(left, (phi * w[:, None]).T @ y).T
        assert apart(solution, expected) < CLOSE


def test_the_penalty_of_the_recursion_does_not_fade():
    """With forgetting and rows that hardly vary, the inverse stays that of about the whole penalty."""
    rng = np.random.default_rng(14)
    phi, y = np.ones((5000, 10)), rng.normal(size=5000)
    phi[:, 0] = rng.normal(size=5000)
    inverse, solution, score, gain = np.eye(10), np.zeros((1, 10)), np.empty(1), np.empty(10)
    for i, row in enumerate(phi):
        recursive_answer(row, solution, 1, score)
        recursive_learn(row, -1, y[i], 1.0, 1, inverse, solution, 0.99, score, gain)
        recursive_penalty(i % 10, 10 * 0.01, inverse, solution, gain)
    w = 0.99 ** np.arange(4999.0, -1.0, -1.0)
    expected = np.linalg.inv((phi * w[:, None]).T @ phi + np.eye(10))
    assert np.allclose(inverse, expected, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_contributions_sum_to_the_scores(task):
    X, y = stream(700, task=task)
    X[::9, 1] = np.nan
    learner = Ridge(task=task, features="linear", categorical=[3])
    learner.learn(X, y)
    added = learner.contributions(X)
    total = scores(learner, X)
    assert added.shape == ((700, 6) if task == "regression" else (700, 6, 3))
    assert np.allclose(added.sum(axis=1), total[:, 0] if task == "regression" else total, atol=1e-10)
    moved = X.copy()
    moved[:, 2] += 1.0
    changed = np.abs(learner.contributions(moved) - added).reshape(700, 6, -1).max(axis=(0, 2))
    assert (changed > 1e-6).tolist() == [False, False, True, False, False, False]
    assert np.allclose(added[:, :-1].mean(axis=0), 0.0, atol=1e-10)  # each is apart from the mean row
    with pytest.raises(InvalidError, match="features='linear'"):
        Ridge().contributions(X)
    blank = Ridge(task=task, features="linear").contributions(X)
    assert blank.shape == ((700, 6) if task == "regression" else (700, 6, 0))


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": lambda counts: counts + np.array([5, 0, 0, 0, 0])},
        {"counts": lambda counts: counts + np.array([0, 1, 0, 0, 0])},
        {"counts": lambda counts: counts - np.array([0, 0, 99, 0, 0])},
        {"left": lambda left: left * -1},
        {"gram": lambda gram: gram * np.nan},
        {"gram": lambda gram: gram * 0.0},
        {"gram": lambda gram: gram[:, :-1]},
        {"moments": lambda moments: moments[:, :1]},
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damage):
    X, y = stream(50, task="classification")
    learner = SMALL()
    learner.learn(X, y)
    before = learner.state()
    damaged = stored(before)
    for name, change in damage.items():
        damaged[name] = change(damaged[name])
    with pytest.raises(IntegrityError):
        learner.restore(damaged)
    assert same(learner.state(), before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": "cubic"},
        {"size": -1},
        {"gamma": 0.0},
        {"gamma": 1.1},
        {"alpha": 0.0},
        {"width": -1.0},
        {"scale": [0.0]},
        {"slots": 0},
        {"exact": False, "scale": [1.0]},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidError, match=list(wrong)[-1]):
        Ridge(**wrong)


def test_one_unit_a_column():
    learner = Ridge(scale=[1.0, 2.0])
    with pytest.raises(InvalidError, match="scale: has 2 units"):
        learner.learn(np.zeros((2, 3)), ["a", "b"])
    assert learner.classes == []
