"""scikit-learn estimators by name, ready for rows with missing values and category codes."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from everlearn.learners.fitting import few_valued, iterations, one_thread, quietly
from everlearn.learners.inputs import invalid
from everlearn.learners.lightgbm_models import BoosterRecipe
from everlearn.types import FloatArray, Task

_TABLE: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "gradient_boosting": (
        "sklearn.ensemble:HistGradientBoostingClassifier",
        "sklearn.ensemble:HistGradientBoostingRegressor",
        {
            "max_leaf_nodes": 8,
            "learning_rate": 0.05,
            "max_iter": 100,
            "max_features": 0.5,
            "l2_regularization": 1.0,
            "early_stopping": False,
        },
    ),
    "random_forest": (
        "sklearn.ensemble:RandomForestClassifier",
        "sklearn.ensemble:RandomForestRegressor",
        {"n_estimators": 50, "min_samples_leaf": 2},
    ),
    "extra_trees": (
        "sklearn.ensemble:ExtraTreesClassifier",
        "sklearn.ensemble:ExtraTreesRegressor",
        {"n_estimators": 50, "min_samples_leaf": 2},
    ),
    "logistic": ("sklearn.linear_model:LogisticRegression", "", {"max_iter": 300}),
    "ridge": ("", "sklearn.linear_model:Ridge", {}),
}
_LINEAR = frozenset({"logistic", "ridge"})
_PATH = re.compile(r"sklearn(\.[a-z][a-z_0-9]*)+:[A-Z][A-Za-z0-9]*")


class Recipe:
    """How to make one estimator again and again.

    >>> Recipe("logistic", {"C": 0.5}, task="classification", seed=0).make()
    LogisticRegression(C=0.5, max_iter=300, random_state=0)
    """

    def __init__(self, estimator: str, parameters: Mapping[str, Any], *, task: Task, seed: int) -> None:
        path, defaults = _find(estimator, task)
        self._path, self._task = path, task
        self._parameters = {**defaults, **parameters}
        self._plain = estimator in _LINEAR and not parameters
        if self._plain:  # nothing to check: scikit-learn is not loaded before it is fitted
            self._bounded = False
            self._parameters["random_state"] = seed
            return
        self._bounded = estimator == "gradient_boosting" and "max_iter" not in parameters
        self._bounded = self._bounded and task == "classification"
        valid = list(self._class._get_param_names())
        for name in parameters:
            if name not in valid:
                raise invalid(
                    f"estimator_parameters.{name}", f"is not a parameter of {path}: use {', '.join(valid)}"
                )
        if "random_state" in valid:
            self._parameters.setdefault("random_state", seed)
        self.make()

    @cached_property
    def _class(self) -> Any:
        return _import(self._path, self._task)

    def make(self) -> Any:
        """The bare estimator, unfitted."""
        try:
            return self._class(**self._parameters)
        except TypeError as error:
            raise invalid("estimator", f"cannot be built: {error}") from None

    @property
    def takes_weights(self) -> bool:
        """Whether rows can weigh more or less in a fit."""
        if self._plain:
            return True
        from sklearn.utils.validation import has_fit_parameter

        return bool(has_fit_parameter(self._class, "sample_weight"))

    @property
    def goes_on(self) -> bool:
        """Whether a fit can be begun from another on other rows: forests, whose trees are grown one by one.

        scikit-learn's boosting is not one of them: it goes on with the bins of the rows that it began with.
        """
        if self._plain:
            return False
        return {"warm_start", "n_estimators", "bootstrap"} <= set(self._class._get_param_names())

    def fit(
        self,
        X: FloatArray,
        y: Any,
        categorical: Sequence[int],
        weights: FloatArray | None = None,
        begun: Any = None,
        more: int = 0,
    ) -> Any:
        """A fitted estimator, or a fitted pipeline around one that cannot take missing values.

        ``weights`` (n,) are the rows' weights. With ``begun``, a fitted forest, a copy of it with ``more``
        trees grown on these rows.
        """
        if begun is not None:
            if not hasattr(begun, "estimators_"):
                raise invalid(
                    "warm", f"a {self._class.__name__} that cannot take gaps cannot go on: leave it 0"
                )
            estimator = copy.copy(begun)  # the trees themselves never change
            estimator.estimators_ = list(begun.estimators_)
            estimator.set_params(warm_start=True, n_estimators=begun.n_estimators + more)
            return self._fit(estimator, X, y, weights)
        estimator = self.make()
        if self._bounded:
            # One tree a class is grown in every iteration: many classes make do with fewer.
            estimator.set_params(max_iter=iterations(y))
        if "categorical_features" in estimator.get_params(deep=False):
            estimator.set_params(categorical_features=few_valued(X, categorical) or None)
            X = _without_empty_columns(X)
        elif not estimator.__sklearn_tags__().input_tags.allow_nan:
            estimator = _pipeline(estimator, X.shape[1], categorical)
        return self._fit(estimator, X, y, weights)

    def _fit(self, estimator: Any, X: FloatArray, y: Any, weights: FloatArray | None) -> Any:
        given = {} if weights is None else {_weights_of(estimator): weights}
        try:
            with quietly(), one_thread():
                return estimator.fit(X, y, **given)
        except (TypeError, ValueError) as error:
            raise invalid("estimator", f"{type(estimator).__name__} could not be fitted: {error}") from error


def _weights_of(estimator: Any) -> str:
    """What an estimator, or a pipeline whose last step it is, calls the weights of rows."""
    steps = getattr(estimator, "steps", None)
    return "sample_weight" if steps is None else f"{steps[-1][0]}__sample_weight"


def recipe(estimator: str, parameters: Mapping[str, Any], *, task: Task, seed: int) -> Recipe | BoosterRecipe:
    """How to make an estimator by name: one of scikit-learn, or LightGBM's."""
    if estimator == "lightgbm":
        return BoosterRecipe(parameters, task=task, seed=seed)
    return Recipe(estimator, parameters, task=task, seed=seed)


def _find(estimator: str, task: Task) -> tuple[str, Mapping[str, Any]]:
    """The import path of an estimator and our defaults for it."""
    known = {name: row[1] if task == "regression" else row[0] for name, row in _TABLE.items()}
    path = known.get(estimator)
    if path:
        return path, _TABLE[estimator][2]
    if not isinstance(estimator, str) or not _PATH.fullmatch(estimator):
        names = ", ".join([*(name for name, path in known.items() if path), "lightgbm"])
        raise invalid(
            "estimator", f"{estimator!r} is no {task} estimator: use {names}, or 'sklearn.module:Class'"
        )
    return estimator, {}


def _import(path: str, task: Task) -> Any:
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise invalid("estimator", f"there is no {path!r} in the installed scikit-learn") from None
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise invalid("estimator", f"{path!r} is not a scikit-learn estimator")
    fits = is_classifier if task == "classification" else is_regressor
    try:
        suits = fits(found())
    except TypeError:
        raise invalid("estimator", f"{path!r} needs another estimator inside: choose a plain one") from None
    if not suits:
        raise invalid("estimator", f"{path!r} does not learn a {task}")
    return found


def _without_empty_columns(X: FloatArray) -> FloatArray:
    """Rows with 0 in columns that are missing throughout: histogram trees cannot bin nothing."""
    empty = np.isnan(X).all(axis=0)
    return np.where(empty, 0.0, X) if empty.any() else X


def _pipeline(estimator: Any, width: int, categorical: Sequence[int]) -> Any:
    """Means for missing numbers, standardised; one-hot columns for codes."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    codes = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=100, sparse_output=False)
    parts = [
        ("numbers", numbers, [column for column in range(width) if column not in categorical]),
        ("codes", codes, list(categorical)),
    ]
    return make_pipeline(ColumnTransformer([part for part in parts if part[2]]), estimator)
