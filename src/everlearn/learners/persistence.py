"""The other honest baseline: tomorrow is like today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import Classes, as_batch, as_columns, as_rows, as_task
from everlearn.types import FloatArray, Scalar


class Persistence:
    """Answers with the last label learned (no-change classifier) or the last value.

    The last class gets as its probability how often a label has repeated the one before (Laplace's
    rule of succession), but always more than any other class; the others share the rest evenly.
    Memory: the classes and three numbers.

    >>> import numpy as np
    >>> learner = Persistence()
    >>> learner.learn(np.zeros((4, 1)), ["up", "up", "up", "down"])
    >>> learner.classes, learner.predict(np.zeros((1, 1)))
    (['up', 'down'], array([[0.4, 0.6]]))
    """

    name: ClassVar[str] = "persistence"
    good_for: ClassVar[str] = "a baseline that is hard to beat where labels come in runs"
    cannot: ClassVar[str] = "learn anything from the columns"
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True
    wants: int | None = None

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        max_classes: int = 1000,
    ) -> None:
        self.task = as_task(task)
        self.categorical = as_columns(categorical)
        self.seed = seed
        self._classes = Classes(max_classes)
        self._last: float | None = None
        self._repeats = 0
        self._changes = 0
        self._width: int | None = None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Remember the last of the labels, and how often one repeated the one before."""
        rows, values = as_batch(X, y, self._width, self.task)
        if not len(rows):
            return
        for value in self._classes.learn(values) if self.task == "classification" else values:
            if self._last is not None:
                self._repeats += value == self._last
                self._changes += value != self._last
            self._last = value
        self._width = rows.shape[1]

    def predict(self, X: FloatArray) -> FloatArray:
        """The same answer for every row: probabilities (n, k) or the last value (n,)."""
        n = len(as_rows(X, self._width))
        if self.task == "regression":
            return np.full(n, np.nan if self._last is None else self._last)
        return np.tile(self._probabilities(), (n, 1))

    def _probabilities(self) -> FloatArray:
        k = len(self._classes)
        if self._last is None or k == 1:
            return np.ones(k)
        repeat = (self._repeats + 1) / (self._repeats + self._changes + 2)
        repeat = max(repeat, 1.001 / k)  # a class that never repeats is still the answer
        probabilities = np.full(k, (1.0 - repeat) / (k - 1))
        probabilities[int(self._last)] = repeat
        return probabilities

    def state(self) -> State:
        """The last value, the classes and the counts of repeats and changes."""
        return {
            "classes": self.classes,
            "last": self._last,
            "repeats": self._repeats,
            "changes": self._changes,
            "width": self._width,
        }

    def restore(self, state: State) -> None:
        """Take over a state."""
        try:
            classes, last, width = list(state["classes"]), state["last"], state["width"]
            repeats, changes = int(state["repeats"]), int(state["changes"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The state of a persistence learner is not whole: {error!r}") from None
        if self.task == "classification" and last is not None and not 0 <= last < len(classes):
            raise IntegrityError("The last class in the state of a persistence learner is unknown")
        self._classes.restore(classes)
        self._last, self._repeats, self._changes, self._width = last, repeats, changes, width
