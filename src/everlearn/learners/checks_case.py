"""What the checks of :mod:`everlearn.learners.checks` share: streams, and what every answer must be."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import numpy as np

from everlearn.errors import InvalidError
from everlearn.learners.contract import Labels, Learner
from everlearn.learners.states import need, same
from everlearn.types import FloatArray, Task

_BASELINES = ("majority", "persistence", "rates")


class Make(Protocol):
    """Builds a learner from the common keyword parameters: ``task``, ``categorical``, ``seed``."""

    def __call__(self, **parameters: Any) -> Learner:
        """A new learner."""
        ...


class Case:
    """One learner under one task, with streams to teach it: three numbers and a category code."""

    def __init__(self, make: Make, task: Task, baseline: bool | None) -> None:
        self.make, self.task, self._baseline = make, task, baseline

    def new(self, **parameters: Any) -> Learner:
        """A learner that knows nothing."""
        return self.make(**{"task": self.task, "categorical": (3,), "seed": 7, **parameters})

    def taught(self, X: FloatArray, y: Labels, **parameters: Any) -> Learner:
        """A learner that has learned a batch."""
        learner = self.new(**parameters)
        learner.learn(X, y)
        return learner

    @property
    def baseline(self) -> bool:
        """Whether the learner need not look at the rows: as was said, or as it says of itself."""
        if self._baseline is not None:
            return self._baseline
        learner = self.new()
        return bool(getattr(learner, "baseline", learner.name in _BASELINES))

    def stream(self, rows: int = 120) -> tuple[FloatArray, Labels]:
        """Rows in which the numbers decide, every seventh number missing."""
        rng = np.random.default_rng(42)
        X = rng.normal(size=(rows, 4))
        X[:, 3] = rng.integers(0, 5, rows)
        y = X[:, 0] - 2.0 * X[:, 1] + X[:, 3]
        X[::7, 2] = np.nan
        return X, (np.where(y > 3.0, 2, np.where(y > 1.0, 1, 0)) if self.task == "classification" else y)

    def noise(self, rows: int, seed: int) -> tuple[FloatArray, np.random.Generator]:
        """Rows in which nothing is to be seen, and a generator to put something in."""
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(rows, 4))
        X[:, 3] = rng.integers(0, 5, rows)
        return X, rng

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

    def refuses(self, learner: Learner, what: str, X: Any, y: Any, **more: Any) -> None:
        """``learn`` raises InvalidError and changes nothing."""
        before, classes = learner.state(), learner.classes
        try:
            learner.learn(X, y, **more)
        except InvalidError:
            changed = not same(before, learner.state()) or classes != learner.classes
            need(not changed, f"{what}: part of the batch was learned all the same")
            return
        raise AssertionError(f"learn takes {what}")


def takes_weights(learner: Learner) -> bool:
    """Whether ``learn`` has example weights."""
    return "weights" in inspect.signature(learner.learn).parameters


def alike(a: Learner, b: Learner, X: FloatArray) -> bool:
    """Whether two learners have the same classes, state and answers, bit for bit."""
    return a.classes == b.classes and same(a.state(), b.state()) and same(a.predict(X), b.predict(X))
