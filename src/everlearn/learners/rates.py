"""How often each class came lately, forgetting at several rates: what knows nothing but the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.inputs import invalid, positive
from everlearn.learners.kernels import compiled
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_SMOOTH = 0.02  # the share of a row's probability that is spread evenly


class Rates(Streaming):
    """Answers every row with the recent frequencies of the classes, or the recent mean of the target.

    ``memories`` are how many rows the means look back: 1 is label persistence (the last label alone),
    1e9 the running majority. Several are mixed by how well they foretold the labels (fixed share, as in
    ``linear``). A baseline for labels that come in runs; it cannot learn anything from the features.
    Memory: ``len(memories) k`` numbers.

    >>> import numpy as np
    >>> learner = Rates(memories=(2,))
    >>> learner.learn(np.zeros((4, 1)), ["up", "up", "up", "down"])
    >>> learner.classes, learner.predict(np.zeros((1, 1))).round(2)
    (['up', 'down'], array([[0.5, 0.5]]))
    """

    name: ClassVar[str] = "rates"
    good_for: ClassVar[str] = "a baseline where labels come in runs"
    cannot: ClassVar[str] = "learn anything from the columns"
    uses_features: ClassVar[bool] = False
    arrays: ClassVar[tuple[str, ...]] = ("means", "mixture", "counts", "error")

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        memories: Sequence[float] = (1.0, 3.0, 20.0, 200.0),
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.memories = tuple(positive("memories", memory) for memory in memories)
        if not self.memories:
            raise invalid("memories", "is empty: give at least one, such as 100 rows")
        self._rates = np.array([1.0 / max(memory, 1.0) for memory in self.memories])

    @property
    def experts(self) -> int:
        """One for each memory."""
        return len(self.memories)

    def _begin(self, width: int) -> None:
        experts = len(self.memories)
        self._means = np.zeros((experts, 1))
        self._mixture = np.full(experts, 1.0 / experts)
        self._counts = np.zeros(2, dtype=np.int64)  # classes seen, rows learned
        self._error = np.zeros(1)  # regression: the running mean of the mixture's squared error

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._means.shape[1]
        if self.task == "classification" and more > 0:
            self._means = np.pad(self._means, ((0, 0), (0, more)))

    def _answer_each(self, rows: FloatArray) -> FloatArray:
        n, experts = len(rows), len(self.memories)
        if self.task == "regression":
            return np.tile(self._means[:, 0] if self._counts[1] else np.full(experts, np.nan), (n, 1))
        answers = np.zeros((n, experts, len(self._classes)))
        answer_classes(self._means, self._counts, answers)
        return answers

    def _answer(self, rows: FloatArray) -> FloatArray:
        each = self._answer_each(rows[:1])
        mixed = np.tensordot(each, self._mixture, axes=(1, 0))
        return np.repeat(mixed, len(rows), axis=0) if len(mixed) else self._blank(0)

    def _step_each(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        if self.task == "regression":
            _step_values(
                self._means, self._mixture, self._counts, self._error, self._rates, targets, weights, answers
            )
        else:
            _step_classes(self._means, self._mixture, self._counts, self._rates, targets, weights, answers)

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        for i in range(len(targets)):
            if len(answers):
                answers[i] = self._answer(asked[i : i + 1])[0]
            one = slice(i, i + 1)
            self._step_each(asked[one], rows[one], targets[one], weights[one], self._blank_each(0))

    def _check(self) -> None:
        if self.task == "classification" and not 0 <= self._counts[0] <= self._means.shape[1]:
            raise ValueError(f"{self._counts[0]} classes in room for {self._means.shape[1]}")


@compiled
def answer_classes(means: Any, counts: Any, answers: Any) -> None:
    """Fill ``answers`` (n, memories, k) with the classes' recent frequencies, smoothed."""
    seen = counts[0]
    if seen == 0:
        return
    for i in range(answers.shape[0]):
        for e in range(means.shape[0]):
            for c in range(seen):
                answers[i, e, c] = (means[e, c] + _SMOOTH / seen) / (1.0 + _SMOOTH)


@compiled
def _mix(mixture: Any, merit: Any) -> None:
    """Fixed share (Herbster and Warmuth 1998) with a share of 0.001."""
    total = 0.0
    for e in range(mixture.shape[0]):
        mixture[e] *= merit[e]
        total += mixture[e]
    for e in range(mixture.shape[0]):
        mixture[e] = 0.999 * mixture[e] / total + 0.001 / mixture.shape[0]


@compiled
def _step_classes(
    means: Any, mixture: Any, counts: Any, rates: Any, targets: Any, weights: Any, answers: Any
) -> None:
    merit = np.ones(means.shape[0])
    for i in range(targets.shape[0]):
        if answers.shape[0]:
            answer_classes(means, counts, answers[i : i + 1])
        seen = max(counts[0], targets[i] + 1)
        counts[0] = seen
        counts[1] += 1
        for e in range(means.shape[0]):
            merit[e] = ((means[e, targets[i]] + _SMOOTH / seen) / (1.0 + _SMOOTH)) ** (0.5 * weights[i])
            share = max(rates[e], 1.0 / counts[1])
            share = 1.0 - (1.0 - share) ** weights[i]
            for c in range(seen):
                means[e, c] += share * ((1.0 if c == targets[i] else 0.0) - means[e, c])
        _mix(mixture, merit)


@compiled
def _step_values(
    means: Any,
    mixture: Any,
    counts: Any,
    error: Any,
    rates: Any,
    targets: Any,
    weights: Any,
    answers: Any,
) -> None:
    experts = means.shape[0]
    merit = np.ones(experts)
    for i in range(targets.shape[0]):
        if answers.shape[0]:
            for e in range(experts):
                answers[i, e] = means[e, 0] if counts[1] else np.nan
        counts[1] += 1
        if counts[1] > 1:
            mixed = 0.0
            for e in range(experts):
                mixed += mixture[e] * means[e, 0]
            error[0] += ((mixed - targets[i]) ** 2 - error[0]) * max(0.01, 1.0 / (counts[1] - 1))
            for e in range(experts):
                loss = (means[e, 0] - targets[i]) ** 2 / (error[0] + 1e-300)
                merit[e] = np.exp(-0.5 * weights[i] * min(loss, 20.0))
            _mix(mixture, merit)
        for e in range(experts):
            share = max(rates[e], 1.0 / counts[1])
            means[e, 0] += (1.0 - (1.0 - share) ** weights[i]) * (targets[i] - means[e, 0])
