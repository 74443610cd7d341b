"""The honest baseline: the class frequencies seen so far, or the mean, whatever the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import Classes, as_batch, as_columns, as_rows, as_task
from everlearn.types import FloatArray, Scalar


class Majority:
    """Answers with the frequency of each class so far (classification) or the running mean (regression).

    Memory: one count a class.

    >>> import numpy as np
    >>> learner = Majority()
    >>> learner.learn(np.zeros((4, 2)), ["ham", "spam", "ham", "ham"])
    >>> learner.classes, learner.predict(np.zeros((1, 2)))
    (['ham', 'spam'], array([[0.75, 0.25]]))
    """

    name: ClassVar[str] = "majority"
    good_for: ClassVar[str] = "a baseline to beat"
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
        self._counts: list[int] = []
        self._rows = 0
        self._mean = 0.0
        self._width: int | None = None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Count the labels, or take the targets into the mean."""
        rows, values = as_batch(X, y, self._width, self.task)
        if not len(rows):
            return
        if self.task == "classification":
            numbers = self._classes.learn(values)
            self._counts += [0] * (len(self._classes) - len(self._counts))
            for number in numbers:
                self._counts[number] += 1
            self._rows += len(numbers)
        else:
            for value in values:
                self._rows += 1
                self._mean += (value - self._mean) / self._rows
        self._width = rows.shape[1]

    def predict(self, X: FloatArray) -> FloatArray:
        """The same answer for every row: frequencies (n, k) or the mean (n,)."""
        n = len(as_rows(X, self._width))
        if self.task == "regression":
            return np.full(n, self._mean if self._rows else np.nan)
        frequencies = np.array(self._counts, dtype=np.float64) / max(self._rows, 1)
        return np.tile(frequencies, (n, 1))

    def state(self) -> State:
        """Counts by class, rows, mean and width."""
        return {
            "classes": self.classes,
            "counts": list(self._counts),
            "rows": self._rows,
            "mean": self._mean,
            "width": self._width,
        }

    def restore(self, state: State) -> None:
        """Take over a state."""
        try:
            classes, counts = list(state["classes"]), [int(count) for count in state["counts"]]
            rows, mean, width = int(state["rows"]), float(state["mean"]), state["width"]
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The state of a majority learner is not whole: {error!r}") from None
        if len(classes) != len(counts):
            raise IntegrityError("The state of a majority learner has not one count a class")
        self._classes.restore(classes)
        self._counts, self._rows, self._mean, self._width = counts, rows, mean, width
