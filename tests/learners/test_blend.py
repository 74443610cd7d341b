"""The default learner: a mixture that follows the best mix."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build
from everlearn.learners.checks import check_learner

SMALL = {"labels": {"name": "rates"}, "near": {"name": "knn", "size": 200, "long": 50}}


def _rows(n, seed=0):
    """Two classes told apart by a circle, the labels coming in runs."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 2, n // 10 + 1), 10)[:n]
    radius = np.where(labels, 1.5, 0.7) + rng.normal(scale=0.3, size=n)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), labels


def _share_right(learner, answers, y, start):
    """How many of the answers from ``start`` on name the label."""
    said = np.array(learner.classes)[answers[start:].argmax(axis=1)]
    return (said == y[start:]).mean()


def _one_by_one(learner, X, y, delay):
    """Answer every row before learning it, the label coming so many rows late."""
    answers = []
    for i in range(len(X)):
        answers.append(learner.predict(X[i : i + 1])[0])
        if i >= delay:
            learner.learn(X[i - delay : i - delay + 1], y[i - delay : i - delay + 1])
    k = len(learner.classes)
    return np.array([np.pad(answer, (0, k - len(answer))) for answer in answers])


@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(build, "blend", members=SMALL))))
def test_keeps_the_contract(name, check):
    check()


@pytest.mark.parametrize("budget", ["fast", "balanced"])
def test_every_budget_learns(budget):
    X, y = _rows(1500)
    learner = build("blend", budget=budget)
    assert _share_right(learner, learner.test_then_train(X, y), y, 300) > 0.85


@pytest.mark.parametrize("delay", [0, 7, 700])
def test_the_compiled_loop_gives_what_calls_row_by_row_give(delay):
    X, y = _rows(1200)
    y[:2] = 0, 1
    looped = _one_by_one(build("blend", members=SMALL), X, y, delay)
    assert np.array_equal(build("blend", members=SMALL).test_then_train(X, y, delay=delay), looped)


def test_members_are_judged_by_what_they_answered_when_asked():
    """Labels repeat for 60 rows but come 60 rows late: the last label known says nothing of the next."""
    rng = np.random.default_rng(5)
    y = np.repeat(rng.integers(0, 2, 100), 60)
    X = np.where(rng.random((len(y), 1)) < 0.75, y[:, None], 1 - y[:, None]) + 0.0
    X = np.hstack([X, rng.normal(size=(len(y), 1))])  # no two rows are alike
    members = {"last": {"name": "rates", "memories": (1,)}, "line": {"name": "linear"}}
    honest = build("blend", members=members)
    assert _share_right(honest, _one_by_one(honest, X, y, 60), y, 1000) > 0.63

    fooled = build("blend", members=members)  # never asked: thinks that it knows the label before
    fooled.learn(X, y)
    weights = fooled.member_weights()["weights"][-1]
    assert weights[0] > weights[1:].sum()


def test_says_what_each_member_weighs_over_time():
    X, y = _rows(2000)
    learner = build("blend", members=SMALL)
    learner.learn(X, y)
    told = learner.member_weights()
    assert told["members"] == ["labels 1", "labels 2", "labels 3", "labels 4", "near"]
    assert told["rows"].tolist() == [512, 1024, 1536]
    assert told["weights"].shape == (3, 5)


def test_a_member_that_never_helps_is_put_to_sleep():
    rng = np.random.default_rng(6)
    y = np.repeat(rng.integers(0, 2, 200), 50)
    learner = build("blend", members=SMALL)
    learner.learn(rng.normal(size=(len(y), 2)), y)  # the rows say nothing
    assert learner.asleep == ["near"]
    rested = build("blend", members=SMALL, rest=False)
    rested.learn(rng.normal(size=(len(y), 2)), y)
    assert rested.asleep == []


def test_a_restored_blend_goes_on_as_the_first():
    X, y = _rows(1500)
    learner, other = (build("blend", members=SMALL) for _ in range(2))
    learner.learn(X[:1000], y[:1000])
    other.restore(learner.state())
    first = learner.test_then_train(X[1000:], y[1000:])
    assert np.array_equal(first, other.test_then_train(X[1000:], y[1000:]))


def test_refuses_what_it_cannot_be_built_from():
    with pytest.raises(InvalidError, match="budget: 'huge' is not a budget"):
        build("blend", budget="huge")
    with pytest.raises(InvalidError, match=r"members: .* is not a learner that a blend can hold"):
        build("blend", members={"a": {"name": "majority"}})
    with pytest.raises(InvalidError, match="members: is empty"):
        build("blend", members={})


def test_refuses_a_state_of_other_members():
    X, y = _rows(100)
    learner = build("blend", members=SMALL)
    learner.learn(X, y)
    with pytest.raises(IntegrityError):
        build("blend", members={"labels": {"name": "rates"}}).restore(
            {**learner.state(), "members": {"labels": {"width": None}}}
        )
