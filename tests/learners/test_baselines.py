"""Majority and persistence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import InvalidError
from everlearn.learners import build


def rows(n):
    return np.zeros((n, 2))


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_majority_answers_the_frequencies(labels):
    learner = build("majority")
    learner.learn(rows(len(labels)), labels)
    expected = [labels.count(value) / len(labels) for value in learner.classes]
    assert np.allclose(learner.predict(rows(2)), [expected, expected])


def test_majority_answers_the_mean():
    learner = build("majority", task="regression")
    learner.learn(rows(4), [1.0, 2.0, 3.0, 6.0])
    assert learner.predict(rows(2)).tolist() == [3.0, 3.0]


@settings(max_examples=30)
@given(st.lists(st.sampled_from([3, 1, 2]), min_size=1, max_size=30))
def test_persistence_always_answers_the_last_label(labels):
    learner = build("persistence")
    learner.learn(rows(len(labels)), labels)
    answer = learner.predict(rows(1))[0]
    assert learner.classes[int(answer.argmax())] == labels[-1]
    assert answer.sum() == pytest.approx(1.0)


def test_persistence_is_as_sure_as_labels_repeat():
    steady, restless = build("persistence"), build("persistence")
    steady.learn(rows(100), ["a", "b"] + ["a"] * 98)
    restless.learn(rows(100), ["a", "b"] * 50)
    assert steady.predict(rows(1)).max() > 0.95
    assert 0.5 < restless.predict(rows(1)).max() < 0.51


def test_persistence_answers_the_last_value():
    learner = build("persistence", task="regression")
    learner.learn(rows(3), [1.0, 5.0, 2.5])
    assert learner.predict(rows(1)).tolist() == [2.5]


def test_too_many_classes_are_refused_whole():
    learner = build("majority", max_classes=3)
    with pytest.raises(InvalidError, match="more than 3 classes"):
        learner.learn(rows(4), ["a", "b", "c", "d"])
    assert learner.classes == []
