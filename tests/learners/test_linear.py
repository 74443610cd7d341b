"""The linear learner: accuracy without tuning, drift, categories, new classes, scale."""

import time

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build
from everlearn.learners.states import same, stored


def accuracy_test_then_train(learner, X, y):
    """Accuracy of answers given to each row before it is learned."""
    right = 0
    for i in range(len(X)):
        answer = learner.predict(X[i : i + 1])
        right += answer.shape[1] > 0 and learner.classes[int(answer[0].argmax())] == y[i]
        learner.learn(X[i : i + 1], y[i : i + 1])
    return right / len(X)


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "least"), [("elec", 0.91), ("insects", 0.79), ("phishing", 0.94)])
def test_one_default_is_good_on_real_streams(stream, least, real_stream):
    X, y = real_stream(stream)
    assert accuracy_test_then_train(build("linear"), X, y) >= least


@pytest.mark.slow
def test_a_row_is_cheap():
    X = np.random.default_rng(0).normal(size=(4000, 8))
    start = time.process_time()
    accuracy_test_then_train(build("linear"), X, (X[:, 0] > 0).tolist())
    assert len(X) / (time.process_time() - start) > 3000  # about 24,000 on an idle core


def test_a_new_class_is_predicted_soon():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3200, 3))
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    y[3000:] = np.where(X[3000:, 1] > 0.5, "new", y[3000:])
    learner = build("linear")
    learner.learn(X, y)
    later = rng.normal(size=(200, 3)) + np.array([0.0, 2.0, 0.0])
    answers = learner.predict(later).argmax(axis=1)
    assert (answers == learner.classes.index("new")).mean() > 0.8


def test_it_follows_a_drift():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 4))
    y = X[:, 0] > X[:, 1]
    y[2000:] = ~y[2000:]
    learner = build("linear")
    learner.learn(X[:2000], y[:2000].tolist())
    assert accuracy_test_then_train(learner, X[2000:], y[2000:].tolist()) > 0.9


def test_categories_decide_where_codes_as_numbers_could_not():
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 30, size=(3000, 1)).astype(float)
    y = np.isin(codes[:, 0] % 7, [0, 2, 5]).tolist()
    assert accuracy_test_then_train(build("linear", categorical=[0]), codes, y) > 0.95
    assert accuracy_test_then_train(build("linear"), codes, y) < 0.8


def test_categories_over_the_limit_share_weights():
    codes = np.random.default_rng(4).integers(0, 40, size=(2000, 1)).astype(float)
    learner = build("linear", categorical=[0], max_categories=16)
    learner.learn(codes, np.where(codes[:, 0] < 16, codes[:, 0] % 2 == 0, codes[:, 0] > 35).tolist())
    assert learner.state()["slot_weights"].shape[0] == 32  # room for the 16 and the shared one
    said = learner.predict(np.arange(5000.0)[:, None])
    assert (said[16:] == said[16]).all()
    assert said[:16].argmax(axis=1).tolist() == [learner.classes.index(code % 2 == 0) for code in range(16)]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_contributions_are_the_columns_parts_of_the_answer(task):
    rng = np.random.default_rng(14)
    X = rng.normal(size=(3000, 4)) * [1.0, 10.0, 1.0, 1.0] + [0.0, 50.0, 0.0, 0.0]
    X[:, 3] = rng.integers(0, 4, 3000)
    X[::11, 2] = np.nan
    score = X[:, 0] + 0.2 * (X[:, 1] - 50.0) + np.array([0.0, 2.0, -2.0, 1.0])[X[:, 3].astype(int)]
    y = 7.0 * score if task == "regression" else np.digitize(score, [-1.0, 1.0])
    learner = build("linear", task=task, categorical=[3], steps=(0.3,))
    learner.learn(X, y)
    added, answers = learner.contributions(X), learner.predict(X)
    assert added.shape == ((3000, 5) if task == "regression" else (3000, 5, 3))
    if task == "regression":
        assert np.allclose(added.sum(axis=1), answers, atol=1e-9)
        assert np.polyfit(X[:, 0], added[:, 0], 1)[0] == pytest.approx(7.0, rel=0.1)
    else:
        odds = np.exp(added.sum(axis=1))
        assert np.allclose(odds / odds.sum(axis=1, keepdims=True), answers, atol=1e-12)
    assert not np.any(added[::11, 2])  # what is missing adds nothing
    moved = X.copy()
    moved[:, 1] += 3.0
    changed = np.abs(learner.contributions(moved) - added).reshape(3000, 5, -1).max(axis=(0, 2))
    assert (changed > 0.01).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("update", ["adagrad", "passive-aggressive", "alma"])
def test_contributions_of_several_models_are_the_mean_of_their_log_odds(update):
    rng = np.random.default_rng(15)
    X = rng.normal(size=(1000, 3))
    learner = build("linear", steps=(0.1, 1.0, 0.5), update=update)
    learner.learn(X, np.digitize(X[:, 0] - X[:, 1], [-0.5, 0.5]))
    odds = np.log(learner._answer_each(X))
    odds -= odds.mean(axis=2, keepdims=True)
    expected = np.einsum("e,nek->nk", learner.state()["worth"][0], odds)
    assert np.allclose(learner.contributions(X).sum(axis=1), expected, atol=1e-8)


def test_contributions_of_several_regressions_sum_to_the_estimate():
    rng = np.random.default_rng(16)
    X = rng.normal(size=(1000, 3))
    learner = build("linear", task="regression")
    assert np.isnan(learner.contributions(X)[:, -1]).all()
    assert build("linear").contributions(X).shape == (1000, 4, 0)
    learner.learn(X, X @ [100.0, -50.0, 3.0] + 1000.0)
    assert np.allclose(learner.contributions(X).sum(axis=1), learner.predict(X), atol=1e-8)


def test_a_categorical_column_must_exist():
    with pytest.raises(InvalidError, match="column 5 is not one of the 2 columns"):
        build("linear", categorical=[5]).learn(np.zeros((1, 2)), ["a"])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_least_squares_whatever_the_scale_of_features_and_target(scale):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(3000, 5)) * [1e-4, 1.0, 1e4, 3.0, 0.1] + [0, 5, 0, -1e3, 7]
    y = scale * (X @ [1e4, 2.0, -1e-4, 0.5, 10.0] + 0.1 * rng.normal(size=3000))
    learner = build("linear", task="regression")
    learner.learn(X[:2500], y[:2500])
    error = np.abs(learner.predict(X[2500:]) - y[2500:]).mean()
    assert error < 0.12 * scale  # the noise alone makes 0.08


def test_least_squares_with_many_correlated_columns_stays_stable():
    rng = np.random.default_rng(6)
    base = rng.normal(size=(2000, 3))
    X = base @ rng.normal(size=(3, 150)) + 0.01 * rng.normal(size=(2000, 150))
    y = base[:, 0]
    learner = build("linear", task="regression")
    learner.learn(X, y)
    assert np.abs(learner.predict(X[-200:]) - y[-200:]).mean() < 0.1


def test_outliers_do_not_lead_it_astray():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(2000, 3))
    truth = X[:, 0] - X[:, 1]
    seen, y = X.copy(), truth.copy()
    seen[20::50, 0] = 1e12
    y[97::97] = 1e6
    learner = build("linear", task="regression")
    learner.learn(seen, y)
    assert np.median(np.abs(learner.predict(X) - truth)) < 0.4


def test_a_state_of_another_shape_is_refused_and_changes_nothing():
    X = np.random.default_rng(8).normal(size=(50, 3))
    learner = build("linear")
    learner.learn(X, (X[:, 0] > 0).tolist())
    before = learner.state()
    damaged = stored(before)
    damaged["weights"] = damaged["weights"][:1]
    with pytest.raises(IntegrityError, match="weights has shape"):
        learner.restore(damaged)
    assert same(learner.state(), before)
