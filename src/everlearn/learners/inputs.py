"""What goes into learners, brought into shape: rows, labels, targets, and the classes seen so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from everlearn.errors import Fault, InvalidError
from everlearn.learners.contract import Labels
from everlearn.types import FloatArray, Scalar, Task

LARGEST = 1e100
"""Features at or beyond this size count as missing, targets are refused: squares would overflow."""


def invalid(field: str, message: str) -> InvalidError:
    """An InvalidError with one fault."""
    return InvalidError(f"{field}: {message}", [Fault(field, message)])


def as_task(task: str) -> Task:
    """The task, if it is one."""
    if task not in ("classification", "regression"):
        raise invalid("task", f"{task!r} is not a task: use 'classification' or 'regression'")
    return "classification" if task == "classification" else "regression"


def as_columns(categorical: Iterable[int]) -> tuple[int, ...]:
    """Column numbers, sorted and without repeats."""
    columns = sorted({int(column) for column in categorical})
    if columns and columns[0] < 0:
        raise invalid("categorical", f"column {columns[0]} is negative: count columns from 0")
    return tuple(columns)


def at_least(field: str, value: int, minimum: int) -> int:
    """A whole number that is not under a minimum."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise invalid(field, f"{value!r} is not a whole number of at least {minimum}")
    return value


def positive(field: str, value: float) -> float:
    """A finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise invalid(field, f"{value!r} is not a finite number above 0")
    return float(value)


def as_rows(X: Any, width: int | None) -> FloatArray:
    """Rows as float64 (n, d); raises InvalidError unless there are two dimensions and d fits ``width``."""
    try:
        rows: FloatArray = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise invalid("X", "holds values that are no numbers: encode them first") from None
    if rows.ndim != 2:
        raise invalid("X", f"has {rows.ndim} dimensions: pass rows as an array (n, d)")
    if width is not None and rows.shape[1] != width:
        raise invalid("X", f"has {rows.shape[1]} columns, but the learner has learned rows of {width}")
    return rows


def as_batch(X: Any, y: Labels, width: int | None, task: Task) -> tuple[FloatArray, list[Any]]:
    """Rows and as many labels (Python scalars) or targets (finite floats)."""
    rows = as_rows(X, width)
    values = as_labels(y) if task == "classification" else as_targets(y)
    if len(values) != len(rows):
        raise invalid("y", f"has {len(values)} values for {len(rows)} rows of X: pass one a row")
    return rows, values


def as_labels(y: Labels) -> list[Scalar]:
    """Labels as Python scalars; raises InvalidError that names the first missing or odd one."""
    if isinstance(y, np.ndarray):
        if y.ndim != 1:
            raise invalid("y", f"has {y.ndim} dimensions: pass one label a row")
        values: list[Scalar] = y.tolist()
    else:
        values = [value.item() if isinstance(value, np.generic) else value for value in y]
    for i, value in enumerate(values):
        if value is None or value != value:
            raise invalid(f"y[{i}]", "is missing: learn only rows whose label is known")
        if not isinstance(value, bool | int | float | str):
            raise invalid(f"y[{i}]", f"is a {type(value).__name__}: use text, whole numbers or booleans")
    return values


def as_targets(y: Labels) -> list[float]:
    """Targets as finite floats; raises InvalidError that names the first that is not."""
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        raise invalid("y", "holds values that are no numbers: a regression learns finite numbers") from None
    if values.ndim != 1:
        raise invalid("y", f"has {values.ndim} dimensions: pass one target a row")
    targets: list[float] = values.tolist()
    for i, value in enumerate(targets):
        if not abs(value) < LARGEST:
            raise invalid(f"y[{i}]", f"is {value}: a regression learns finite numbers under {LARGEST:g}")
    return targets


def as_weights(weights: Any, n: int) -> FloatArray:
    """One weight a row: finite and not negative; 1 each for ``None``."""
    if weights is None:
        return np.ones(n)
    try:
        values = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise invalid("weights", "holds values that are no numbers: give one weight a row") from None
    if values.shape != (n,):
        raise invalid("weights", f"has shape {values.shape} for {n} rows of X: give one weight a row")
    if n and not bool(((values >= 0.0) & (values < LARGEST)).all()):
        raise invalid("weights", "holds a negative or infinite weight: give finite numbers of at least 0")
    return values


class Classes:
    """The classes seen so far, in order of first appearance, up to a limit.

    >>> classes = Classes(limit=10)
    >>> classes.learn(["b", "a", "b"])
    [0, 1, 0]
    >>> classes.values
    ['b', 'a']
    """

    def __init__(self, limit: int) -> None:
        self.limit = at_least("max_classes", limit, 2)
        self.values: list[Scalar] = []
        self._index: dict[Scalar, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def learn(self, labels: Iterable[Scalar]) -> list[int]:
        """The number of each label; new ones are added, all or (over the limit) none."""
        labels = list(labels)
        index = self._index
        try:
            return [index[label] for label in labels]
        except KeyError:
            new = [label for label in dict.fromkeys(labels) if label not in index]
        if len(index) + len(new) > self.limit:
            raise invalid(
                "y",
                f"holds more than {self.limit} classes: make it a regression, or raise max_classes",
            )
        for label in new:
            index[label] = len(self.values)
            self.values.append(label)
        return [index[label] for label in labels]

    def restore(self, values: Iterable[Scalar]) -> None:
        """Take over classes in their order."""
        self.values = list(values)
        self._index = {value: i for i, value in enumerate(self.values)}
