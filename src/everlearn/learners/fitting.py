"""What fits of scikit-learn's estimators and of LightGBM have in common."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import numpy as np

from everlearn.types import FloatArray

_MOST_CODES = 250  # histogram trees take at most 255 categories a column


def few_valued(X: FloatArray, categorical: Sequence[int]) -> list[int]:
    """The categorical columns that histogram trees can take; they split the others as numbers."""
    counts = ((column, len(np.unique(X[np.isfinite(X[:, column]), column]))) for column in categorical)
    return [column for column, count in counts if 0 < count <= _MOST_CODES]


def iterations(y: Any) -> int:
    """Boosting iterations: 100 for up to ten classes, 1,000 trees in all for more, but at least 20."""
    return max(20, min(100, 1000 // len(np.unique(y))))


def quietly() -> AbstractContextManager[Any]:
    """Without warnings (a solver that has not converged is what the gate is for)."""
    import warnings

    return warnings.catch_warnings(action="ignore")


def one_thread() -> AbstractContextManager[Any]:
    """With one OpenMP thread: waiting threads cost a hundredfold when processes share few cores."""
    limited: AbstractContextManager[Any] = _openmp().limit(limits=1)
    return limited


@functools.cache
def _openmp() -> Any:
    import sklearn.ensemble  # noqa: F401  # loads the OpenMP library that is to be limited

    return import_module("threadpoolctl").ThreadpoolController().select(user_api="openmp")
