"""Any model of River, behind the contract of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.learners import river_files
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import (
    LARGEST,
    Classes,
    as_batch,
    as_columns,
    as_rows,
    as_task,
    at_least,
    invalid,
)
from everlearn.learners.river_specs import last_step, make, take_nominal
from everlearn.types import FloatArray, Scalar

_DEFAULTS: Mapping[str, Any] = {
    "classification": {"tree.HoeffdingAdaptiveTreeClassifier": {"max_depth": 12}},
    "regression": {"forest.ARFRegressor": {"n_models": 3, "leaf_prediction": "mean", "max_depth": 10}},
}
_CATEGORIES = ("nominal", "one_hot", "number")
_MISSING = ("omit", "mean")
_SKIPS_GAPS = ("river.linear_model", "river.naive_bayes", "river.tree.hoeffding", "river.tree.extremely")
_FARTHEST = 1e30  # larger numbers count as this: models square them, some twice
_SHARE = 1e-3  # of the class frequencies in every answer


class RiverModel:
    """A model of River: ``model`` is its path, such as ``"tree.HoeffdingTreeClassifier"``.

    ``parameters`` go to it. A list is a pipeline, a mapping of one path to parameters a model with
    them, there and as a parameter's value: ``["preprocessing.StandardScaler",
    {"linear_model.LogisticRegression": {"optimizer": {"optim.SGD": {"lr": 0.1}}}}]``. Without a model
    it is a Hoeffding adaptive tree, or an adaptive random forest of three regression trees. Classifiers
    of two classes learn one class against the rest.

    A row is a dict of its numbers by column number. ``missing`` values are left out (``"omit"``: the default
    for Hoeffding trees, linear models and naive Bayes) or filled with the column's running mean (``"mean"``:
    for others). ``categories`` are told to trees as nominal attributes (``"nominal"``), or are a column of 0
    and 1 each (``"one_hot"``, the default for models that know no nominal attributes), or stay numbers
    (``"number"``); codes of ``max_categories`` and more share one.

    The state holds the model's own objects by an explicit list of types, never a pickle
    (:mod:`everlearn.learners.river_files`); models with parts that cannot be kept exactly are refused.
    Memory is not bounded by us but by the model: trees grow unless ``max_depth`` or ``max_size`` says
    otherwise, windows have a size. A row at which the model's arithmetic overflows is left out, and counted
    in ``skipped``. Probabilities are mixed with a thousandth of the class frequencies, so that no class seen
    has none. There are no example weights, and no speed: River takes 50 to 1,000 µs a row and tree.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> learner = RiverModel(model=["preprocessing.StandardScaler", "linear_model.LogisticRegression"])
    >>> learner.learn(X, np.where(X[:, 0] > X[:, 1], "up", "down"))
    >>> learner.predict(np.array([[2.0, -2.0], [-2.0, 2.0]])).argmax(axis=1), learner.classes
    (array([0, 1]), ['up', 'down'])
    """

    name: ClassVar[str] = "river"
    good_for: ClassVar[str] = "a model of River that you know, kept without a pickle"
    cannot: ClassVar[str] = "bound the model's memory; weigh examples; be fast"
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        model: Any = None,
        parameters: Mapping[str, Any] | None = None,
        missing: str | None = None,
        categories: str | None = None,
        max_categories: int = 100,
        max_classes: int = 1000,
    ) -> None:
        self.task = as_task(task)
        self.categorical = as_columns(categorical)
        self.seed = seed
        self.max_categories = at_least("max_categories", max_categories, 1)
        self._classes = Classes(max_classes)
        self._spec = _DEFAULTS[self.task] if model is None else model
        if parameters:
            if not isinstance(model, str):
                raise invalid(
                    "parameters", "go to a model given by its path alone: write them into the model"
                )
            self._spec = {model: parameters}
        self._model, nominal = self._new()
        self.categories = _one_of("categories", categories, _CATEGORIES) or (
            "nominal" if nominal else "one_hot"
        )
        if categories == "nominal" and self.categorical and not nominal:
            raise invalid("categories", "the model knows no nominal attributes: use 'one_hot' or 'number'")
        last = type(last_step(self._model)).__module__
        gaps = last.startswith(_SKIPS_GAPS)
        self.missing = _one_of("missing", missing, _MISSING) or ("omit" if gaps else "mean")
        river_files.dump(self._model)  # refuses now what it would refuse when it is stored
        self.skipped = 0
        self._rows, self._mean = 0, 0.0
        self._counts: list[int] = []
        self._width: int | None = None

    def _new(self) -> tuple[Any, bool]:
        """A new model, and whether it takes category codes as they are."""
        model = make(self._spec, task=self.task, seed=self.seed)
        return model, take_nominal(model, self.categorical) and not hasattr(model, "steps")

    @property
    def wants(self) -> int | None:
        """All there are."""
        return None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    def __deepcopy__(self, memo: dict[int, Any]) -> RiverModel:
        """A copy by way of the state: River's trees can be too deep to be copied by recursion."""
        copy = object.__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(self.__dict__)
        copy._classes = Classes(self._classes.limit)
        copy.restore(self.state())
        return copy

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn rows ``X`` (n, d) with labels ``y`` (n,), one after the other.

        Raises InvalidError for what cannot be learned, before any row is; and if the model itself
        fails at a row, where the rows before it stay learned.
        """
        rows, values = as_batch(X, y, self._width, self.task)
        if self.categorical and self.categorical[-1] >= rows.shape[1]:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {rows.shape[1]} columns of X")
        if not len(rows):
            return
        targets = self._classes.learn(values) if self.task == "classification" else values
        if self._width is None:
            self._begin(rows.shape[1])
        with np.errstate(all="ignore"):
            for i, (row, target) in enumerate(zip(_tame(rows), targets, strict=True)):
                self._learn_row(row, target, i)

    def _begin(self, width: int) -> None:
        self._width = width
        self._means = np.zeros((2, width))  # how many values a column has shown, and their mean
        self._seen = np.zeros((len(self.categorical), self.max_categories + 1), dtype=bool)
        self._numeric = [column for column in range(width) if column not in set(self.categorical)]

    def _learn_row(self, row: FloatArray, target: Any, i: int) -> None:
        self._rows += 1
        if self.task == "classification":
            self._counts += [0] * (target + 1 - len(self._counts))
            self._counts[target] += 1
        else:
            self._mean += (target - self._mean) / self._rows
        there = ~np.isnan(row)
        self._means[0] += there
        self._means[1][there] += (row[there] - self._means[1][there]) / self._means[0][there]
        for place, column in enumerate(self.categorical):
            code = self._code(row[column])
            if code is not None:
                self._seen[place, code] = True
        try:
            self._model.learn_one(self._features(row), target)
        except ArithmeticError:
            self.skipped += 1
        except Exception as error:  # whatever a model of others raises is told with the row
            if not _overflows(error):
                raise invalid("model", f"fails at row {i} of the batch: {error!r}") from error
            self.skipped += 1
        _tidy(self._model)

    def _code(self, value: float) -> int | None:
        """A category code as it is told to the model; None if it is missing or no code."""
        if not value >= 0.0 or value != int(value):
            return None
        return min(int(value), self.max_categories)

    def _features(self, row: FloatArray) -> dict[int, float | int]:
        """A row as River takes it: numbers by column, and codes or a 0 or 1 for each that was seen."""
        values, means = row.tolist(), self._means[1]
        features: dict[int, float | int] = {}
        numeric = range(len(values)) if self.categories == "number" else self._numeric
        for column in numeric:
            if values[column] == values[column]:
                features[column] = values[column]
            elif self.missing == "mean":
                features[column] = float(means[column])
        if self.categories == "number":
            return features
        for place, column in enumerate(self.categorical):
            code = self._code(values[column])
            if self.categories == "nominal":
                if code is not None or self.missing == "mean":
                    features[column] = -1 if code is None else code
                continue
            first = len(values) + place * (self.max_categories + 1)
            for other in np.flatnonzero(self._seen[place]).tolist():
                features[first + other] = 1.0 if other == code else 0.0
        return features

    def predict(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes``, or estimates (n,)."""
        rows = as_rows(X, self._width)
        if self._width is None:
            return np.zeros((len(rows), 0)) if self.task == "classification" else np.full(len(rows), np.nan)
        with np.errstate(all="ignore"):
            answers = [self._asked(self._features(row)) for row in _tame(rows)]
        if self.task == "regression":
            return np.array([self._mean if value is None else value for value in answers], dtype=np.float64)
        return self._probabilities(answers)

    def _asked(self, features: dict[int, float | int]) -> Any:
        """What the model says: a dict of probabilities or a number; None for what is neither."""
        try:
            if self.task == "classification":
                return _votes(self._model, features)
            value = float(self._model.predict_one(features))
        except ArithmeticError:
            return None
        except Exception as error:
            if not _overflows(error):
                raise invalid("model", f"fails to answer: {error!r}") from error
            return None
        return value if abs(value) < LARGEST else None

    def _probabilities(self, answers: list[Any]) -> FloatArray:
        table = np.zeros((len(answers), len(self._classes)))
        for i, votes in enumerate(answers):
            for number, vote in (votes or {}).items():
                table[i, number] = vote
        table[~(np.isfinite(table) & (table > 0.0))] = 0.0
        prior = np.array(self._counts, dtype=np.float64) / self._rows
        totals = table.sum(axis=1, keepdims=True)
        known = np.where(totals > 0.0, table / np.where(totals > 0.0, totals, 1.0), prior)
        mixed: FloatArray = (1.0 - _SHARE) * known + _SHARE * prior
        return mixed

    def state(self) -> State:
        """The model as JSON, and what is needed to bring rows into its shape."""
        if self._width is None:
            return {"width": None}
        return {
            "width": self._width,
            "classes": self.classes,
            "counts": list(self._counts),
            "rows": self._rows,
            "mean": self._mean,
            "skipped": self.skipped,
            "means": self._means.copy(),
            "seen": self._seen.copy(),
            "model.json": river_files.dump(self._model),
        }

    def restore(self, state: State) -> None:
        """Take over a state, or (IntegrityError) none of it."""
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"The state of a river learner is not whole: {error!r}") from None

    def _restore(self, state: State) -> None:
        fresh, _ = self._new()
        if state["width"] is None:
            model, width, classes, counts, rows, mean, skipped = fresh, None, [], [], 0, 0.0, 0
        else:
            width, classes = int(state["width"]), list(state["classes"])
            counts, rows = [int(count) for count in state["counts"]], int(state["rows"])
            mean, skipped = float(state["mean"]), int(state["skipped"])
            means = _shaped(state["means"], (2, width), np.float64)
            seen = _shaped(state["seen"], (len(self.categorical), self.max_categories + 1), np.bool_)
            if len(counts) != len(classes):
                raise ValueError(f"{len(counts)} counts for {len(classes)} classes")
            model = river_files.load(state["model.json"])
            if type(model) is not type(fresh):
                raise ValueError(f"the model is a {type(model).__name__}")
        self._model, self._width, self.skipped = model, width, skipped
        self._counts, self._rows, self._mean = counts, rows, mean
        self._classes.restore(classes)
        if width is not None:
            self._begin(width)
            self._means, self._seen = means, seen


def _shaped(values: Any, shape: tuple[int, ...], kind: Any) -> Any:
    array = np.array(values, dtype=kind)
    if array.shape != shape:
        raise ValueError(f"an array has shape {array.shape}, not {shape}")
    return array


def _one_of(field: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise invalid(field, f"{value!r} is none of {', '.join(known)}")
    return value


def _tame(rows: FloatArray) -> FloatArray:
    """Rows with NaN for what is no value, and nothing so large that its square overflows."""
    return np.clip(np.where(np.abs(rows) < LARGEST, rows, np.nan), -_FARTHEST, _FARTHEST)


def _overflows(error: Exception) -> bool:
    """Whether an error is the arithmetic's: ``math`` raises a plain ValueError for a root of -1."""
    return isinstance(error, ValueError) and "math domain" in str(error)


def _votes(model: Any, features: dict[int, float | int]) -> dict[int, float]:
    try:
        votes: dict[int, float] = model.predict_proba_one(features)
    except NotImplementedError:
        said = model.predict_one(features)
        votes = {} if said is None else {said: 1.0}
    return votes


def _tidy(model: Any) -> None:
    """Name the rules of AMRules by their place: it names them by an address, which may come again."""
    last = last_step(model)
    if type(last).__name__ == "AMRules":
        last._rules = dict(enumerate(last._rules.values()))
