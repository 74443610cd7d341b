"""A linear model that learns from every row: multinomial logistic, or least squares.

Three models learn side by side with a slow, a middle and a fast step, because the step that is best
differs from stream to stream and from time to time; they answer as a mixture that follows the best.

* Scaling: running mean and variance, clipped (:class:`~everlearn.learners.scaling.Scaler`). A missing
  value is the running mean; a category is one of a growing table of one-hot columns.
* Steps: AdaGrad (Duchi, Hazan and Singer 2011, equation 1, diagonal) with sums that fade, as in RMSProp
  (Tieleman and Hinton 2012): ``G <- fade G + g^2``, ``W <- W - step g / (sqrt(G) + 0.3)``.
* Regression divides the step by ``1 + step sum(z^2 / (sqrt(G) + 0.3))``: the implicit update (Toulis and
  Airoldi 2017), which is stable for any step.
* Mixture: ``w <- w exp(-rate loss)``, then fixed share ``w <- (1 - share) w + share / 3`` (Herbster and
  Warmuth 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import (
    Classes,
    as_batch,
    as_columns,
    as_rows,
    as_task,
    at_least,
    invalid,
    positive,
)
from everlearn.learners.onehot import OneHot
from everlearn.learners.scaling import Scaler
from everlearn.types import FloatArray, Scalar

_DAMPING = 0.3
_SHARE = 1e-3
_RATE = 0.5
_FLOOR = 1e-4  # the least probability that the mixture charges a model for


class Linear:
    """Online logistic regression, or online least squares with a standardised target.

    ``steps`` are the models' steps, ``fade`` how much of the gradients' squares is kept from row to
    row, ``clip`` how many standard deviations a feature may count, ``memory`` how many rows the
    scaling looks back. Codes of one categorical column beyond ``max_categories`` share weights.
    Memory: ``2 len(steps) (d + categories + 1) k`` numbers.

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
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True
    wants: int | None = None

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        steps: Sequence[float] = (0.06, 0.3, 1.6),
        fade: float = 0.999,
        clip: float = 5.0,
        memory: int = 10_000,
        max_categories: int = 1000,
        max_classes: int = 1000,
    ) -> None:
        self.task = as_task(task)
        self.categorical = as_columns(categorical)
        self.seed = seed
        self.steps = tuple(positive("steps", step) for step in steps)
        if not self.steps:
            raise invalid("steps", "is empty: give at least one step, such as 0.3")
        self.fade = positive("fade", fade)
        if self.fade > 1.0:
            raise invalid("fade", f"{fade} is above 1: use 1 to keep all, 0.999 to follow drift")
        self.clip = positive("clip", clip)
        self.memory = at_least("memory", memory, 2)
        self.max_categories = at_least("max_categories", max_categories, 1)
        self._classes = Classes(max_classes)
        self._width: int | None = None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    # Weights and sums are (inputs, models, outputs): inputs are the numeric columns, then the
    # constant 1; those of categories are (slots, models, outputs).

    def _begin(self, width: int) -> None:
        self._width = width
        self._numeric = [column for column in range(width) if column not in set(self.categorical)]
        self._scaler = Scaler(len(self._numeric), memory=self.memory, clip=self.clip)
        self._target = Scaler(1, memory=self.memory, clip=self.clip)
        self._onehot = OneHot(len(self.categorical), self.max_categories)
        models, outputs = len(self.steps), int(self.task == "regression")
        self._step = np.array(self.steps)[:, None]
        self._mixture = np.full(models, 1.0 / models)
        self._error = 0.0  # regression: the fading mean of the mixture's squared error
        self._weights = np.zeros((len(self._numeric) + 1, models, outputs))
        self._sums = np.zeros_like(self._weights)
        self._slot_weights = np.zeros((8, models, outputs))  # more rows than slots in use: see _grow
        self._slot_sums = np.zeros_like(self._slot_weights)
        self._input = np.ones(len(self._numeric) + 1)

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn the rows one by one."""
        rows, values = as_batch(X, y, self._width, self.task)
        if not len(rows):
            return
        if self.categorical and self.categorical[-1] >= rows.shape[1]:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {rows.shape[1]} columns of X")
        if self.task == "classification":
            values = self._classes.learn(values)
        if self._width is None:
            self._begin(rows.shape[1])
        learn = self._learn_class if self.task == "classification" else self._learn_target
        for row, value in zip(rows, values, strict=True):
            learn(row, value)

    def _take(self, row: FloatArray) -> NDArray[np.int64] | None:
        """Bring one row into ``_input``, learning its scale; returns its categories' slots, if any."""
        if not self.categorical:
            self._scaler.learn(row)
            self._input[:-1] = self._scaler.scale(row)
            return None
        numeric = row[self._numeric]
        self._scaler.learn(numeric)
        self._input[:-1] = self._scaler.scale(numeric)
        slots = self._onehot.learn(row[list(self.categorical)])
        if self._onehot.slots > len(self._slot_weights):
            self._grow(self._weights.shape[2], max(self._onehot.slots, 2 * len(self._slot_weights)))
        return slots

    def _grow(self, outputs: int, slots: int) -> None:
        """Make room for more classes and categories."""
        more = outputs - self._weights.shape[2]
        if more:
            self._weights = np.pad(self._weights, ((0, 0), (0, 0), (0, more)))
            self._sums = np.pad(self._sums, ((0, 0), (0, 0), (0, more)))
        shape = ((0, slots - len(self._slot_weights)), (0, 0), (0, more))
        self._slot_weights = np.pad(self._slot_weights, shape)
        self._slot_sums = np.pad(self._slot_sums, shape)

    def _scores(self, slots: NDArray[np.int64] | None) -> FloatArray:
        """What each model says (models, outputs) for ``_input``."""
        models, outputs = self._weights.shape[1:]
        scores: FloatArray = self._input.dot(self._weights.reshape(-1, models * outputs))
        scores = scores.reshape(models, outputs)
        return scores if slots is None else scores + self._slot_weights[slots].sum(axis=0)

    def _learn_class(self, row: FloatArray, label: int) -> None:
        if label >= self._weights.shape[2]:
            self._grow(label + 1, len(self._slot_weights))
        slots = self._take(row)
        error = _softmax(self._scores(slots))
        likelihood = np.maximum(error[:, label], _FLOOR)
        self._mix(likelihood**_RATE)
        error[:, label] -= 1.0
        self._descend(error, slots)

    def _learn_target(self, row: FloatArray, value: float) -> None:
        slots = self._take(row)
        self._target.learn(np.array([value]))
        target = self._target.scale(np.array([value]))
        error = self._scores(slots) - target
        np.clip(error, -self.clip, self.clip, out=error)
        loss = np.square(error[:, 0])
        mixed = float(self._mixture.dot(error[:, 0])) ** 2
        self._error += (mixed - self._error) * 0.01
        self._mix(np.exp(-_RATE * np.minimum(loss / (self._error + 1e-12), 20.0)))
        self._descend(error, slots)

    def _mix(self, merit: FloatArray) -> None:
        """Give weight to the models by merit, and a share to all so that none is ever lost."""
        mixture = self._mixture * merit
        self._mixture = mixture * ((1.0 - _SHARE) / mixture.sum()) + _SHARE / len(mixture)

    def _descend(self, error: FloatArray, slots: NDArray[np.int64] | None) -> None:
        """One step against the gradient of the loss, whose derivative by the scores is ``error``."""
        gradient = self._input[:, None, None] * error
        self._sums *= self.fade
        self._sums += gradient * gradient
        pace = np.sqrt(self._sums)
        pace += _DAMPING
        gradient /= pace
        step = self._step
        if self.task == "regression":
            step = step / (1.0 + step * np.square(self._input).dot((1.0 / pace)[:, :, 0])[:, None])
        gradient *= step
        self._weights -= gradient
        if slots is not None:
            sums = self._slot_sums[slots] * self.fade + error * error
            self._slot_sums[slots] = sums
            self._slot_weights[slots] -= step * error / (np.sqrt(sums) + _DAMPING)

    def predict(self, X: FloatArray) -> FloatArray:
        """The mixture's probabilities (n, k), or its estimates (n,)."""
        rows = as_rows(X, self._width)
        if self._width is None:
            return np.full(len(rows), np.nan) if self.task == "regression" else np.empty((len(rows), 0))
        models, outputs = self._weights.shape[1:]
        weights = self._weights.reshape(-1, models * outputs)
        numeric = rows[:, self._numeric] if self.categorical else rows
        scores = self._scaler.scale(numeric).dot(weights[:-1]) + weights[-1]
        if self.categorical:
            slots = self._onehot.find(rows[:, self.categorical])
            table = self._slot_weights.reshape(-1, models * outputs)
            scores += (table[slots] * (slots >= 0)[:, :, None]).sum(axis=1)
        scores = scores.reshape(-1, models, outputs)
        if self.task == "classification":
            mixed: FloatArray = np.einsum("nmk,m->nk", _softmax(scores), self._mixture)
            return mixed
        estimates: FloatArray = scores[:, :, 0].dot(self._mixture)
        return estimates * self._target.deviation + self._target.mean

    def state(self) -> State:
        """Scales, slots, weights and sums, and the mixture."""
        if self._width is None:
            return {"width": None}
        used = self._onehot.slots
        return {
            "width": self._width,
            "classes": self.classes,
            "scaler": self._scaler.state(),
            "target": self._target.state(),
            "onehot": self._onehot.state(),
            "mixture": self._mixture.copy(),
            "error": self._error,
            "weights": self._weights.copy(),
            "sums": self._sums.copy(),
            "slot_weights": self._slot_weights[:used].copy(),
            "slot_sums": self._slot_sums[:used].copy(),
        }

    def restore(self, state: State) -> None:
        """Take over a state."""
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise IntegrityError(f"The state of a linear learner is not whole: {error!r}") from None

    def _restore(self, state: State) -> None:
        fresh = Linear(
            task=self.task,
            categorical=self.categorical,
            seed=self.seed,
            steps=self.steps,
            fade=self.fade,
            clip=self.clip,
            memory=self.memory,
            max_categories=self.max_categories,
            max_classes=self._classes.limit,
        )
        if state["width"] is not None:
            fresh._begin(int(state["width"]))
            fresh._fill(state)
        self.__dict__.update(fresh.__dict__)  # all or nothing

    def _fill(self, state: State) -> None:
        self._classes.restore(state["classes"])
        self._scaler.restore(state["scaler"])
        self._target.restore(state["target"])
        self._onehot.restore(state["onehot"])
        self._error = float(state["error"])
        outputs = 1 if self.task == "regression" else len(self._classes)
        models, used = len(self.steps), self._onehot.slots
        self._mixture = _array(state, "mixture", (models,))
        self._weights = _array(state, "weights", (len(self._numeric) + 1, models, outputs))
        self._sums = _array(state, "sums", self._weights.shape)
        self._slot_weights = np.zeros((used + 8, models, outputs))
        self._slot_sums = np.zeros_like(self._slot_weights)
        self._slot_weights[:used] = _array(state, "slot_weights", (used, models, outputs))
        self._slot_sums[:used] = _array(state, "slot_sums", (used, models, outputs))


def _array(state: State, name: str, shape: tuple[int, ...]) -> FloatArray:
    values = np.array(state[name], dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, not {shape}")
    return values


def _softmax(scores: FloatArray) -> FloatArray:
    """Probabilities along the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
