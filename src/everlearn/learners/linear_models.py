"""Linear models of scikit-learn as their numbers: answered, stored and loaded without scikit-learn.

A call of scikit-learn for one row spends a tenth of a millisecond and more on checks and on small arrays, and
a process that holds it a hundred megabytes. The models here are read out once they are fitted (the means and
scales of their numbers, what each category adds). A row is then answered in a few microseconds, and a table
with the same sums in the same order, so that no answer depends on what else was asked with it. What was read
is held against the estimator on probing rows; where the two are apart by more than rounding, it is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.contract import State
from everlearn.types import FloatArray

Single: TypeAlias = Callable[[Sequence[float]], "list[float]"]
"""One row (d cells, NaN for missing) to probabilities (k) in the order of the classes, or to one estimate."""

_TOLERANCE = 1e-12
_LARGEST = 1e38
_PROBES = 64


@dataclass(frozen=True, slots=True)
class _Number:
    """A column of numbers: what stands for a missing one, its scale, and its weight in each score."""

    column: int
    missing: float
    mean: float
    scale: float
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Code:
    """A column of categories: what each adds to each score, and what an unknown one does."""

    column: int
    known: dict[float, tuple[float, ...]]
    unknown: tuple[float, ...]
    missing: tuple[float, ...]

    def added(self, value: float) -> tuple[float, ...]:
        """What a cell adds to each score."""
        return self.missing if value != value else self.known.get(value, self.unknown)

    def every(self) -> list[tuple[float, ...]]:
        """All that it may add."""
        return [*self.known.values(), self.unknown, self.missing]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> _Code:
        """The column of a state."""
        values, weights = _floats(state["values"]), [_floats(one) for one in state["weights"]]
        known = dict(zip(values, weights, strict=True))
        return cls(int(state["column"]), known, _floats(state["unknown"]), _floats(state["missing"]))


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear model as its numbers. ``classes_`` (k,) are those of a classification, none of a regression.

    ``start`` are its scores before any column: one for each class, or one for two of them or an estimate.
    """

    start: tuple[float, ...]
    numbers: tuple[_Number, ...]
    codes: tuple[_Code, ...]
    classes_: NDArray[np.int64] | None

    def single(self) -> Single:
        """Its answer to one row."""
        link = _identity if self.classes_ is None else _logistic
        return _function(list(self.numbers), list(self.codes), list(self.start), link)

    def predict(self, X: FloatArray) -> FloatArray:
        """Estimates (n,) of a regression for rows (n, d)."""
        estimates: FloatArray = self._scores(X)[:, 0]
        return estimates

    def predict_proba(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) of a classification for rows (n, d)."""
        scores = self._scores(X)
        if scores.shape[1] > 1:
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        power = np.exp(-np.abs(scores))
        near, far = 1.0 / (1.0 + power), power / (1.0 + power)
        return np.hstack([np.where(scores < 0, near, far), np.where(scores < 0, far, near)])

    def _scores(self, X: FloatArray) -> FloatArray:
        scores = np.tile(np.array(self.start), (len(X), 1))
        for number in self.numbers:
            cells = X[:, number.column]
            known = np.clip(np.where(np.isfinite(cells), cells, number.missing), -_LARGEST, _LARGEST)
            scores += ((known - number.mean) / number.scale)[:, None] * np.array(number.weights)
        for code in self.codes:
            values, places = np.unique(X[:, code.column], return_inverse=True)
            scores += np.array([code.added(value) for value in values.tolist()])[places.ravel()]
        return scores

    def state(self) -> State:
        """Its numbers, as a learner stores them."""
        fields = ("column", "missing", "mean", "scale", "weights")
        return {
            "start": np.array(self.start),
            "numbers": {name: np.array([getattr(n, name) for n in self.numbers]) for name in fields},
            "codes": [
                {
                    "column": code.column,
                    "values": np.array(list(code.known), dtype=np.float64),
                    "weights": np.array(list(code.known.values()), dtype=np.float64),
                    "unknown": np.array(code.unknown),
                    "missing": np.array(code.missing),
                }
                for code in self.codes
            ],
            "classes": None if self.classes_ is None else self.classes_.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], width: int) -> Linear:
        """The model of a state for rows of ``width`` cells; raises ValueError, KeyError or TypeError."""
        start = _floats(state["start"])
        if not start:
            raise ValueError("a linear model needs a score")
        given = state["numbers"]
        columns = [int(column) for column in np.asarray(given["column"]).tolist()]
        facts = [_floats(given[name]) for name in ("missing", "mean", "scale")]
        weights = [_floats(one) for one in given["weights"]]
        numbers = tuple(_Number(*one) for one in zip(columns, *facts, weights, strict=True))
        codes = tuple(_Code.of(one) for one in state["codes"])
        if any(not 0 <= column < width for column in [*columns, *(code.column for code in codes)]):
            raise ValueError(f"a linear model names a column beyond the {width} of its rows")
        if any(len(one) != len(start) for one in (*weights, *(w for code in codes for w in code.every()))):
            raise ValueError("a linear model has other weights than scores")
        classes = state["classes"]
        known = None if classes is None else np.array(classes, dtype=np.int64)
        if known is not None and len(known) != max(2, len(start)):
            raise ValueError(f"a linear model has {len(start)} scores for {len(known)} classes")
        return cls(start, numbers, codes, known)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).tolist())


def read_out(estimator: Any, width: int) -> Linear | None:
    """A fitted estimator as a linear model, or ``None`` where it is not known to be one.

    ``estimator`` is a pipeline of :class:`everlearn.learners.estimators.Recipe` for rows (n, ``width``).
    """
    try:
        columns, model = (step for _, step in estimator.steps)
        if type(model).__name__ not in LINEAR:
            return None
        weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        start = _floats(np.atleast_1d(model.intercept_))
        numbers, codes = _parts(columns, weights)
        classes = getattr(model, "classes_", None)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    known = None if classes is None else np.array(classes, dtype=np.int64)
    linear = Linear(start, tuple(numbers), tuple(codes), known)
    answer = estimator.predict if known is None else estimator.predict_proba
    return linear if _agrees(linear, answer, width) else None


def _parts(columns: Any, weights: FloatArray) -> tuple[list[_Number], list[_Code]]:
    """The columns as they were fitted; ``weights`` (k, m) are of what they are turned into."""
    numbers: list[_Number] = []
    codes: list[_Code] = []
    place = 0
    for name, part, chosen in columns.transformers_:
        if name == "numbers":
            imputer, scaler = (step for _, step in part.steps)
            for i, column in enumerate(chosen):
                own = (float(imputer.statistics_[i]), float(scaler.mean_[i]), float(scaler.scale_[i]))
                numbers.append(_Number(int(column), *own, tuple(weights[:, place + i].tolist())))
            place += len(chosen)
        elif name == "codes":
            codes = _codes(part, [int(column) for column in chosen], weights[:, place:])
            place = weights.shape[1]
        elif name != "remainder" or len(chosen):
            raise ValueError(name)
    return numbers, codes


def _codes(encoder: Any, chosen: Sequence[int], weights: FloatArray) -> list[_Code]:
    """What categories add, found by asking the fitted encoder for each of them."""
    found = []
    for i, column in enumerate(chosen):
        known = [float(value) for value in encoder.categories_[i]]
        unknown = max((value for value in known if not math.isnan(value)), default=-1.0) + 1.0
        asked = [*known, unknown, math.nan]
        alone = encoder.transform(np.array([[asked[-2]] * len(chosen)]))[0]
        added = []
        for value in asked:
            row = np.full((1, len(chosen)), unknown)
            row[0, i] = value
            added.append(tuple((weights @ (encoder.transform(row)[0] - alone)).tolist()))
        # What every unknown category adds together is counted once, with the first column.
        rest = weights @ alone if i == 0 else np.zeros(len(weights))
        full = [tuple((np.array(one) + rest).tolist()) for one in added]
        table = {value: one for value, one in zip(known, full, strict=False) if not math.isnan(value)}
        found.append(_Code(column, table, full[-2], full[-1]))
    return found


def _function(numbers: list[_Number], codes: list[_Code], start: list[float], link: Any) -> Single:
    if len(start) == 1 and not codes:
        return _one_score(numbers, start[0], link)
    places = range(len(start))

    def single(cells: Sequence[float]) -> list[float]:
        scores = start.copy()
        for number in numbers:
            scaled = (_tame(cells[number.column], number.missing) - number.mean) / number.scale
            for k in places:
                scores[k] += scaled * number.weights[k]
        for code in codes:
            added = code.added(cells[code.column])
            for k in places:
                scores[k] += added[k]
        return link(scores)  # type: ignore[no-any-return]

    return single


def _one_score(numbers: list[_Number], start: float, link: Any) -> Single:
    plain = [(n.column, n.missing, n.mean, n.scale, n.weights[0]) for n in numbers]

    def single(cells: Sequence[float]) -> list[float]:
        score = start
        for column, missing, mean, scale, weight in plain:
            value = cells[column]
            if not -_LARGEST <= value <= _LARGEST:
                value = _tame(value, missing)
            score += (value - mean) / scale * weight
        return link([score])  # type: ignore[no-any-return]

    return single


def _tame(value: float, missing: float) -> float:
    """A cell within single precision; what is not finite is missing."""
    if not math.isfinite(value):
        return missing
    return min(max(value, -_LARGEST), _LARGEST)


def _logistic(scores: list[float]) -> list[float]:
    if len(scores) > 1:
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        total = sum(powers)
        return [power / total for power in powers]
    score = scores[0]
    if score >= 0:
        yes = 1.0 / (1.0 + math.exp(-score))
        return [1.0 - yes, yes]
    power = math.exp(score)
    return [1.0 / (1.0 + power), power / (1.0 + power)]


def _identity(scores: list[float]) -> list[float]:
    return scores


LINEAR = frozenset({"LogisticRegression", "LinearRegression", "Ridge", "Lasso", "ElasticNet"})
"""The estimators that are read out."""


def _agrees(linear: Linear, answer: Callable[[FloatArray], FloatArray], width: int) -> bool:
    """Whether it answers as the estimator on rows that probe it, one by one and as a table."""
    draw = np.random.default_rng(0)
    rows = np.zeros((_PROBES, width))
    for number in linear.numbers:
        rows[:, number.column] = number.mean + number.scale * draw.normal(scale=3.0, size=_PROBES)
    for code in linear.codes:
        rows[:, code.column] = draw.choice([*code.known, -1.0, math.nan], size=_PROBES)
    rows[draw.random(rows.shape) < 0.1] = np.nan
    wanted = np.asarray(answer(rows)).reshape(_PROBES, -1)
    single, table = linear.single(), linear.predict if linear.classes_ is None else linear.predict_proba
    for given in (np.array([single(row) for row in rows.tolist()]), table(rows)):
        found = given.reshape(_PROBES, -1)
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return False
        if not (np.abs(found - wanted) <= _TOLERANCE * np.maximum(1.0, np.abs(wanted))).all():
            return False
    return True
