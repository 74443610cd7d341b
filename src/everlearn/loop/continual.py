"""How much a learner remembers: one stream of tasks from one description, and the published measures.

>>> from everlearn import learners
>>> rng = np.random.default_rng(0)
>>> y = rng.integers(0, 4, 800)
>>> X = rng.normal(size=(800, 2)) + 6.0 * np.stack([y % 2, y // 2], axis=1)
>>> stream = Scenario(tasks=2).stream(X, y)
>>> report = run(learners.build("ridge"), stream)
>>> report.R.shape, report.measures["average_accuracy"] > 0.95
((2, 2), True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, InvalidError
from everlearn.learners import Learner
from everlearn.learners.states import size
from everlearn.loop import transfer
from everlearn.types import FloatArray

Setting = Literal["class", "domain", "task", "online"]
SETTINGS: tuple[Setting, ...] = ("class", "domain", "task", "online")

Rows = tuple[FloatArray, NDArray[Any]]
"""``X`` float64 (n, d) and labels ``y`` (n,)."""


@dataclass(frozen=True)
class Stream:
    """Tasks in the order in which they come: what is learned, and what is asked."""

    train: tuple[Rows, ...]
    test: tuple[Rows, ...]
    told: bool
    """Whether a learner is told where a task ends, if it can be."""
    masked: bool
    """Whether a row's task is known when it is asked: only the task's classes are then possible."""


@dataclass(frozen=True)
class Scenario:
    """How a table becomes a stream of tasks (van de Ven, Tuytelaars and Tolias 2022).

    ``setting``: ``"class"``: each task brings classes of its own, and any class may be asked for.
    ``"task"``: the same, and it is known which task a row is of. ``"domain"``: all classes come in every
    task, each with the columns in an order of its own. ``"online"``: as ``"class"``, and nobody says where a
    task ends. Rows come once, in an order that ``seed`` decides, as do classes and columns. One row in
    ``held_out`` is kept for asking, unless rows for that are given.
    """

    setting: Setting = "class"
    tasks: int = 5
    seed: int = 0
    held_out: int = 5

    def stream(self, X: FloatArray, y: NDArray[Any], test: Rows | None = None) -> Stream:
        """The stream of a table; raises InvalidError for fewer classes, or kinds of rows, than tasks."""
        if self.setting not in SETTINGS:
            raise _invalid("setting", f"{self.setting!r} is none of {', '.join(SETTINGS)}")
        draw = np.random.default_rng(self.seed)
        order = draw.permutation(len(y))
        X, y = X[order], y[order]
        if test is None:
            asked = np.arange(len(y)) % self.held_out == 0
            X, y, test = X[~asked], y[~asked], (X[asked], y[asked])
        tasks = list(
            self._by_column(X.shape[1], draw) if self.setting == "domain" else self._by_class(y, draw)
        )
        return Stream(
            tuple(task(X, y) for task in tasks),
            tuple(task(*test) for task in tasks),
            told=self.setting != "online",
            masked=self.setting == "task",
        )

    def _by_class(self, y: NDArray[Any], draw: np.random.Generator) -> Iterator[Callable[..., Rows]]:
        classes = draw.permutation(np.unique(y))
        if not 1 <= self.tasks <= len(classes):
            raise _invalid(
                "tasks", f"{self.tasks} do not fit {len(classes)} classes: give 1 to {len(classes)}"
            )
        for part in np.array_split(classes, self.tasks):
            yield lambda X, y, part=part: (X[np.isin(y, part)], y[np.isin(y, part)])

    def _by_column(self, width: int, draw: np.random.Generator) -> Iterator[Callable[..., Rows]]:
        if self.tasks < 1:
            raise _invalid("tasks", f"{self.tasks} is none: give at least 1")
        for number in range(self.tasks):
            columns = draw.permutation(width) if number else np.arange(width)
            yield lambda X, y, columns=columns: (np.ascontiguousarray(X[:, columns]), y)


@dataclass(frozen=True)
class Report:
    """What was measured.

    ``R`` (evaluations, tasks) are accuracies on every task's rows, ``task`` (evaluations,) which task was
    being learned, ``rows`` (evaluations,) how many had been. ``measures`` are those of
    :mod:`everlearn.loop.transfer`, where forward transfer is against the best constant answer. ``seconds``
    are those of learning alone.
    """

    R: FloatArray
    task: NDArray[np.int64]
    rows: NDArray[np.int64]
    measures: dict[str, float | None]
    seconds: float
    state_bytes: int
    buffer_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **self.measures,
            "R": self.R.tolist(),
            "task": self.task.tolist(),
            "rows": self.rows.tolist(),
            "examples": int(self.rows[-1]),
            "seconds": self.seconds,
            "state_bytes": self.state_bytes,
            "buffer_bytes": self.buffer_bytes,
        }


def run(
    learner: Learner,
    stream: Stream,
    *,
    every: int | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Teach a learner a stream once; ask it about all tasks after each, and every ``every`` rows.

    The lowest accuracies (min-ACC, WC-ACC) show a learner that falters while it learns only as finely as
    it is asked. ``clock`` gives seconds.
    """
    R, homes, rows = list[list[float]](), list[int](), list[int]()
    learned, seconds = 0, 0.0
    total = sum(len(y) for _, y in stream.train)
    for task, (X, y) in enumerate(stream.train):
        for at in range(0, len(y), every or len(y)):
            part = slice(at, at + (every or len(y)))
            started = clock()
            learner.learn(X[part], y[part])
            if part.stop >= len(y) and stream.told and hasattr(learner, "end_task"):
                learner.end_task()
            seconds += clock() - started
            learned += len(y[part])
            R.append([accuracy(learner, rows_, stream.masked) for rows_ in stream.test])
            homes.append(task)
            rows.append(learned)
            progress(learned / total)
    matrix, home = np.array(R), np.array(homes, dtype=np.int64)
    baseline = np.array([transfer.constant_accuracy(y.tolist()) for _, y in stream.test])
    return Report(
        matrix, home, np.array(rows, dtype=np.int64), transfer.measures(matrix, home, baseline), seconds,
        size(learner.state()), int(getattr(learner, "buffer_bytes", 0)),
    )  # fmt: skip


def accuracy(learner: Learner, rows: Rows, masked: bool) -> float:
    """The share of rows whose most probable class is right; with ``masked`` among the rows' classes alone."""
    X, y = rows
    if not learner.classes or not len(y):
        return 0.0
    answers = learner.predict(X)
    if masked:
        answers = among(answers, learner.classes, np.unique(y).tolist())
    right = [
        learner.classes[best] == truth for best, truth in zip(answers.argmax(axis=1), y.tolist(), strict=True)
    ]
    return float(np.mean(right))


def among(answers: FloatArray, classes: Sequence[Any], possible: Sequence[Any]) -> FloatArray:
    """Probabilities (n, k) when only some classes are possible: 0 for the others, and each row sums to 1.

    >>> among(np.array([[0.5, 0.2, 0.3]]), ["a", "b", "c"], ["b", "c"])
    array([[0. , 0.4, 0.6]])
    """
    there = np.array([label in possible for label in classes])
    kept = np.where(there, answers, 0.0)
    totals = kept.sum(axis=1, keepdims=True)
    even = there / max(there.sum(), 1)
    shared: FloatArray = np.where(totals > 0.0, kept / np.where(totals > 0.0, totals, 1.0), even)
    return shared


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", [Fault(field, message)])
