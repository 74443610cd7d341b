"""LightGBM for the window: gradient-boosted trees, always the same for the same rows.

Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017. A fit answers from
the text that it is stored as, so that a restored one answers bit for bit as it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners import lightgbm_files
from everlearn.learners.fitting import few_valued, iterations, quietly
from everlearn.learners.inputs import at_least, invalid
from everlearn.types import FloatArray, Task

_DEFAULTS: Mapping[str, Any] = {
    "num_iterations": 100,
    "num_leaves": 8,
    "learning_rate": 0.05,
    "feature_fraction_bynode": 0.5,
    "lambda_l2": 1.0,
    "min_data_in_leaf": 10,
    "min_data_per_group": 20,  # LightGBM's own 100 takes no category for its own in a window's first rows
    "cat_smooth": 1.0,
}
_MORE = (
    *("alpha", "bagging_fraction", "bagging_freq", "cat_l2", "extra_trees", "feature_fraction"),
    *("is_unbalance", "lambda_l1", "max_bin", "max_cat_threshold", "max_cat_to_onehot", "max_delta_step"),
    *("max_depth", "min_data_in_bin", "min_gain_to_split", "min_sum_hessian_in_leaf", "objective"),
    *("path_smooth", "seed"),
)
"""What else may be set: LightGBM's own names of what shapes its trees (not of files, machines or threads)."""

_OBJECTIVES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
# One thread and rows in order: sums are then made in one order, so equal rows give equal trees.
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}
_LARGEST_CODE = 1e6  # LightGBM makes a bit of each code up to the largest


class Booster:
    """Trees in LightGBM's text, for the class numbers ``classes_`` (k,); none for a regression."""

    def __init__(self, text: str, classes: NDArray[np.int64]) -> None:
        import lightgbm

        self.text, self.classes_ = text, classes
        self._trees = lightgbm.Booster(model_str=text)
        kinds = text.partition("\nfeature_infos=")[2].partition("\n")[0].split(" ")
        self.codes = [column for column, kind in enumerate(kinds) if kind != "none" and kind[0] != "["]

    def predict(self, X: FloatArray) -> FloatArray:
        """What the trees say of rows (n, d): values (n,), or what :meth:`predict_proba` brings into shape."""
        return np.asarray(self._trees.predict(_coded(X, self.codes), num_threads=1), dtype=np.float64)

    def predict_proba(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes_``."""
        said = self.predict(X)
        return np.stack([1.0 - said, said], axis=1) if said.ndim == 1 else said

    @property
    def trees(self) -> Any:
        """LightGBM's own object."""
        return self._trees

    def dump(self) -> bytes:
        """The stored form: LightGBM's text."""
        return self.text.encode()


def load(file: bytes, classes: NDArray[np.int64], width: int) -> Booster:
    """The trees in :meth:`Booster.dump`'s bytes, for rows of ``width`` columns.

    Raises IntegrityError unless they are whole.
    """
    try:
        text = file.decode()
        lightgbm_files.check(text, width, _a_round(classes))
        return Booster(text, classes)
    except Exception as error:  # LightGBM has an exception of its own for what it cannot read
        raise IntegrityError(f"Stored LightGBM trees cannot be read: {error!r}") from None


class BoosterRecipe:
    """How to grow LightGBM's trees again and again, always in the same way from the same rows."""

    takes_weights = True
    goes_on = True

    def __init__(self, parameters: Mapping[str, Any], *, task: Task, seed: int) -> None:
        try:
            import lightgbm  # noqa: F401
        except ImportError:
            message = "'lightgbm' needs an extra: pip install 'everlearn[lightgbm]'"
            raise invalid("estimator", message) from None
        for name in parameters:
            if name not in (*_DEFAULTS, *_MORE):
                valid = ", ".join(sorted([*_DEFAULTS, *_MORE]))
                raise invalid(f"estimator_parameters.{name}", f"is not for LightGBM here: use {valid}")
        objective = parameters.get("objective", "regression")
        if objective not in _OBJECTIVES or (task == "classification" and "objective" in parameters):
            what = f"{', '.join(_OBJECTIVES)} in a regression, and none in a classification"
            raise invalid("estimator_parameters.objective", f"is {objective!r}: use {what}")
        self._task, self._parameters = task, {"seed": seed, **_DEFAULTS, **parameters, **_FIXED}
        rounds = self._parameters.pop("num_iterations")
        self._rounds = at_least("estimator_parameters.num_iterations", rounds, 1)
        self._bounded = task == "classification" and "num_iterations" not in parameters

    def fit(
        self,
        X: FloatArray,
        y: NDArray[Any],
        categorical: Sequence[int],
        weights: FloatArray | None = None,
        begun: Booster | None = None,
        more: int = 0,
    ) -> Booster:
        """Trees grown on rows (n, d); with ``begun``, its trees and ``more`` rounds of them on these rows.

        Columns of codes are split as categories if they have at most 250 values, else as numbers. Raises
        InvalidError for a parameter that LightGBM refuses.
        """
        import lightgbm

        classes = np.empty(0, np.int64) if self._task == "regression" else np.unique(y).astype(np.int64)
        codes = few_valued(X, categorical) if begun is None else begun.codes
        targets = y if self._task == "regression" else np.searchsorted(classes, y)
        settings = {**self._parameters, **self._objective(len(classes))}
        rounds = min(self._rounds, iterations(y)) if self._bounded else self._rounds
        if begun is not None:
            rounds = more
            settings["seed"] += begun.trees.num_trees()  # else the first draws would come again
        try:
            with quietly():
                data = lightgbm.Dataset(
                    _coded(X, codes), targets, weight=weights, categorical_feature=codes, params=settings
                )
                start = None if begun is None else begun.trees
                grown = lightgbm.train(settings, data, rounds, init_model=start)
            text = lightgbm_files.trees_of(grown.model_to_string(num_iteration=-1))
            lightgbm_files.check(text, X.shape[1], _a_round(classes))
        except (lightgbm.basic.LightGBMError, KeyError, TypeError, ValueError) as error:
            raise invalid("estimator", f"LightGBM could not be fitted: {error}") from error
        return Booster(text, classes)

    def _objective(self, classes: int) -> dict[str, Any]:
        if self._task == "regression":
            return {"objective": self._parameters.get("objective", "regression")}
        return {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}


def _a_round(classes: NDArray[np.int64]) -> int:
    """How many trees are grown in a round."""
    return len(classes) if len(classes) > 2 else 1


def _coded(X: FloatArray, codes: Sequence[int]) -> FloatArray:
    """Rows with NaN for what is no category code in the columns that are split as categories."""
    rows = np.array(X, dtype=np.float64, order="C")
    for column in codes:
        values = rows[:, column]
        proper = (values >= 0.0) & (values < _LARGEST_CODE) & (values == np.floor(values))
        rows[~proper, column] = np.nan
    return rows
