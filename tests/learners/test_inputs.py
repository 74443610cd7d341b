"""What learners accept as rows and labels."""

import numpy as np
import pytest

from everlearn.errors import InvalidError
from everlearn.learners.inputs import Classes, as_batch, as_labels, as_rows, as_targets


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        (["a", None], "y[1]"),
        ([1, float("nan")], "y[1]"),
        ([("a",), "b"], "y[0]"),
        (np.array([["a"], ["b"]]), "y"),
        (np.array([1.0, np.nan]), "y[1]"),
    ],
)
def test_odd_labels_are_named(labels, field):
    with pytest.raises(InvalidError) as caught:
        as_labels(labels)
    assert caught.value.faults[0].field == field


def test_numpy_labels_become_python_scalars():
    given = [np.int64(3), np.str_("a"), np.bool_(True), *np.array([1, 2])]
    assert [type(value) for value in as_labels(given)] == [int, str, bool, int, int]


def test_targets_too_large_to_square_are_refused():
    with pytest.raises(InvalidError, match=r"y\[1\]"):
        as_targets([1.0, 1e200])


def test_rows_of_another_width_are_refused():
    with pytest.raises(InvalidError, match="has 3 columns, but the learner has learned rows of 2"):
        as_rows(np.zeros((1, 3)), 2)


def test_rows_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidError, match="X: "):
        as_rows([["a"]], None)


def test_a_batch_needs_as_many_labels_as_rows():
    with pytest.raises(InvalidError, match="has 2 values for 1 rows"):
        as_batch(np.zeros((1, 1)), ["a", "b"], None, "classification")


def test_a_flag_and_its_number_are_one_class():
    classes = Classes(10)
    assert classes.learn([True, 1, False, 0]) == [0, 0, 1, 1]
    assert classes.values == [True, False]
