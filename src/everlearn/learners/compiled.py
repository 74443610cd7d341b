"""Linear models of scikit-learn as a function of one row of plain floats: what a request waits for.

A call of scikit-learn for one row spends a tenth of a millisecond and more on checks and on small arrays.
The models here are read out once (the means and scales of their numbers, what each category adds) and then
answer in a few microseconds. Every function is held against the estimator it was read from on probing rows
before it is used; where the two are apart by more than rounding, there is no function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

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


def compiled(estimator: Any, width: int, answer: Callable[[FloatArray], FloatArray]) -> Single | None:
    """A function that answers one row as ``answer`` does a table, or ``None`` where that is not known.

    ``estimator`` is a fitted pipeline of :class:`everlearn.learners.estimators.Recipe` around a linear model,
    and ``answer`` gives its probabilities (n, k) or estimates (n,) for rows (n, ``width``).
    """
    try:
        columns, model = (step for _, step in estimator.steps)
        link = _LINKS[type(model).__name__]
        weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        start = np.atleast_1d(np.asarray(model.intercept_, dtype=np.float64)).tolist()
        numbers, codes = _parts(columns, weights)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    single = _function(numbers, codes, start, link)
    return single if _agrees(single, answer, numbers, codes, width) else None


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
            value = cells[code.column]
            added = code.missing if value != value else code.known.get(value, code.unknown)
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


_LINKS: dict[str, Callable[[list[float]], list[float]]] = {
    "LogisticRegression": _logistic,
    "LinearRegression": _identity,
    "Ridge": _identity,
    "Lasso": _identity,
    "ElasticNet": _identity,
}


def _agrees(
    single: Single,
    answer: Callable[[FloatArray], FloatArray],
    numbers: list[_Number],
    codes: list[_Code],
    width: int,
) -> bool:
    """Whether the function answers as the estimator on rows that probe it."""
    draw = np.random.default_rng(0)
    rows = np.zeros((_PROBES, width))
    for number in numbers:
        rows[:, number.column] = number.mean + number.scale * draw.normal(scale=3.0, size=_PROBES)
    for code in codes:
        rows[:, code.column] = draw.choice([*code.known, -1.0, math.nan], size=_PROBES)
    rows[draw.random(rows.shape) < 0.1] = np.nan
    wanted = answer(rows).reshape(_PROBES, -1)
    given = np.array([single(row) for row in rows.tolist()]).reshape(_PROBES, -1)
    if given.shape != wanted.shape or not np.isfinite(given).all():
        return False
    return bool((np.abs(given - wanted) <= _TOLERANCE * np.maximum(1.0, np.abs(wanted))).all())
