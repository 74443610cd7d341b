"""Checks of what a learner answers; see :mod:`everlearn.learners.checks`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from everlearn.learners.checks_case import Case
from everlearn.learners.contract import Labels, Learner
from everlearn.learners.states import need, same
from everlearn.types import FloatArray

_NAMES = np.array(["m", "x", "c"])  # not in their order


def _answers_each_row_by_itself(case: Case) -> None:
    X, y = case.stream()
    learner = case.taught(X, y)
    whole = case.sound(learner, X, "a batch")
    alone = np.concatenate([learner.predict(X[i : i + 1]) for i in range(len(X))])
    need(bool(np.allclose(whole, alone, atol=1e-9, rtol=1e-9)), "a row's answer depends on its batch")
    turned = learner.predict(X[::-1].copy())[::-1]
    need(bool(np.allclose(whole, turned, atol=1e-9, rtol=1e-9)), "a row's answer depends on its place")
    many = learner.predict(np.tile(X, (12, 1)))
    need(
        same(many, np.tile(many[: len(X)], (12,) + (1,) * (many.ndim - 1))),
        "a large batch is answered otherwise",
    )
    need(len(case.sound(learner, X[:0], "an empty batch")) == 0, "an empty batch has answers")


def _probabilities_follow_the_classes(case: Case) -> None:
    X, _ = case.stream(200)
    learner = case.taught(X, ["z"] * 10 + ["a"] * 190)
    answer = case.sound(learner, X[100:], "classes")
    usual = [learner.classes[best] == "a" for best in answer.argmax(axis=1).tolist()]
    need(np.mean(usual) > 0.8, "probabilities are not in the order of classes")


def _tested_as_if_row_by_row(case: Case) -> None:
    """``test_then_train``, where there is one, is the same as calls of predict and learn."""
    learner: Any = case.new()
    if not hasattr(learner, "test_then_train"):
        return
    X, y = case.stream(80)
    delays = (0, 9) if "delay" in inspect.signature(learner.test_then_train).parameters else (0,)
    for delay in delays:
        learner, single = case.new(), case.new()
        more = {"delay": delay} if delay else {}
        answers = learner.test_then_train(X, y, **more)
        for i in range(len(X)):
            known = i - delay - 1
            if known >= 0:
                single.learn(X[known : known + 1], y[known : known + 1])
            one, k = single.predict(X[i : i + 1])[0], len(single.classes)
            given = answers[i, :k] if answers.ndim == 2 else answers[i]
            close = np.allclose(given, one, atol=1e-9, rtol=1e-9, equal_nan=True)
            need(bool(close), f"test_then_train (delay {delay}) answers row {i} otherwise than predict")
            rest = answers[i, k:] if answers.ndim == 2 else np.zeros(0)
            need(not rest.any(), f"test_then_train knows a class before it came (row {i}, delay {delay})")
        single.learn(X[len(X) - delay - 1 :], y[len(X) - delay - 1 :])
        need(same(learner.state(), single.state()), "test_then_train learns otherwise than learn")


def _learns_an_easy_problem(case: Case) -> None:
    if case.baseline:
        return
    for column, what in enumerate(("the first column", "the second", "the third", "the category")):
        X, y = _easy(case, column, 300, seed=column)
        asked, truth = _easy(case, column, 150, seed=10 + column)
        _judge(case, case.taught(X, y), asked, truth, f"{what} decides")


def _easy(case: Case, column: int, rows: int, seed: int) -> tuple[FloatArray, Labels]:
    """Rows in which one column tells all: which side of 0 a number is on, or in which set a code is."""
    X, rng = case.noise(rows, seed)
    if column == 3:
        group = (X[:, 3] % 3 == 0).astype(int)
    else:
        group = rng.integers(0, 2, rows)
        X[:, column] = 6.0 * group - 3.0 + 0.5 * X[:, column]
    return X, (_NAMES[group] if case.task == "classification" else 10.0 * group - 20.0)


def _judge(case: Case, learner: Learner, X: FloatArray, truth: Any, what: str) -> None:
    answer = case.sound(learner, X, what)
    if case.task == "regression":
        lost = float(np.mean((answer - truth) ** 2) / np.var(truth))
        need(lost < 0.5, f"{what}, but it does not learn it (squared error {lost:.2f} of the mean's)")
        return
    said = np.array(learner.classes)[answer.argmax(axis=1)]
    for label in np.unique(truth):
        share = float((said[truth == label] == label).mean())
        need(share > 0.7, f"{what}, but it does not learn it ({share:.0%} right of {label!r})")


def _tells_three_classes_apart(case: Case) -> None:
    if case.baseline:
        return
    centres = np.array([[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]])

    def draw(rows: int, seed: int) -> tuple[FloatArray, Any]:
        X, rng = case.noise(rows, seed)
        group = rng.integers(0, 3, rows)
        X[:, :2] += centres[group]
        return X, _NAMES[group]

    learner = case.taught(*draw(300, 20))
    _judge(case, learner, *draw(150, 21), "two columns decide between three classes")


def _goes_on_learning(case: Case) -> None:
    """What first comes after 1,200 rows, in a place of its own, is known 150 rows later."""
    X, rng = case.noise(1350, seed=30)
    new = (np.arange(1350) >= 1200) & (rng.random(1350) < 0.5)
    X[new, 0] += 12.0
    asked, _ = case.noise(60, seed=31)
    asked[:, 0] += 12.0
    y: Any = np.where(new, "new", np.where(X[:, 1] > 0.0, "up", "down"))
    if case.task == "regression":
        y = np.where(new, 6.0, X[:, 1])
    learner = case.taught(X[:1200], y[:1200])
    learner.predict(asked)
    learner.learn(X[1200:], y[1200:])
    answer = case.sound(learner, asked, "after 1,350 rows")
    if case.task == "regression":
        need(case.baseline or float(answer.mean()) > 3.0, "it does not learn what first comes late")
        return
    chance = answer[:, learner.classes.index("new")]
    need(bool((chance > 0.0).all()) or learner.name == "persistence", "a class that comes late has no chance")
    right = np.mean(answer.argmax(axis=1) == learner.classes.index("new"))
    need(case.baseline or right > 0.5, f"a class that comes late is known in {right:.0%} of its rows")


BOTH = (
    _answers_each_row_by_itself,
    _tested_as_if_row_by_row,
    _learns_an_easy_problem,
    _goes_on_learning,
)
CLASSIFICATION = (_probabilities_follow_the_classes, _tells_three_classes_apart)
