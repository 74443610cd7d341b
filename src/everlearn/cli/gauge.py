"""How fast a learner is on this machine, and how much it keeps: rough figures, in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

ROWS, WARM, SINGLE = 2_000, 200, 100
SECONDS = 0.2
"""After about so long a learner is told by what it has done until then."""


def gauge(name: str) -> dict[str, float | None]:
    """Rows a second, microseconds for a single row, and kilobytes kept, at 8 numbers a row and 2 classes.

    Rows are answered and learned, in batches of 100; a single row is answered alone (median). ``None`` where
    the learner cannot be run so.
    """
    import numpy as np

    from everlearn.errors import InvalidError
    from everlearn.learners import build
    from everlearn.learners.states import size

    X = np.random.default_rng(0).normal(size=(ROWS + WARM, 8))
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)
    learner = build(name, seed=0)
    try:
        for part in _parts(0, WARM, 100):
            learner.predict(X[part])
            learner.learn(X[part], y[part])
        learner.predict(X[:1])
    except InvalidError:  # a learner that needs a parameter, or does not classify
        return {"rows_per_second": None, "predict_us": None, "state_kb": None}
    rows, started = 0, time.perf_counter()
    for part in _parts(WARM, WARM + ROWS, 100):
        learner.predict(X[part])
        learner.learn(X[part], y[part])
        rows += 100
        if time.perf_counter() - started > SECONDS:
            break
    rate = rows / (time.perf_counter() - started)
    return {
        "rows_per_second": int(float(f"{rate:.3g}")),
        "predict_us": round(1e6 * median(_single(learner, X)), 1),
        "state_kb": round(size(learner.state()) / 1024, 1),
    }


def _parts(start: int, end: int, step: int) -> Iterator[slice]:
    return (slice(at, at + step) for at in range(start, end, step))


def _single(learner: Any, X: Any) -> list[float]:
    took, began = [], time.perf_counter()
    for i in range(SINGLE):
        started = time.perf_counter()
        learner.predict(X[i : i + 1])
        took.append(time.perf_counter() - started)
        if time.perf_counter() - began > SECONDS:
            break
    return took
