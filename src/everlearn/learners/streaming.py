"""What the learners with compiled hot loops share: checking input, classes, weights, state.

A subclass keeps all that it learns in numpy arrays named in :attr:`Streaming.arrays`, and writes

* :meth:`Streaming._begin`: make the arrays for rows of a width;
* :meth:`Streaming._grow`: make room for more classes;
* :meth:`Streaming._answer`: answer rows;
* :meth:`Streaming._step`: answer each row and then learn one, in a compiled loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import (
    LARGEST,
    Classes,
    as_batch,
    as_columns,
    as_rows,
    as_task,
    as_weights,
    invalid,
)
from everlearn.learners.kernels import tidy
from everlearn.types import FloatArray, Scalar, Task


class Streaming:
    """The part of a learner that is the same whatever the algorithm.

    Each constructor parameter is kept in an attribute of its own name, so that a learner can make
    another like itself.
    """

    name: ClassVar[str]
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True
    arrays: ClassVar[tuple[str, ...]] = ()
    """The attributes that hold what was learned: numpy arrays, without the leading underscore."""
    free: ClassVar[tuple[str, ...]] = ()
    """Those of ``arrays`` whose first dimension grows as the learner learns (pools of nodes)."""

    def __init__(
        self, *, task: str, categorical: Sequence[int] = (), seed: int = 0, max_classes: int = 1000
    ) -> None:
        self.task: Task = as_task(task)
        self.categorical = as_columns(categorical)
        self.seed = seed
        self.max_classes = max_classes
        self._classes = Classes(max_classes)
        self._width: int | None = None

    @property
    def wants(self) -> int | None:
        """All there are."""
        return None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    # -- what an algorithm writes ------------------------------------------------------------------

    def _begin(self, width: int) -> None:
        """Make the arrays for rows of ``width`` columns, with nothing learned."""
        raise NotImplementedError

    def _grow(self, classes: int) -> None:
        """Make room for so many classes. What is learned must not depend on when room was made."""

    def _answer(self, rows: FloatArray) -> FloatArray:
        """Answers to ``rows`` (n, d): (n,), or (n, len(classes)) with each row summing to 1.

        Classes that no compiled loop has seen yet (they are registered before a batch is learned) have 0.
        """
        raise NotImplementedError

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        """For each i: ``answers[i] = answer(asked[i])``, then learn ``rows[i]``.

        ``targets`` (n,) are class numbers int64, or values float64; ``weights`` (n,) are above 0.
        ``answers`` is (n, k) or (n,) to be filled, where the classes not yet seen at i keep their 0;
        or it has no rows: then only learn. A subclass takes class c as seen from the first i with
        ``targets[i] >= c`` on (numbers are given in order of appearance).
        """
        raise NotImplementedError

    # A learner that runs several settings side by side shows each of them to the blend.

    @property
    def experts(self) -> int:
        """How many answers :meth:`_answer_each` gives for a row."""
        return 1

    def _answer_each(self, rows: FloatArray) -> FloatArray:
        """The answers of each expert: (n, experts, k) or (n, experts)."""
        return self._answer(rows)[:, None]

    def _step_each(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        """As :meth:`_step`, with ``answers`` (n, experts, k) or (n, experts)."""
        self._step(asked, rows, targets, weights, answers[:, 0])

    def _check(self) -> None:
        """Raise ValueError if a restored state would lead a compiled loop out of its arrays."""

    # -- the contract --------------------------------------------------------------------------------

    def learn(self, X: FloatArray, y: Labels, weights: Sequence[float] | FloatArray | None = None) -> None:
        """Learn rows ``X`` (n, d) with labels ``y`` (n,) in order; ``weights`` (n,) default to 1."""
        rows, targets, heavy = self._take(X, y, weights)
        self._learn_only(rows, targets, heavy, 0, len(rows))

    def predict(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes``, or values (n,)."""
        rows = as_rows(X, self._width)
        if self._width is None:
            return self._blank(len(rows))
        return self._answer(_tidied(rows))

    def test_then_train(
        self,
        X: FloatArray,
        y: Labels,
        weights: Sequence[float] | FloatArray | None = None,
        *,
        delay: int = 0,
    ) -> FloatArray:
        """Answer every row before learning it, with labels that come ``delay`` rows late.

        The same answers as calling :meth:`predict` and :meth:`learn` row by row, in one compiled loop:
        row i is answered when the labels of the rows up to ``i - 1 - delay`` are learned. At the end the
        last ``delay`` labels are learned too. Returns (n, k), with 0 for classes not yet seen, or (n,).
        """
        if delay < 0:
            raise invalid("delay", f"{delay} is negative: give the rows a label comes late, or 0")
        if weights is not None and not np.all(np.asarray(weights)):
            return self._row_by_row(X, y, weights, delay)
        rows, targets, heavy = self._take(X, y, weights)
        n = len(rows)
        answers = self._blank(n)
        slow, first = min(self._slow_start(delay), n), min(delay, n)
        for i in range(slow):
            answers[i] = self._answer(rows[i : i + 1])[0]
            if i >= delay:
                self._learn_only(rows, targets, heavy, i - delay, i - delay + 1)
        start = max(slow, first)
        if slow < start:
            answers[slow:start] = self._answer(rows[slow:start])
        if start < n:
            known = slice(start - first, n - first)
            self._step(rows[start:], rows[known], targets[known], heavy[known], answers[start:])
        self._learn_only(rows, targets, heavy, n - first, n)
        return answers

    def _row_by_row(self, X: FloatArray, y: Labels, weights: Any, delay: int) -> FloatArray:
        """As :meth:`test_then_train` where some weights are 0: those rows are answered and not learned."""
        rows, values = as_batch(X, y, self._width, self.task)
        heavy, answers = as_weights(weights, len(rows)), list[FloatArray]()
        for i in range(len(rows) + delay):
            if i < len(rows):
                answers.append(self.predict(rows[i : i + 1])[0])
            if i >= delay:
                due = slice(i - delay, i - delay + 1)
                self.learn(rows[due], values[due], heavy[due])
        if self.task == "regression":
            return np.array(answers)
        k = len(self._classes)
        return np.array([np.pad(answer, (0, k - len(answer))) for answer in answers]).reshape(len(rows), k)

    def _slow_start(self, delay: int) -> int:
        """How many rows :meth:`test_then_train` must take one by one before its compiled loop can."""
        return 0 * delay

    def _learn_only(
        self, rows: FloatArray, targets: NDArray[Any], weights: FloatArray, start: int, end: int
    ) -> None:
        if start < end:
            some = slice(start, end)
            self._step(rows[some], rows[some], targets[some], weights[some], self._blank(0))

    def state(self) -> State:
        """Everything learned, as arrays."""
        if self._width is None:
            return {"width": None}
        learned = {name: getattr(self, f"_{name}").copy() for name in self.arrays}
        return {"width": self._width, "classes": self.classes, **learned}

    def restore(self, state: State) -> None:
        """Take over a state, or (IntegrityError) none of it."""
        try:
            fresh = self.fresh()
            fresh._restore(state)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise IntegrityError(f"The state of a {self.name} learner is not whole: {error!r}") from None
        self.__dict__.update(fresh.__dict__)

    def fresh(self) -> Streaming:
        """A learner with the same parameters that has learned nothing."""
        names = inspect.signature(type(self)).parameters
        return type(self)(**{name: getattr(self, name) for name in names})

    # -- helpers -------------------------------------------------------------------------------------

    def _restore(self, state: State) -> None:
        if state["width"] is None:
            return
        self._classes.restore(state["classes"])
        self._width = int(state["width"])
        self._begin(self._width)
        self._grow(len(self._classes))
        for name in self.arrays:
            made = getattr(self, f"_{name}")
            values = np.array(state[name], dtype=made.dtype, order="C")
            start = int(name in self.free)
            if values.shape[start:] != made.shape[start:] or values.ndim != made.ndim:
                raise ValueError(f"{name} has shape {values.shape}, not {made.shape}")
            setattr(self, f"_{name}", values)
        self._check()

    def _take(
        self, X: FloatArray, y: Labels, weights: Iterable[float] | None
    ) -> tuple[FloatArray, NDArray[Any], FloatArray]:
        """Check a batch and make ready for it; raises InvalidError before anything has changed."""
        rows, values = as_batch(X, y, self._width, self.task)
        heavy = as_weights(weights, len(rows))
        if self.categorical and self.categorical[-1] >= rows.shape[1]:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {rows.shape[1]} columns of X")
        used = heavy > 0.0
        if not used.all():
            rows, heavy = rows[used], heavy[used]
            values = [value for value, use in zip(values, used, strict=True) if use]
        if not len(rows):
            return rows, np.empty(0), heavy
        if self.task == "classification":
            targets = np.array(self._classes.learn(values), dtype=np.int64)
        else:
            targets = np.array(values, dtype=np.float64)
        if self._width is None:
            self._width = rows.shape[1]
            self._begin(self._width)
        self._grow(len(self._classes))
        return _tidied(rows), targets, heavy

    def _blank(self, n: int) -> FloatArray:
        """Room for ``n`` answers: no class is known yet, or no value."""
        if self.task == "classification":
            return np.zeros((n, len(self._classes)))
        return np.full(n, np.nan)

    def _blank_each(self, n: int) -> FloatArray:
        """Room for ``n`` answers of each expert."""
        if self.task == "classification":
            return np.zeros((n, self.experts, len(self._classes)))
        return np.full((n, self.experts), np.nan)


def room(classes: int) -> int:
    """For how many classes to make arrays: the next power of two, so that growing is rare."""
    return 1 << max(classes - 1, 1).bit_length()


def _tidied(rows: FloatArray) -> FloatArray:
    """Rows in C order, with NaN for what is too large to be a value.

    A loop would be compiled anew for rows in another order, or that are read-only or not aligned.
    """
    if not rows.flags.carray:
        rows = np.require(rows, requirements=["C", "A", "W"])
    return rows if tidy(rows, LARGEST) else np.where(np.abs(rows) < LARGEST, rows, np.nan)
