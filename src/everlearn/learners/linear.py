"""A linear model that learns from every row: multinomial logistic, least squares or quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import linear_kernels as kernels
from everlearn.learners.inputs import LARGEST, as_rows, at_least, invalid, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_UPDATES = ("adagrad", "passive-aggressive", "passive-aggressive-2", "alma")
_LOSSES = ("squared", "absolute", "quantile")
_DAMPING, _SHARE, _RATE = 0.3, 1e-3, 0.5


class Linear(Streaming):
    """Online logistic regression, or online regression with a standardised target.

    Several models learn side by side with slow to fast ``steps``, because the step that is best differs
    from stream to stream and from time to time; they answer as a mixture that follows the best. Good for
    wide rows, for targets that are about linear, and for anything that must be fast. It cannot learn how
    features act together unless a column says so, and its mixture takes labels to come at once: when
    they are late, it trusts models that are too fast.

    ``loss`` is ``"logistic"`` for a classification; for a regression ``"squared"``, ``"absolute"`` or
    ``"quantile"``, which estimates the ``quantile`` of the target. ``update``, for a classification, is
    ``"adagrad"``, ``"passive-aggressive"`` (PA-I), ``"passive-aggressive-2"`` (PA-II) or ``"alma"``;
    ``steps`` are then the aggressiveness C, or ALMA's C. ``fade`` is how much of the gradients' squares is
    kept from row to row, ``clip`` how many standard deviations a feature may count, ``memory`` how many
    rows the scaling looks back. A category is a column of its own; the codes of a column from
    ``max_categories`` on share one, and a negative code counts as missing.

    A row of weight w counts like w rows, up to 64. Memory in numbers of 8 bytes, where d, k and s are the
    columns, classes and categories seen, k and s rounded up to a power of two:
    ``2 len(steps) (d + s + 1) k + max_categories / 2`` for each categorical column.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> learner = Linear()
    >>> learner.learn(X, np.where(X[:, 0] > X[:, 1], "up", "down"))
    >>> learner.classes
    ['up', 'down']
    >>> learner.predict(np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])).round(1)
    array([[1., 0.],
           [0., 1.]])
    """

    name: ClassVar[str] = "linear"
    good_for: ClassVar[str] = "wide rows, effects that are straight, very high rates"
    cannot: ClassVar[str] = "learn how columns act together"
    arrays: ClassVar[tuple[str, ...]] = ("scale", "weights", "slot_weights", "slots", "worth", "counts")
    free: ClassVar[tuple[str, ...]] = ("slot_weights",)

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        loss: str | None = None,
        quantile: float = 0.5,
        update: str = "adagrad",
        steps: Sequence[float] = (0.02, 0.08, 0.3, 1.0, 3.0),
        fade: float = 0.999,
        clip: float = 5.0,
        memory: int = 10_000,
        max_categories: int = 1000,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.steps = tuple(positive("steps", step) for step in steps)
        if not self.steps:
            raise invalid("steps", "is empty: give at least one step, such as 0.3")
        self.fade = positive("fade", fade)
        if self.fade > 1.0:
            raise invalid("fade", f"{fade} is above 1: use 1 to keep all, 0.999 to follow drift")
        self.clip = positive("clip", clip)
        self.memory = at_least("memory", memory, 2)
        self.max_categories = at_least("max_categories", max_categories, 1)
        self.update, self.loss, self.quantile = update, loss, positive("quantile", quantile)
        if self.quantile >= 1.0:
            raise invalid("quantile", f"{quantile} is not below 1: use 0.9 for what nine of ten stay under")
        fades = [self.fade] * len(self.steps)
        head = [self.clip, float(memory), self.quantile, self._kind(), _DAMPING, _SHARE, _RATE]
        self._numbers = np.array([*head, *self.steps, *fades])

    def _kind(self) -> float:
        """The update or the loss as the compiled loops know it."""
        losses = ("logistic",) if self.task == "classification" else _LOSSES
        updates = _UPDATES if self.task == "classification" else _UPDATES[:1]
        for field, value, known in (("loss", self.loss, losses), ("update", self.update, updates)):
            if value not in known and (field, value) != ("loss", None):
                raise invalid(field, f"{value!r} is not for a {self.task}: use {', '.join(known)}")
        if self.task == "classification":
            return float(updates.index(self.update))
        return float(losses.index(self.loss or "squared"))

    @property
    def experts(self) -> int:
        """One for each step."""
        return len(self.steps)

    def _begin(self, width: int) -> None:
        numeric = [column for column in range(width) if column not in set(self.categorical)]
        self._columns = np.array([*numeric, *self.categorical], dtype=np.int64)
        models, m = len(self.steps), len(numeric)
        outputs = room(0) if self.task == "classification" else 1
        self._scale = np.zeros((3, m + 1))
        self._weights = np.zeros((2, m + 1, models, outputs))
        self._slot_weights = np.zeros((room(0), 2, models, outputs))
        self._slots = np.full((len(self.categorical), self.max_categories + 1), -1, dtype=np.int32)
        self._worth = np.ones((3, models))
        self._worth[0] = 1.0 / models
        self._counts = np.zeros(3, dtype=np.int64)

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._weights.shape[3]
        if self.task == "classification" and more > 0:
            for name in ("_weights", "_slot_weights"):
                setattr(self, name, np.pad(getattr(self, name), ((0, 0),) * 3 + ((0, more),)))

    def _place(self, rows: FloatArray) -> None:
        """Give slots to the categories that are new, in order of appearance, and make room for them."""
        if not self.categorical:
            return
        kernels.place(rows, self._columns, self._slots, self._counts)
        more = room(int(self._counts[kernels.SLOTS])) - len(self._slot_weights)
        if more > 0:
            self._slot_weights = np.pad(self._slot_weights, ((0, more),) + ((0, 0),) * 3)

    def _fill(self, rows: FloatArray, answers: FloatArray, each: FloatArray) -> None:
        answer = kernels.answer_values if self.task == "regression" else kernels.answer_classes
        answer(
            rows, self._columns, self._slots, self._scale, self._weights, self._slot_weights, self._worth,
            self._counts, self._numbers, answers, each,
        )  # fmt: skip

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        self._fill(rows, answers, self._blank_each(0))
        return answers

    def _answer_each(self, rows: FloatArray) -> FloatArray:
        each = self._blank_each(len(rows))
        self._fill(rows, self._blank(0), each)
        return each

    def _fill_and_learn(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
        each: FloatArray,
    ) -> None:
        self._place(rows)
        step = kernels.step_values if self.task == "regression" else kernels.step_classes
        step(
            asked, rows, targets, weights, self._columns, self._slots, self._scale, self._weights,
            self._slot_weights, self._worth, self._counts, self._numbers, answers, each,
        )  # fmt: skip

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        self._fill_and_learn(asked, rows, targets, weights, answers, self._blank_each(0))

    def _step_each(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        self._fill_and_learn(asked, rows, targets, weights, self._blank(0), answers)

    def contributions(self, X: FloatArray) -> FloatArray:
        """What each column adds to the models' mean score: (n, d + 1, k), or (n, d + 1) for a regression.

        A column adds its weight times its standardised value (0 where it is missing), a categorical one
        the weight of its category; the last of axis 1 is the constant. A regression's are in units of the
        target and sum to the estimate. A classification's are log-odds (nats) of each class against the
        geometric mean of all. What is taken apart is the mean of the models' log-odds with the mixture's
        weights, because the mixture of their probabilities, which :meth:`predict` gives, is no sum over
        columns; with one model (``steps`` of length 1) the softmax of the sum is the answer. Raises
        InvalidError for rows of another width.
        """
        rows = as_rows(X, self._width)
        rows = np.ascontiguousarray(np.where(np.abs(rows) < LARGEST, rows, np.nan))
        outputs = 1 if self.task == "regression" else len(self._classes)
        added = np.zeros((len(rows), rows.shape[1] + 1, outputs))
        if self._width is not None:
            gains = np.ones(self.experts) if self.task == "regression" else self._worth[1]
            kernels.add_up(
                rows, self._columns, self._slots, self._scale, self._weights, self._slot_weights, self._worth,
                gains, self._numbers, added,
            )  # fmt: skip
        if self.task == "classification":
            return added - added.mean(axis=2, keepdims=True) if outputs else added
        _, mean, variance = self._scale[:, -1] if self._width is not None else (0.0, np.nan, 0.0)
        values: FloatArray = added[:, :, 0] * np.sqrt(variance)
        values[:, -1] += mean
        return values

    def _check(self) -> None:
        seen, _, used = self._counts.tolist()
        if not 0 <= seen <= len(self._classes):
            raise ValueError(f"{seen} of {len(self._classes)} classes are seen")
        if not 0 <= used <= len(self._slot_weights):
            raise ValueError(f"{used} slots in room for {len(self._slot_weights)}")
        if self._slots.size and not -1 <= self._slots.min() <= self._slots.max() < used:
            raise ValueError("a category has a slot that is not there")
        if not all(np.isfinite(getattr(self, f"_{name}")).all() for name in self.arrays):
            raise ValueError("a number is not finite")
