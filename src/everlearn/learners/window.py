"""Any scikit-learn estimator, or LightGBM, fitted again and again on the newest rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.learners import lightgbm_models, skops_files
from everlearn.learners.contract import Labels, State
from everlearn.learners.estimators import recipe
from everlearn.learners.fitting import one_thread
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
from everlearn.learners.lightgbm_models import Booster, BoosterRecipe
from everlearn.learners.linear_models import Linear, Single, read_out
from everlearn.learners.recent import Recent
from everlearn.learners.sizing import rows_to_learn
from everlearn.types import FloatArray, Scalar

_FEWEST = 10  # rows below which frequencies, or the mean, say as much as any estimator
_LARGEST = 1e38  # single precision, which trees compare in
_LEAST_WEIGHT = 1e-9  # of the oldest rows: estimators divide by sums of weights
_MORE = 10  # rounds, or trees, that a warm fit adds


@dataclass(frozen=True, slots=True)
class _Fit:
    """What was learned as of row ``at``: frequencies (k,) or mean (1,), and the estimator beside them.

    ``rows`` are how many of the newest rows it was learned from.
    """

    at: int
    prior: FloatArray
    estimator: Any = None
    file: bytes | None = None
    rows: int = 0


class Window:
    """An estimator on the newest ``size`` rows, by default gradient-boosted trees.

    ``estimator`` is ``"gradient_boosting"``, ``"random_forest"``, ``"extra_trees"``, ``"logistic"``
    (classification), ``"ridge"`` (regression), ``"lightgbm"`` (an extra), or a path such as
    ``"sklearn.svm:SVC"``; ``estimator_parameters`` go to it. Estimators that cannot take missing values
    get means for them, scaled columns, and one-hot columns for category codes.

    With ``adapt`` it learns from as many of the newest rows as predict the very newest best: all of the
    window, or 1/2, 1/4 or 1/8 of it (see :mod:`everlearn.learners.sizing`).

    With ``half_life`` a row that is so many rows old weighs half of the newest one.

    With ``warm`` so many fits after each fit from scratch go on from the one before with 10 more trees,
    grown on the newest rows; then one is from scratch again, as also when the window's classes change. For
    LightGBM and forests. Trees of left rows stay until then, so it follows drift later; and it saves time
    only where every fit is asked for: one that was skipped is made up for, so that what it answers depends
    on its rows alone.

    It is fitted as of the newest multiple of ``refit_every`` rows (before the first, as of the newest
    power of two), when it is first asked. Memory: ``size + (warm + 1) refit_every`` rows and the
    estimator. With ``keep_window=False`` the state answers, but cannot go on learning.

    >>> import numpy as np
    >>> X = np.arange(200.0)[:, None]
    >>> learner = Window(size=100)
    >>> learner.learn(X, np.where(X[:, 0] < 150, "low", "high"))
    >>> learner.predict(np.array([[120.0], [180.0]])).round(1)
    array([[1., 0.],
           [0., 1.]])
    """

    name: ClassVar[str] = "window"
    good_for: ClassVar[str] = "large tables with interactions, updated when the policy says so"
    cannot: ClassVar[str] = "learn from a single row: it is fitted afresh"
    prefers: ClassVar[Literal["stream", "triggered"]] = "triggered"
    incremental: ClassVar[bool] = False

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        size: int = 5000,
        estimator: str = "gradient_boosting",
        estimator_parameters: Mapping[str, Any] | None = None,
        adapt: bool = True,
        half_life: float | None = None,
        warm: int = 0,
        refit_every: int = 1,
        keep_window: bool = True,
        max_classes: int = 1000,
    ) -> None:
        self.task = as_task(task)
        self.categorical = as_columns(categorical)
        self.seed = seed
        self.size = at_least("size", size, 2)
        self.adapt = bool(adapt)
        self.refit_every = at_least("refit_every", refit_every, 1)
        self.keep_window = keep_window
        self._recipe = recipe(estimator, estimator_parameters or {}, task=self.task, seed=seed)
        self.half_life = None if half_life is None else positive("half_life", half_life)
        if self.half_life is not None and not self._recipe.takes_weights:
            raise invalid("half_life", f"{estimator} cannot weigh rows: leave half_life out")
        self.warm = at_least("warm", warm, 0)
        if self.warm and not self._recipe.goes_on:
            raise invalid(
                "warm", f"{estimator} cannot go on from a fit to other rows: use lightgbm or a forest"
            )
        self._classes = Classes(max_classes)
        self._recent: Recent | None = None
        self._closed = False
        self._fit = _Fit(0, np.empty(0))

    @property
    def wants(self) -> int | None:
        """The newest ``size`` rows."""
        return self.size

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    @property
    def _width(self) -> int | None:
        return None if self._recent is None else self._recent.width

    @property
    def _limit(self) -> int:
        return self.size + (self.warm + 1) * self.refit_every

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Take the rows into the window; fitting waits until an answer is wanted."""
        rows, values = as_batch(X, y, self._width, self.task)
        if not len(rows):
            return
        if self._closed:
            raise invalid("keep_window", "is false, so this state cannot go on learning: learn afresh")
        if self.categorical and self.categorical[-1] >= rows.shape[1]:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {rows.shape[1]} columns of X")
        if self.task == "classification":
            values = self._classes.learn(values)
        if self._recent is None:
            self._recent = Recent(rows.shape[1], self._limit)
        self._recent.append(rows, np.array(values, dtype=np.float64))

    def _due(self, learned: int) -> int:
        """As of which row the estimator is due to be fitted when so many have been learned."""
        if learned < self.refit_every:
            return 1 << (learned.bit_length() - 1)
        return learned - learned % self.refit_every

    def _fitted(self) -> _Fit | None:
        """The fit that is due, made now unless it is there; None while nothing is known."""
        recent = self._recent
        if recent is None:
            return None
        for at in self._to_make(self._due(recent.learned)):
            X, y = recent.window(at, self.size)
            self._fit = self._fit_on(X, y, at, goes_on=at in self._chain(at)[1:])
        return self._fit

    def _chain(self, due: int) -> list[int]:
        """As of which rows fits are made, up to the one that is due: from scratch, then going on from it."""
        step = self.refit_every
        if due < step:
            return [due]
        since = (due // step - 1) % (self.warm + 1)
        return list(range(due - since * step, due + 1, step))

    def _to_make(self, due: int) -> list[int]:
        """Those of the fits up to the due one that are not there yet."""
        chain = self._chain(due)
        return chain[chain.index(self._fit.at) + 1 :] if self._fit.at in chain else chain

    def _fit_on(self, X: FloatArray, y: FloatArray, at: int, *, goes_on: bool) -> _Fit:
        """A fit on a window, going on from the last one if it is to and can."""
        if goes_on and self._fit.estimator is not None:
            rows = min(self._fit.rows, len(y))
            X, y = X[len(y) - rows :], y[len(y) - rows :]
            if self.task == "regression" or np.array_equal(self._fit.estimator.classes_, np.unique(y)):
                return self._fit_rows(X, y, at, self._fit.estimator)
        rows = rows_to_learn(len(y), lambda *slices: self._losses(X, y, *slices)) if self.adapt else len(y)
        return _read_out(self._fit_rows(X[len(y) - rows :], y[len(y) - rows :], at), X.shape[1])

    def _losses(self, X: FloatArray, y: FloatArray, learned: slice, asked: slice) -> FloatArray:
        """The 0/1 loss, or the absolute error, on some rows of what others teach."""
        fit = self._fit_rows(X[learned], y[learned], 0)
        if self.task == "regression":
            return np.abs(_estimates(fit, X[asked]) - y[asked])
        answer = np.zeros((asked.stop - asked.start, len(self._classes)))
        _answer(fit, X[asked], answer)
        losses: FloatArray = (answer.argmax(axis=1) != y[asked]).astype(np.float64)
        return losses

    def _fit_rows(self, X: FloatArray, y: FloatArray, at: int, begun: Any = None) -> _Fit:
        weights = None if self.half_life is None else _fading(len(y), self.half_life)
        if self.task == "regression":
            prior, varied = np.array([np.average(y, weights=weights)]), True
        else:
            prior = np.bincount(y.astype(np.int64), weights, minlength=int(y.max()) + 1)
            prior, varied = prior / prior.sum(), bool((prior > 0).sum() > 1)
        if not varied or len(y) < _FEWEST or not X.shape[1]:
            return _Fit(at, prior, rows=len(y))
        targets = y if self.task == "regression" else y.astype(np.int64)
        grown = self._recipe.fit(_tame(X), targets, self.categorical, weights, begun, _MORE)
        return _Fit(at, prior, grown, rows=len(y))

    def predict(self, X: FloatArray) -> FloatArray:
        """The estimator's probabilities (n, k), 0 for classes outside the window; or its estimates (n,)."""
        rows = as_rows(X, self._width)
        fit = self._fitted()
        if self.task == "regression":
            return _estimates(fit, rows)
        answer = np.zeros((len(rows), len(self._classes)))
        if fit is not None and len(rows):
            _answer(fit, rows, answer)
        return answer

    def single(self) -> Single | None:
        """A function of one row that answers as ``predict`` does, for linear models that know all classes."""
        fit, width = self._fitted(), self._width
        if fit is None or not width:
            return None
        if not isinstance(fit.estimator, Linear):
            return None
        known = fit.estimator.classes_
        if known is not None and not np.array_equal(known, np.arange(len(self._classes))):
            return None
        return fit.estimator.single()

    def state(self) -> State:
        """The fit that is due, and the window unless it is not to be kept."""
        fit, recent = self._fitted(), self._recent
        if fit is None or recent is None:
            return {"width": None}
        linear = fit.estimator if isinstance(fit.estimator, Linear) and fit.file is None else None
        if fit.estimator is not None and fit.file is None and linear is None:
            booster = isinstance(fit.estimator, Booster)
            file = fit.estimator.dump() if booster else skops_files.dump(fit.estimator)
            fit = self._fit = replace(fit, file=file)
        kept = self.keep_window and not self._closed
        rows = min(recent.learned, self.size + recent.learned - fit.at) if kept else 0
        X, y = recent.newest(rows)
        state: State = {
            "width": recent.width,
            "classes": self.classes,
            "learned": recent.learned,
            "fitted": fit.at,
            "prior": fit.prior.copy(),
            "window": {"kept": kept, "X": X, "y": y},
        }
        if self.warm:
            state["rows"] = fit.rows
        if linear is not None:
            state["linear"] = linear.state()
        elif fit.file is not None:
            state[self._file] = fit.file
        return state

    @property
    def _file(self) -> str:
        return "estimator.lightgbm" if isinstance(self._recipe, BoosterRecipe) else "estimator.skops"

    def restore(self, state: State) -> None:
        """Take over a state."""
        try:
            recent, fit, closed, classes = self._parse(state)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The state of a window learner is not whole: {error!r}") from None
        self._recent, self._fit, self._closed = recent, fit, closed
        self._classes.restore(classes)

    def _parse(self, state: State) -> tuple[Recent | None, _Fit, bool, list[Scalar]]:
        if state["width"] is None:
            return None, _Fit(0, np.empty(0)), False, []
        classes, width, at = list(state["classes"]), int(state["width"]), int(state["fitted"])
        prior = np.array(state["prior"], dtype=np.float64)
        if prior.ndim != 1 or len(prior) > max(len(classes), 1):
            raise ValueError(f"prior has shape {prior.shape} for {len(classes)} classes")
        file, linear = state.get(self._file), state.get("linear")
        varied = self.task == "regression" or (prior > 0).sum() > 1
        fitted = bool(varied and width and min(at, self.size) >= _FEWEST)
        if (file is not None) + (linear is not None) != fitted:
            raise ValueError(f"{self._file} is missing, or has no place")
        estimator = None if file is None else self._load(file, prior, width)
        if linear is not None:
            estimator = Linear.from_state(linear, width)
            if (estimator.classes_ is None) != (self.task == "regression"):
                raise ValueError("the linear model is of another task")
            if estimator.classes_ is not None and not set(estimator.classes_) <= set(range(len(classes))):
                raise ValueError("the linear model knows other classes")
        fit = _read_out(_Fit(at, prior, estimator, file, int(state["rows"]) if self.warm else 0), width)
        window = state["window"]
        recent = Recent(width, self._limit)
        recent.append(np.array(window["X"], dtype=np.float64), np.array(window["y"], dtype=np.float64))
        recent.learned = int(state["learned"])
        if fit.at != self._due(recent.learned):
            raise ValueError(f"fitted as of row {fit.at}, not as these parameters have it")
        return recent, fit, not window["kept"], classes

    def _load(self, file: bytes, prior: FloatArray, width: int) -> Any:
        if isinstance(self._recipe, BoosterRecipe):
            classes = np.flatnonzero(prior) if self.task == "classification" else np.empty(0)
            return lightgbm_models.load(file, classes.astype(np.int64), width)
        estimator = skops_files.load(file)
        if not hasattr(estimator, "predict"):
            raise ValueError(f"the estimator is a {type(estimator).__name__}")
        return estimator


def _read_out(fit: _Fit, width: int) -> _Fit:
    """A fit whose estimator is a linear model as the numbers of that."""
    linear = read_out(fit.estimator, width)
    return fit if linear is None else replace(fit, estimator=linear)


def _fading(rows: int, half_life: float) -> FloatArray:
    """The weights (n,) of rows in their order: 1 for the newest, 1/2 for one that is a half-life older."""
    ages = np.arange(rows - 1.0, -1.0, -1.0)
    weights: FloatArray = np.maximum(0.5 ** (ages / half_life), _LEAST_WEIGHT)
    return weights


def _tame(X: FloatArray) -> FloatArray:
    """Rows with NaN for what is not finite, and within single precision."""
    return np.clip(np.where(np.isfinite(X), X, np.nan), -_LARGEST, _LARGEST)


def _estimates(fit: _Fit | None, rows: FloatArray) -> FloatArray:
    if fit is None or not len(rows):
        return np.full(len(rows), np.nan)
    if fit.estimator is None:
        return np.full(len(rows), fit.prior[0])
    if isinstance(fit.estimator, Linear):
        return fit.estimator.predict(_tame(rows))
    with one_thread():
        return np.asarray(fit.estimator.predict(_tame(rows)), dtype=np.float64).reshape(len(rows))


def _answer(fit: _Fit, rows: FloatArray, answer: FloatArray) -> None:
    """Write a fit's probabilities (n, k) for rows into a table of zeros."""
    if fit.estimator is None:
        answer[:, : len(fit.prior)] = fit.prior
    else:
        _vote(fit.estimator, _tame(rows), answer)


def _vote(estimator: Any, rows: FloatArray, answer: FloatArray) -> None:
    """Write an estimator's probabilities, or its answers as certainties, into the columns of its classes."""
    if isinstance(estimator, Linear):
        answer[:, estimator.classes_] = estimator.predict_proba(rows)
        return
    with one_thread():
        if hasattr(estimator, "predict_proba"):
            answer[:, estimator.classes_] = estimator.predict_proba(rows)
            answer /= answer.sum(axis=1, keepdims=True)
        else:
            answer[np.arange(len(rows)), estimator.predict(rows)] = 1.0
