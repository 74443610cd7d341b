"""Checks of what a learner must take and what it must refuse; see :mod:`everlearn.learners.checks`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from everlearn.errors import InvalidError
from everlearn.learners.checks_case import Case, alike, takes_weights
from everlearn.learners.states import need, same, stored


def _knows_nothing_at_first(case: Case) -> None:
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


def _learns_nothing_from_an_empty_batch(case: Case) -> None:
    X, y = case.stream()
    learner = case.taught(X, y)
    before, answers = learner.state(), learner.predict(X)
    learner.learn(X[:0], y[:0])
    need(same(before, learner.state()), "an empty batch changes the state")
    need(same(answers, learner.predict(X)), "an empty batch changes the answers")


def _takes_one_row(case: Case) -> None:
    X, y = case.stream(3)
    learner = case.new()
    for i in range(3):
        learner.learn(X[i : i + 1], y[i : i + 1])
        case.sound(learner, X, f"after {i + 1} rows")


def _takes_constant_columns(case: Case) -> None:
    X, y = case.stream()
    for constant in (0.0, 1e9):
        X[:, :3] = constant
        case.sound(case.taught(X, y), X + 1.0, f"columns that were all {constant}")


def _takes_missing_values(case: Case) -> None:
    X, y = case.stream()
    X[:, 2] = np.nan
    X[::3, 3] = np.nan
    learner = case.taught(X, y)
    case.sound(learner, X, "a column that was always missing")
    case.sound(learner, np.ones((2, 4)), "a column that was missing until now")
    case.sound(learner, np.full((2, 4), np.nan), "rows with nothing in them")
    case.sound(case.taught(np.full((30, 4), np.nan), y[:30]), X, "after rows with nothing in them")


def _takes_extreme_values(case: Case) -> None:
    X, y = case.stream()
    X[5, 0], X[6, 0], X[7, 1] = np.inf, -np.inf, 1e300
    learner = case.taught(X, y)
    case.sound(learner, X, "infinite and huge values")
    tame, _ = case.stream()
    case.sound(case.taught(tame, y), X, "infinite and huge values that it has not learned")


def _takes_categories_it_has_not_seen(case: Case) -> None:
    X, y = case.stream()
    learner = case.taught(X, y)
    X[:, 3] += 100.0
    X[:4, 3] = (-1.0, 2.5, 1e12, -1e12)
    case.sound(learner, X, "unseen category codes")
    learner.learn(X, y)
    case.sound(learner, X, "category codes that came late")


def _takes_columns_of_one_kind(case: Case) -> None:
    X, y = case.stream()
    for what, columns, kinds in (
        ("one number", X[:, :1], ()),
        ("no category", X[:, :3], ()),
        ("one category", X[:, 3:], (0,)),
        ("only categories", X[:, [3, 3]], (0, 1)),
    ):
        rows = np.ascontiguousarray(columns)
        case.sound(case.taught(rows, y, categorical=kinds), rows, f"rows of {what}")


def _takes_arrays_of_any_layout(case: Case) -> None:
    X, y = case.stream()
    y = np.array(y)
    learner, answers = case.taught(X, y), case.taught(X, y).predict(X)
    wide = np.zeros((len(X), 8))
    wide[:, ::2] = X
    fixed, labels = X.copy(), y.copy()
    fixed.flags.writeable = labels.flags.writeable = False
    for what, rows, given in (
        ("in columns", np.asfortranarray(X), y),
        ("with gaps", wide[:, ::2], np.repeat(y, 2)[::2]),
        ("that cannot be written to", fixed, labels),
        ("with labels in a list", X, y.tolist()),
    ):
        other = case.taught(rows, given)
        need(same(other.state(), learner.state()), f"an array {what} is learned otherwise")
        need(same(other.predict(rows), answers), f"an array {what} is answered otherwise")


def _keeps_nothing_of_others(case: Case) -> None:
    X, y = case.stream()
    y = np.array(y)
    clean_X, clean_y = X.copy(), y.copy()
    learner, expected = case.taught(X, y), case.taught(clean_X.copy(), clean_y.copy())
    learner.predict(X)
    need(same(X, clean_X) and same(y, clean_y), "X or y was changed")
    X[:], y[:] = 0.0, y[0]
    need(alike(learner, expected, clean_X), "the learner keeps X or y itself instead of a copy")
    for other in (learner, expected):
        other.learn(clean_X[:30].copy(), clean_y[:30].copy())
    need(alike(learner, expected, clean_X), "the learner keeps X or y itself instead of a copy")


def _refuses_wrong_input_whole(case: Case) -> None:
    X, y = case.stream(60)
    text = X.astype(object)
    text[3, 1] = "much"
    values = np.array(y).tolist()
    for learner in (case.taught(X, y), case.new()):
        case.refuses(learner, "a missing label", X, [*values[:-1], float("nan")])
        case.refuses(learner, "a label that is None", X, [*values[:-1], None])
        case.refuses(learner, "labels of another length", X, y[:-1])
        case.refuses(learner, "labels of two dimensions", X, np.array(y)[:, None])
        case.refuses(learner, "rows of one dimension", X[:, 0], y)
        case.refuses(learner, "rows of text", text, y)
    learner = case.taught(X, y)
    case.refuses(learner, "rows of another width", X[:, :2], y)
    for what, rows in (("another width", X[:, :2]), ("one dimension", X[0]), ("text", text)):
        try:
            learner.predict(rows)
        except InvalidError:
            continue
        raise AssertionError(f"predict takes rows of {what}")


def _takes_weights_as_it_should(case: Case) -> None:
    X, y = case.stream(60)
    learner = case.taught(X, y)
    if not takes_weights(learner):
        return
    ones = np.ones(60)
    for what, at_5 in (("a negative", -1.0), ("a missing", np.nan), ("an infinite", np.inf)):
        wrong = ones.copy()
        wrong[5] = at_5
        case.refuses(learner, f"{what} weight", X, y, weights=wrong)
    case.refuses(learner, "weights of another length", X, y, weights=ones[:-1])
    plain, weighted = case.taught(X, y), case.new()
    weighted.learn(X, y, weights=ones)  # type: ignore[call-arg]
    need(alike(plain, weighted, X), "weights of 1 are not as good as none")
    some, without = (np.arange(60) % 3 > 0).astype(float), case.new()
    weighted = case.new()
    weighted.learn(X, y, weights=some)  # type: ignore[call-arg]
    without.learn(X[some > 0], np.array(y)[some > 0])
    same_answers = np.allclose(weighted.predict(X), without.predict(X), atol=1e-9, rtol=1e-9)
    need(bool(same_answers), "rows of weight 0 are not as good as none")
    X, _ = case.noise(80, seed=1)
    toss = np.arange(80) % 4 >= 2
    labels = np.where(toss, "b", "a") if case.task == "classification" else toss.astype(float)
    answers = []
    for heavy in (False, True):
        learner = case.new()
        learner.learn(X, labels, weights=np.where(toss == heavy, 20.0, 1.0))  # type: ignore[call-arg]
        answer = learner.predict(X)
        answers.append(answer[:, learner.classes.index("b")] if answer.ndim == 2 else answer)
    need(float(np.mean(answers[1] - answers[0])) > 0.1, "heavy rows do not count more than light ones")


def _classes_in_order_of_appearance(case: Case) -> None:
    X, _ = case.stream(60)
    learner = case.taught(X[:40], ["b", "a"] * 20)
    need(learner.classes == ["b", "a"], f"classes are {learner.classes}, not ['b', 'a'] as they appeared")
    learner.learn(X[40:], ["c"] * 10 + ["a"] * 10)
    need(learner.classes == ["b", "a", "c"], f"classes are {learner.classes} when 'c' comes late")
    case.sound(learner, X, "a new class")
    names = ["kiwi", "fig", "plum", "date", "lime", "apple", "pear"]
    for step in (1, 7):
        learner = case.new()
        for start in range(0, 7, step):
            learner.learn(X[start : start + step], names[start : start + step])
            known = names[: start + step]
            need(learner.classes == known, f"classes are {learner.classes}, not {known} as they appeared")
            case.sound(learner, X, "a new class")
    learner.classes.clear()
    need(learner.classes == names, "classes gives away the learner's own list")
    X, _ = case.stream(500)
    learner.learn(X, ["pear"] * 500)
    need(learner.classes == names, "a class that has not come for long is no longer one")
    case.sound(learner, X, "classes that have not come for long")


def _refuses_too_many_classes_whole(case: Case) -> None:
    X, _ = case.stream(1100)
    learner = case.taught(X[:40], ["b", "a"] * 20)
    before, answers = learner.state(), learner.predict(X)
    try:
        learner.learn(X, [f"name {i}" for i in range(1100)])
    except InvalidError:
        need(learner.classes == ["b", "a"], "too many classes: some of them were learned all the same")
        unchanged = same(before, learner.state()) and same(answers, learner.predict(X))
        need(unchanged, "too many classes: part of the batch was learned all the same")
        return
    need(len(learner.classes) == 1102, "of many classes some were lost")


def _takes_one_class(case: Case) -> None:
    X, _ = case.stream(60)
    learner = case.taught(X, ["only"] * 60)
    answer = case.sound(learner, X, "one class")
    need(bool(np.allclose(answer, 1.0)), "the only class has not probability 1")


def _keeps_the_labels_type(case: Case) -> None:
    X, _ = case.stream(20)
    kinds: tuple[list[Any], ...] = (
        ["x", "y"],
        ["", "ü"],
        [3, 1],
        [0, -1],
        [True, False],
        [2.5, 0.5],
        [1, "1"],
    )
    for labels in kinds:
        plain, array = labels * 10, np.array(labels * 10)
        for given in (plain,) if labels == [1, "1"] else (plain, array, list(array)):
            learner, other = case.taught(X, given), case.new()
            other.restore(stored(learner.state()))
            for classes in (learner.classes, other.classes):
                wrong = [
                    value
                    for value, label in zip(classes, labels, strict=True)
                    if type(value) is not type(label)
                ]
                need(classes == labels and not wrong, f"labels {labels} became classes {classes}")


def _takes_targets_of_any_scale(case: Case) -> None:
    X, y = case.stream()
    for scale in (1e-9, 1.0, 1e9):
        shifted = np.asarray(y) * scale + 10.0 * scale
        answer = case.sound(case.taught(X, shifted), X, f"targets about {scale}")
        need(
            bool((np.abs(answer) < 100.0 * scale).all()),
            f"estimates for targets about {scale} are far from any",
        )
        usual = float(np.mean(answer)) / float(np.mean(shifted))
        need(0.5 < usual < 1.5, f"estimates for targets about {scale} are {usual:.2g} times them in the mean")


def _takes_constant_targets(case: Case) -> None:
    X, _ = case.stream()
    answer = case.sound(case.taught(X, np.full(len(X), 5.0)), X, "constant targets")
    need(bool(np.allclose(answer, 5.0, atol=1e-6)), "targets that are all 5 are not estimated as 5")


def _has_no_classes(case: Case) -> None:
    X, y = case.stream(30)
    classes = case.taught(X, y).classes
    need(classes == [], f"a regression has the classes {classes[:5]}")


def _refuses_targets_that_are_no_numbers(case: Case) -> None:
    X, y = case.stream(2)
    for wrong in ([1.0, math.inf], [1.0, "?"], [1.0, None]):
        for learner in (case.new(), case.taught(X, y)):
            case.refuses(learner, f"the targets {wrong}", X, wrong)


BOTH = (
    _knows_nothing_at_first,
    _learns_nothing_from_an_empty_batch,
    _takes_one_row,
    _takes_constant_columns,
    _takes_missing_values,
    _takes_extreme_values,
    _takes_categories_it_has_not_seen,
    _takes_columns_of_one_kind,
    _takes_arrays_of_any_layout,
    _keeps_nothing_of_others,
    _refuses_wrong_input_whole,
    _takes_weights_as_it_should,
)
CLASSIFICATION = (
    _classes_in_order_of_appearance,
    _refuses_too_many_classes_whole,
    _takes_one_class,
    _keeps_the_labels_type,
)
REGRESSION = (
    _takes_targets_of_any_scale,
    _takes_constant_targets,
    _has_no_classes,
    _refuses_targets_that_are_no_numbers,
)
