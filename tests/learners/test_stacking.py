"""How members' answers become one answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.learners.stacking import Stacking


def _run(answers, labels):
    """Answer and judge every row; the answers given."""
    rows = np.arange(float(len(labels)))[:, None]
    stacking, out = Stacking("classification", answers.shape[1]), np.zeros((len(labels), answers.shape[2]))
    awake = np.ones(answers.shape[1], dtype=np.bool_)
    stacking.learn(rows, rows, answers, False, labels, np.ones(len(labels)), awake, out)
    return stacking, out


def _said(right, rng, labels, k=2):
    """Answers of a member that is right with a probability."""
    said = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % k)
    answers = np.full((len(labels), k), 0.2 / (k - 1))
    answers[np.arange(len(labels)), said] = 0.8
    return answers


def test_weight_goes_to_the_member_that_knows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    answers = np.stack([_said(0.5, rng, labels), _said(0.9, rng, labels), _said(0.5, rng, labels)], axis=1)
    stacking, out = _run(answers, labels)
    assert np.argmax(stacking.weights()) == 1
    assert (out[500:].argmax(axis=1) == labels[500:]).mean() > 0.87


def test_members_that_err_apart_are_better_together():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 4000)
    answers = np.stack([_said(0.75, rng, labels) for _ in range(5)], axis=1)
    _, out = _run(answers, labels)
    single = (answers[:, 0].argmax(axis=1) == labels).mean()
    assert (out[500:].argmax(axis=1) == labels[500:]).mean() > single + 0.08


def test_a_member_that_is_always_wrong_is_used_the_other_way_round():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 2000)
    answers = np.stack([_said(0.1, rng, labels), _said(0.5, rng, labels)], axis=1)
    _, out = _run(answers, labels)
    assert (out[500:].argmax(axis=1) == labels[500:]).mean() > 0.85


def test_the_mix_follows_when_another_member_becomes_the_best():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 4000)
    first, second = _said(0.95, rng, labels), _said(0.5, rng, labels)
    first[2000:], second[2000:] = _said(0.5, rng, labels)[2000:], _said(0.95, rng, labels)[2000:]
    _, out = _run(np.stack([first, second], axis=1), labels)
    assert (out[2300:].argmax(axis=1) == labels[2300:]).mean() > 0.9


def test_regression_beats_the_best_member_when_errors_are_apart():
    rng = np.random.default_rng(4)
    truth = np.cumsum(rng.normal(size=3000))
    answers = truth[:, None] + rng.normal(size=(3000, 4))
    _, out = _run_values(answers, truth)
    assert np.abs(out - truth)[500:].mean() < 0.65 * np.abs(answers[:, 0] - truth)[500:].mean()


def _run_values(answers, truth):
    rows = np.arange(float(len(truth)))[:, None]
    stacking, out = Stacking("regression", answers.shape[1]), np.zeros(len(truth))
    awake = np.ones(answers.shape[1], dtype=np.bool_)
    stacking.learn(rows, rows, answers, False, truth, np.ones(len(truth)), awake, out)
    return stacking, out


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), members=st.integers(1, 5), k=st.integers(2, 4))
def test_the_regret_bound_holds_for_the_fixed_share(seed, members, k):
    """Log loss of the top against what it mixes is bounded whatever the labels are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, 300)
    labels[:k] = np.arange(k)  # all classes are known from the start
    answers = rng.dirichlet(np.full(k, 0.5), size=(300, members)) * 0.99 + 0.01 / k
    stacking, out = _run(answers, labels)
    assert np.isfinite(out).all()
    assert out[k:].sum(axis=1) == pytest.approx(1.0)
    rate, share, parts = 0.1, 1e-3, len(stacking.top)
    loss = -np.log(out[k:][np.arange(300 - k), labels[k:]]).sum()
    mixed = _fixed_share(answers[k:], labels[k:])
    bound = (math.log(parts) + 300 * share / (1 - share)) / rate
    assert loss <= mixed + bound + 1e-6


def _fixed_share(answers, labels):
    """The log loss of the fixed share over the members alone, one of the parts that the top mixes."""
    weights, loss = np.full(answers.shape[1], 1.0 / answers.shape[1]), 0.0
    for said, label in zip(answers, labels, strict=True):
        loss -= math.log(weights @ said[:, label])
        weights *= said[:, label] ** 0.3
        weights = 0.999 * weights / weights.sum() + 0.001 / len(weights)
    return loss


def test_a_damaged_state_is_refused():
    stacking = Stacking("classification", 3)
    with pytest.raises(ValueError, match="shape"):
        stacking.restore({**stacking.state(), "theta": np.zeros(2)})
