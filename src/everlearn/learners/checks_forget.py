"""The checks of learners that forget rows exactly: answers are those of one that never saw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from everlearn.errors import InvalidError
from everlearn.learners.checks_case import Case
from everlearn.learners.contract import Learner, forgets
from everlearn.learners.states import need, same, stored
from everlearn.types import FloatArray

CLOSE = 1e-6


def _forgets_rows_exactly(case: Case) -> None:
    X, labels = case.stream(400)
    y = np.asarray(labels)
    if not forgets(case.new()):
        return
    gone = np.random.default_rng(3).permutation(400)[:200]
    rest = np.setdiff1d(np.arange(400), gone)
    never, learner, parts = case.taught(X[rest], y[rest]), case.taught(X, y), case.taught(X, y)
    forget = _forget_of(learner)
    forget(X[gone], y[gone])
    need(_apart(learner, never, X) <= CLOSE, "what is forgotten is still seen in the answers")
    other = case.new()
    other.restore(stored(learner.state()))
    need(
        same(other.predict(X), learner.predict(X)), "a restored learner that has forgotten answers otherwise"
    )
    for part in (gone[:1], gone[120:], gone[1:120]):
        _forget_of(parts)(X[part], y[part])
    need(_apart(parts, never, X) <= CLOSE, "forgetting in parts, in another order, is not forgetting at once")
    learner.learn(X[gone], y[gone])
    need(_apart(learner, case.taught(X, y), X) <= CLOSE, "what was forgotten cannot be learned again")


def _forgets_nothing_by_mistake(case: Case) -> None:
    X, given = case.stream(60)
    y = np.asarray(given)
    if not forgets(case.new()):
        return
    learner = case.taught(X[:40], y[:40])
    wrong: list[tuple[str, Any, Any]] = [
        ("more rows than were learned", np.concatenate([X, X]), np.concatenate([y, y])),
        ("rows of another width", X[:2, :3], y[:2]),
        ("labels for other rows", X[:3], y[:2]),
    ]
    if case.task == "classification":
        wrong.append(("a class that was never learned", X[:1], [99]))
    for what, rows, labels in wrong:
        before = learner.state()
        try:
            _forget_of(learner)(rows, labels)
        except InvalidError:
            need(same(before, learner.state()), f"{what}: part of it was forgotten all the same")
            continue
        raise AssertionError(f"forget takes {what}")


def _forget_of(learner: Learner) -> Callable[[Any, Any], None]:
    forget: Callable[[Any, Any], None] = learner.forget  # type: ignore[attr-defined]
    return forget


def _apart(one: Learner, other: Learner, X: FloatArray) -> float:
    """The greatest difference of two learners' answers; classes that one of them never had count as 0."""
    answers = one.predict(X), other.predict(X)
    if not one.classes and not other.classes:
        return float(np.abs(answers[0] - answers[1]).max())
    names = list(dict.fromkeys([*one.classes, *other.classes]))
    sides = []
    for learner, answer in zip((one, other), answers, strict=True):
        side = np.zeros((len(X), len(names)))
        for column, label in enumerate(learner.classes):
            side[:, names.index(label)] = answer[:, column]
        sides.append(side)
    return float(np.abs(sides[0] - sides[1]).max())


BOTH = (_forgets_rows_exactly, _forgets_nothing_by_mistake)
