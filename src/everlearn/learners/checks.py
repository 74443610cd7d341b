"""The contract of learners as a test generator, for the built-in ones and other people's.

::

    @pytest.mark.parametrize("name, check", check_learner(partial(build, "linear")))
    def test_keeps_the_contract(name, check):
        check()

Each check builds learners of its own and raises AssertionError with what was broken.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.contract import Labels, Learner
from everlearn.learners.states import need, same, size, spoil, stored
from everlearn.types import FloatArray, Task

Check = Callable[[], None]


class Make(Protocol):
    """Builds a learner from the common keyword parameters: ``task``, ``categorical``, ``seed``."""

    def __call__(self, **parameters: Any) -> Learner:
        """A new learner."""
        ...


def check_learner(
    make: Make, *, tasks: Sequence[Task] = ("classification", "regression")
) -> Iterator[tuple[str, Check]]:
    """Every check of the contract as ``(name, callable)``, for each task the learner claims.

    ``make(**parameters)`` must build a learner whose memory is full within 1,000 rows, so that its
    bound can be seen (give a window a small size).
    """
    for task in tasks:
        case = _Case(make, task)
        for check in _BOTH + (_CLASSIFICATION if task == "classification" else _REGRESSION):
            yield f"{task}: {check.__name__.removeprefix('_').replace('_', ' ')}", _bind(check, case)


def _bind(check: Callable[[_Case], None], case: _Case) -> Check:
    return lambda: check(case)


class _Case:
    """One learner under one task, with a stream to teach it: three numbers and a category code."""

    def __init__(self, make: Make, task: Task) -> None:
        self.make, self.task = make, task

    def new(self, **parameters: Any) -> Learner:
        return self.make(**{"task": self.task, "categorical": (3,), "seed": 7, **parameters})

    def taught(self, X: FloatArray, y: Labels, **parameters: Any) -> Learner:
        learner = self.new(**parameters)
        learner.learn(X, y)
        return learner

    def stream(self, rows: int = 120) -> tuple[FloatArray, Labels]:
        """Rows in which the numbers decide, every seventh number missing."""
        rng = np.random.default_rng(42)
        X = rng.normal(size=(rows, 4))
        X[:, 3] = rng.integers(0, 5, rows)
        y = X[:, 0] - 2.0 * X[:, 1] + X[:, 3]
        X[::7, 2] = np.nan
        return X, (np.where(y > 3.0, 2, np.where(y > 1.0, 1, 0)) if self.task == "classification" else y)

    def sound(self, learner: Learner, X: FloatArray, what: str) -> FloatArray:
        """Answers of the right shape, finite, and (probabilities) between 0 and 1 with sum 1."""
        answer = learner.predict(X)
        shape = (len(X), len(learner.classes)) if self.task == "classification" else (len(X),)
        need(
            isinstance(answer, np.ndarray) and answer.dtype == np.float64,
            f"{what}: predict gives no float64 array",
        )
        need(answer.shape == shape, f"{what}: predict gives shape {answer.shape}, not {shape}")
        need(bool(np.isfinite(answer).all()), f"{what}: predict gives values that are not finite")
        if self.task == "classification":
            need(bool(((answer >= 0) & (answer <= 1 + 1e-9)).all()), f"{what}: probabilities outside 0..1")
            sums = answer.sum(axis=1)
            need(bool(np.allclose(sums, 1.0, atol=1e-9)), f"{what}: probabilities do not sum to 1")
        return answer


def _knows_nothing_at_first(case: _Case) -> None:
    learner, X = case.new(), np.zeros((3, 4))
    for when in ("before learning", "after an empty batch"):
        answer = learner.predict(X)
        need(learner.classes == [], f"{when} there are classes already")
        if case.task == "classification":
            need(answer.shape == (3, 0), f"{when} predict gives shape {answer.shape}, not (3, 0)")
        else:
            need(answer.shape == (3,), f"{when} predict gives shape {answer.shape}, not (3,)")
            need(bool(np.isnan(answer).all()), f"{when} predict gives numbers, not NaN")
        learner.learn(np.empty((0, 4)), [])
    other = case.new()
    other.restore(stored(learner.state()))
    need(same(other.state(), learner.state()), "the state of a new learner does not survive storage")


def _learns_a_batch_as_its_rows(case: _Case) -> None:
    X, y = case.stream()
    whole = case.taught(X, y)
    for step in (1, 17):
        parts = case.new()
        for start in range(0, len(X), step):
            parts.learn(X[start : start + step], y[start : start + step])
        need(
            same(whole.state(), parts.state()),
            f"learning a batch differs from learning it {step} rows at a time",
        )


def _predict_changes_nothing(case: _Case) -> None:
    X, y = case.stream()
    asked, quiet = case.new(), case.new()
    for start in range(0, len(X), 40):
        part = slice(start, start + 40)
        first = asked.predict(X)
        need(same(first, asked.predict(X)), "predict gives other answers when it is asked again")
        asked.learn(X[part], y[part])
        quiet.learn(X[part], y[part])
    before = asked.state()
    asked.predict(X)
    need(same(before, asked.state()), "predict changes the state")
    need(
        same(quiet.state(), asked.state()), "a learner that was asked learns otherwise than one that was not"
    )


def _answers_each_row_by_itself(case: _Case) -> None:
    X, y = case.stream()
    learner = case.taught(X, y)
    whole = case.sound(learner, X, "a batch")
    alone = np.concatenate([learner.predict(X[i : i + 1]) for i in range(len(X))])
    need(bool(np.allclose(whole, alone, atol=1e-9, rtol=1e-9)), "a row's answer depends on its batch")
    need(len(case.sound(learner, X[:0], "an empty batch")) == 0, "an empty batch has answers")


def _takes_constant_columns(case: _Case) -> None:
    X, y = case.stream()
    for constant in (0.0, 1e9):
        X[:, :3] = constant
        case.sound(case.taught(X, y), X + 1.0, f"columns that were all {constant}")


def _takes_missing_values(case: _Case) -> None:
    X, y = case.stream()
    X[:, 2] = np.nan
    X[::3, 3] = np.nan
    learner = case.taught(X, y)
    case.sound(learner, X, "a column that was always missing")
    case.sound(learner, np.ones((2, 4)), "a column that was missing until now")
    case.sound(learner, np.full((2, 4), np.nan), "rows with nothing in them")
    case.sound(case.taught(np.full((30, 4), np.nan), y[:30]), X, "after rows with nothing in them")


def _takes_extreme_values(case: _Case) -> None:
    X, y = case.stream()
    X[5, 0], X[6, 0], X[7, 1] = np.inf, -np.inf, 1e300
    learner = case.taught(X, y)
    case.sound(learner, X, "infinite and huge values")


def _takes_categories_it_has_not_seen(case: _Case) -> None:
    X, y = case.stream()
    learner = case.taught(X, y)
    X[:, 3] += 100.0
    case.sound(learner, X, "unseen category codes")
    learner.learn(X, y)
    case.sound(learner, X, "category codes that came late")


def _state_survives_storage(case: _Case) -> None:
    X, y = case.stream()
    learner, other = case.taught(X, y), case.new()
    state = learner.state()
    other.restore(stored(state))
    need(same(other.state(), state), "a restored learner has another state")
    need(other.classes == learner.classes, "a restored learner has other classes")
    need(same(other.predict(X), learner.predict(X)), "a restored learner answers otherwise")
    used = case.taught(X[::-1].copy(), y[::-1])
    used.restore(stored(state))
    need(same(used.state(), state), "restore leaves something of what was learned before it")


def _learns_on_after_storage(case: _Case) -> None:
    X, y = case.stream()
    learner, other = case.taught(X[:70], y[:70]), case.new()
    other.restore(stored(learner.state()))
    learner.learn(X[70:], y[70:])
    try:
        other.learn(X[70:], y[70:])
    except InvalidError:
        need(not other.incremental, "a restored learner refuses to learn on, though it is incremental")
        return
    need(same(other.state(), learner.state()), "a restored learner learns on otherwise than the original")


def _refuses_a_damaged_state(case: _Case) -> None:
    X, y = case.stream(60)
    learner = case.new()
    for damaged in ({}, {"width": 4}, dict.fromkeys(case.taught(X, y).state(), "?")):
        try:
            learner.restore(damaged)
        except IntegrityError:
            continue
        raise AssertionError(f"restore takes a damaged state: {damaged}")


def _global_random_state() -> str:
    return repr((np.random.get_state(legacy=False), random.getstate()))


def _same_seed_same_learner(case: _Case) -> None:
    X, y = case.stream()
    before = _global_random_state()
    first = case.taught(X, y)
    first.predict(X)
    state = first.state()
    need(before == _global_random_state(), "the global random generator was used")
    np.random.seed(3)
    try:
        need(same(case.taught(X, y).state(), state), "two learners with the same seed differ")
    finally:
        np.random.seed(None)


def _memory_is_bounded(case: _Case) -> None:
    X, y = case.stream(4000)
    learner = case.new()
    learner.learn(X[:1000], y[:1000])
    warm = size(learner.state())
    learner.learn(X[1000:], y[1000:])
    grown = size(learner.state())
    need(grown <= 1.3 * warm + 4096, f"the state grows from {warm} to {grown} bytes from row 1000 to 4000")


def _keeps_nothing_of_others(case: _Case) -> None:
    X, y = case.stream()
    y = np.array(y)
    clean_X, clean_y = X.copy(), y.copy()
    learner = case.taught(X, y)
    learner.predict(X)
    need(same(X, clean_X) and same(y, clean_y), "X or y was changed")
    X[:], y[:] = 0.0, y[0]
    expected = case.taught(clean_X, clean_y).state()
    need(same(learner.state(), expected), "the learner keeps X or y itself instead of a copy")
    given = learner.state()
    spoil(given)
    need(same(learner.state(), expected), "state() gives away the learner's own arrays")
    given, other = stored(expected), case.new()
    other.restore(given)
    spoil(given)
    need(same(other.state(), expected), "restore keeps the state's own arrays")


def _refuses_wrong_input_whole(case: _Case) -> None:
    X, y = case.stream(60)
    learner = case.taught(X, y)
    before = learner.state()
    missing = [*np.array(y).tolist()[:-1], float("nan")]
    for what, rows, labels in (
        ("a missing label", X, missing),
        ("labels of another length", X, y[:-1]),
        ("rows of another width", X[:, :2], y),
        ("rows of one dimension", X[:, 0], y),
    ):
        try:
            learner.learn(rows, labels)
        except InvalidError:
            need(same(before, learner.state()), f"{what}: part of the batch was learned all the same")
            continue
        raise AssertionError(f"learn takes {what}")


def _classes_in_order_of_appearance(case: _Case) -> None:
    X, _ = case.stream(60)
    learner = case.taught(X[:40], ["b", "a"] * 20)
    need(learner.classes == ["b", "a"], f"classes are {learner.classes}, not ['b', 'a'] as they appeared")
    learner.learn(X[40:], ["c"] * 10 + ["a"] * 10)
    need(learner.classes == ["b", "a", "c"], f"classes are {learner.classes} when 'c' comes late")
    case.sound(learner, X, "a new class")


def _probabilities_follow_the_classes(case: _Case) -> None:
    X, _ = case.stream(200)
    learner = case.taught(X, ["z"] * 10 + ["a"] * 190)
    answer = case.sound(learner, X[100:], "classes")
    usual = [learner.classes[best] == "a" for best in answer.argmax(axis=1).tolist()]
    need(np.mean(usual) > 0.8, "probabilities are not in the order of classes")


def _takes_one_class(case: _Case) -> None:
    X, _ = case.stream(60)
    learner = case.taught(X, ["only"] * 60)
    answer = case.sound(learner, X, "one class")
    need(bool(np.allclose(answer, 1.0)), "the only class has not probability 1")


def _keeps_the_labels_type(case: _Case) -> None:
    X, _ = case.stream(60)
    for labels in (["x", "y"], [3, 1], [True, False]):
        for given in (labels * 30, np.array(labels * 30)):
            learner, other = case.taught(X, given), case.new()
            other.restore(stored(learner.state()))
            for classes in (learner.classes, other.classes):
                wrong = [
                    value
                    for value, label in zip(classes, labels, strict=True)
                    if type(value) is not type(label)
                ]
                need(classes == labels and not wrong, f"labels {labels} became classes {classes}")


def _takes_targets_of_any_scale(case: _Case) -> None:
    X, y = case.stream()
    for scale in (1e-9, 1.0, 1e9):
        shifted = np.asarray(y) * scale + 10.0 * scale
        answer = case.sound(case.taught(X, shifted), X, f"targets about {scale}")
        need(
            bool((np.abs(answer) < 100.0 * scale).all()),
            f"estimates for targets about {scale} are far from any",
        )


def _takes_constant_targets(case: _Case) -> None:
    X, _ = case.stream()
    answer = case.sound(case.taught(X, np.full(len(X), 5.0)), X, "constant targets")
    need(bool(np.allclose(answer, 5.0, atol=1e-6)), "targets that are all 5 are not estimated as 5")


def _refuses_targets_that_are_no_numbers(case: _Case) -> None:
    X, _ = case.stream(2)
    for wrong in ([1.0, math.inf], [1.0, "?"], [1.0, None]):
        try:
            case.new().learn(X, wrong)
        except InvalidError:
            continue
        raise AssertionError(f"learn takes the targets {wrong}")


_BOTH: tuple[Callable[[_Case], None], ...] = (
    _knows_nothing_at_first,
    _learns_a_batch_as_its_rows,
    _predict_changes_nothing,
    _answers_each_row_by_itself,
    _takes_constant_columns,
    _takes_missing_values,
    _takes_extreme_values,
    _takes_categories_it_has_not_seen,
    _state_survives_storage,
    _learns_on_after_storage,
    _refuses_a_damaged_state,
    _same_seed_same_learner,
    _memory_is_bounded,
    _keeps_nothing_of_others,
    _refuses_wrong_input_whole,
)
_CLASSIFICATION: tuple[Callable[[_Case], None], ...] = (
    _classes_in_order_of_appearance,
    _probabilities_follow_the_classes,
    _takes_one_class,
    _keeps_the_labels_type,
)
_REGRESSION: tuple[Callable[[_Case], None], ...] = (
    _takes_targets_of_any_scale,
    _takes_constant_targets,
    _refuses_targets_that_are_no_numbers,
)
