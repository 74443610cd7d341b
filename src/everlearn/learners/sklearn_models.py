"""Any scikit-learn estimator that has ``partial_fit``, behind the contract of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners import skops_files
from everlearn.learners.contract import Labels, State
from everlearn.learners.estimators import Recipe
from everlearn.learners.fitting import one_thread, quietly
from everlearn.learners.inputs import (
    LARGEST,
    Classes,
    as_batch,
    as_columns,
    as_rows,
    as_task,
    at_least,
    invalid,
    positive,
)
from everlearn.learners.kernels import scale_learn, scale_row
from everlearn.types import FloatArray, Scalar

_DEFAULTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "classification": ("sklearn.linear_model:SGDClassifier", {"loss": "log_loss"}),
    "regression": ("sklearn.linear_model:SGDRegressor", {"learning_rate": "constant", "eta0": 0.02}),
}
_SHARE = 1e-3  # of the class frequencies in every answer
_BLOCK = 64  # rows answered together: always as many, so that a row's place changes nothing


class PartialFit:
    """A scikit-learn estimator with ``partial_fit``, by its path: ``"sklearn.naive_bayes:GaussianNB"``.

    ``parameters`` go to it. Without an estimator it is logistic regression or least squares by stochastic
    gradient descent. It is taught ``batch`` rows at a time; rows of a block that is not full are kept in the
    state, and count in the answer when it is. A batch of 1 follows faster and takes twenty times as long.

    Columns are scaled by their running mean and deviation over the newest ``memory`` rows, at most ``clip``
    deviations, missing values are the mean; with ``scale=False`` they only get the mean. A category is a
    column of 0 and 1; codes of ``max_categories`` and more share one. A regression's target is scaled too.

    ``partial_fit`` must be told all classes before the first. It is told of ``max_classes`` numbered ones,
    which are given to labels as they appear; those not yet given away are hidden from answers. Each costs
    an estimator by class (linear models) as much as a class that is there, so give as many as may come;
    more are refused. Answers are ``predict_proba``, else the softmax of ``decision_function``, else
    certainties, mixed with a thousandth of the class frequencies.

    There are no example weights. The state is a skops file with a fixed list of types; the memory is the
    estimator's, ``batch`` rows, and a few numbers a column.

    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> learner = PartialFit()
    >>> learner.learn(X, np.where(X[:, 0] > X[:, 1], "up", "down"))
    >>> learner.predict(np.array([[2.0, -2.0], [-2.0, 2.0]])).argmax(axis=1), learner.classes
    (array([0, 1]), ['up', 'down'])
    """

    name: ClassVar[str] = "sklearn"
    good_for: ClassVar[str] = "an estimator of scikit-learn that you know, taught in small batches"
    cannot: ClassVar[str] = "weigh examples; take more classes than it was told of at first"
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        estimator: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        batch: int = 20,
        scale: bool = True,
        memory: int = 10_000,
        clip: float = 5.0,
        max_categories: int = 20,
        max_classes: int = 16,
    ) -> None:
        self.task = as_task(task)
        self.categorical = as_columns(categorical)
        self.batch = at_least("batch", batch, 1)
        self.scale = bool(scale)
        self.memory = float(at_least("memory", memory, 2))
        self.clip = positive("clip", clip)
        self.max_categories = at_least("max_categories", max_categories, 1)
        path, defaults = _DEFAULTS[self.task] if estimator is None else (estimator, {})
        self._recipe = Recipe(path, {**defaults, **(parameters or {})}, task=self.task, seed=seed)
        self._classes = Classes(max_classes)
        self._estimator: Any = None
        self._width: int | None = None
        self._try_out()

    def _try_out(self) -> None:
        """Teach an estimator two rows, so that what it refuses is refused before any row is learned."""
        estimator = self._recipe.make()
        if not hasattr(estimator, "partial_fit"):
            name = type(estimator).__name__
            raise invalid(
                "estimator", f"{name} has no partial_fit: use SGDClassifier, MLPRegressor and the like"
            )
        self._teach(estimator, np.array([[0.0], [1.0]]) - self.scale * 0.5, np.array([0.0, 1.0]))
        skops_files.dump(estimator)

    @property
    def wants(self) -> int | None:
        """All there are."""
        return None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn rows ``X`` (n, d) with labels ``y`` (n,), in order."""
        rows, values = as_batch(X, y, self._width, self.task)
        if self.categorical and self.categorical[-1] >= rows.shape[1]:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {rows.shape[1]} columns of X")
        if not len(rows):
            return
        if self.task == "classification":
            values = self._classes.learn(values)
        if self._width is None:
            self._begin(rows.shape[1])
        rows = np.where(np.abs(rows) < LARGEST, rows, np.nan)
        for row, target in zip(rows, np.array(values, dtype=np.float64), strict=True):
            self._take(row, target)

    def _begin(self, width: int) -> None:
        self._width = width
        self._numeric = [column for column in range(width) if column not in set(self.categorical)]
        self._scale = np.zeros((3, len(self._numeric) + 1))  # of the columns, and of a regression's target
        self._counts = np.zeros(self._classes.limit, dtype=np.int64)
        self._rows = np.zeros((self.batch, width))
        self._targets = np.zeros(self.batch)
        self._learned = 0

    def _take(self, row: FloatArray, target: float) -> None:
        """Take a row into the block, and teach the block when it is full."""
        place = self._learned % self.batch
        self._rows[place], self._targets[place] = row, target
        self._learned += 1
        shown = row[self._numeric]
        scale_learn(self._scale[:, :-1], shown, self.memory, self.clip)
        if self.task == "classification":
            self._counts[int(target)] += 1
        else:
            scale_learn(self._scale[:, -1:], np.array([target]), self.memory, self.clip)
        if place + 1 < self.batch:
            return
        if self._estimator is None:
            self._estimator = self._recipe.make()
        targets = self._targets
        if self.task == "regression":
            _, mean, variance = self._scale[:, -1]
            targets = (targets - mean) / np.sqrt(variance) if variance > 0.0 else np.zeros(self.batch)
            targets = np.clip(targets, -self.clip, self.clip)
        self._teach(self._estimator, self._columns(self._rows), targets)
        self._rows[:], self._targets[:] = 0.0, 0.0

    def _teach(self, estimator: Any, rows: FloatArray, targets: FloatArray) -> None:
        try:
            with quietly(), one_thread():
                if self.task == "regression":
                    estimator.partial_fit(rows, targets)
                else:
                    every = np.arange(self._classes.limit)
                    estimator.partial_fit(rows, targets.astype(np.int64), classes=every)
        except (TypeError, ValueError) as error:
            name = type(estimator).__name__
            raise invalid("estimator", f"{name} could not be taught: {error}") from error

    def _columns(self, rows: FloatArray) -> FloatArray:
        """Rows as the estimator takes them: scaled or filled numbers, and a 0 or 1 for each category."""
        numbers, slots = len(self._numeric), self.max_categories + 1
        out = np.zeros((len(rows), numbers + slots * len(self.categorical)))
        shown = np.ascontiguousarray(rows[:, self._numeric])
        if self.scale:
            for row, into in zip(shown, out[:, :numbers], strict=True):
                scale_row(self._scale[:, :-1], row, self.clip, into)
        else:
            out[:, :numbers] = np.where(np.isnan(shown), self._scale[1, :-1], shown)
        for place, column in enumerate(self.categorical):
            codes = rows[:, column]
            there = np.flatnonzero((codes >= 0.0) & (codes == np.floor(codes)))
            slot = np.minimum(codes[there], self.max_categories).astype(np.int64)
            out[there, numbers + slots * place + slot] = 1.0
        return out

    def predict(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes``, or estimates (n,)."""
        rows = as_rows(X, self._width)
        if self._width is None:
            return np.zeros((len(rows), 0)) if self.task == "classification" else np.full(len(rows), np.nan)
        rows = np.where(np.abs(rows) < LARGEST, rows, np.nan)
        if self.task == "regression":
            return self._estimates(rows)
        prior = (self._counts / self._learned)[: len(self._classes)]
        table = np.zeros((len(rows), len(prior)))
        if self._estimator is not None and len(rows):
            table[:] = self._asked(self._columns(rows), self._votes)[:, : len(prior)]
        table[~(np.isfinite(table) & (table > 0.0))] = 0.0
        totals = table.sum(axis=1, keepdims=True)
        known = np.where(totals > 0.0, table / np.where(totals > 0.0, totals, 1.0), prior)
        mixed: FloatArray = (1.0 - _SHARE) * known + _SHARE * prior
        return mixed

    def _estimates(self, rows: FloatArray) -> FloatArray:
        _, mean, variance = self._scale[:, -1]
        if self._estimator is None or not len(rows):
            return np.full(len(rows), mean)
        said = self._asked(self._columns(rows), lambda part: self._estimator.predict(part).reshape(-1))
        said = np.clip(np.where(np.isnan(said), 0.0, said), -2.0 * self.clip, 2.0 * self.clip)
        values: FloatArray = mean + np.sqrt(variance) * said
        return values

    def _asked(self, rows: FloatArray, ask: Any) -> FloatArray:
        """What the estimator says of rows, asked in blocks of one size."""
        padded = np.zeros((-(-len(rows) // _BLOCK) * _BLOCK, rows.shape[1]))
        padded[: len(rows)] = rows
        with quietly(), one_thread(), np.errstate(all="ignore"):
            parts = [ask(padded[start : start + _BLOCK]) for start in range(0, len(padded), _BLOCK)]
        said: FloatArray = np.concatenate(parts)[: len(rows)].astype(np.float64)
        return said

    def _votes(self, rows: FloatArray) -> NDArray[Any]:
        """Probabilities of the classes there are to be given, each of those that have been given counted."""
        estimator, given = self._estimator, len(self._classes)
        if hasattr(estimator, "predict_proba"):
            return np.asarray(estimator.predict_proba(rows))
        if hasattr(estimator, "decision_function"):
            scores = np.asarray(estimator.decision_function(rows))
            scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
            scores = scores[:, :given]
            votes: NDArray[Any] = np.exp(scores - scores.max(axis=1, keepdims=True))
            return votes
        certain = np.zeros((len(rows), self._classes.limit))
        certain[np.arange(len(rows)), estimator.predict(rows)] = 1.0
        return certain

    def state(self) -> State:
        """The estimator as a skops file, the scale, and the block that is not full."""
        if self._width is None:
            return {"width": None}
        state: State = {
            "width": self._width,
            "classes": self.classes,
            "learned": self._learned,
            "scale": self._scale.copy(),
            "counts": self._counts.copy(),
            "rows": self._rows.copy(),
            "targets": self._targets.copy(),
            "taught": self._estimator is not None,
        }
        if self._estimator is not None:
            state["estimator.skops"] = skops_files.dump(self._estimator)
        return state

    def restore(self, state: State) -> None:
        """Take over a state, or (IntegrityError) none of it."""
        try:
            fresh: Any = object.__new__(type(self))
            fresh.__dict__.update(self.__dict__)
            fresh._classes, fresh._width, fresh._estimator = Classes(self._classes.limit), None, None
            if state["width"] is not None:
                fresh._restore(state)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The state of a sklearn learner is not whole: {error!r}") from None
        self.__dict__.update(fresh.__dict__)

    def _restore(self, state: State) -> None:
        self._begin(int(state["width"]))
        for name in ("scale", "counts", "rows", "targets"):
            mine, given = getattr(self, f"_{name}"), np.asarray(state[name])
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise ValueError(f"{name} is {given.dtype} {given.shape}, not {mine.dtype} {mine.shape}")
            setattr(self, f"_{name}", given.copy())
        self._classes.restore(state["classes"])
        self._learned = int(state["learned"])
        if bool(state["taught"]):
            self._estimator = skops_files.load(state["estimator.skops"])
            if type(self._estimator) is not type(self._recipe.make()):
                raise ValueError(f"the estimator is a {type(self._estimator).__name__}")
        if bool(state["taught"]) != (self._learned >= self.batch) or len(self._classes) > self._classes.limit:
            raise ValueError(
                f"{self._learned} rows and {len(self._classes)} classes do not fit these parameters"
            )
