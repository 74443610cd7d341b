"""How long one learner takes to answer one row, and to learn one, at 8 features."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np

from learners_streams import ours
from streams import spinning

WARM_ROWS = 5000


def run(options: Any) -> list[dict[str, Any]]:
    """Medians and 99th percentiles over single calls, in microseconds, after 5,000 rows."""
    return [of_entry(entry, options) for entry in ours(options.quick)]


def of_entry(entry: Any, options: Any) -> dict[str, Any]:
    from everlearn import learners

    calls = 200 if options.quick else 2000
    ((X, y),) = spinning(WARM_ROWS + calls, options.seed, WARM_ROWS + calls)
    learner = learners.build(entry.learner, seed=options.seed, **entry.parameters)
    warm = 500 if options.quick else WARM_ROWS
    learner.learn(X[:warm], y[:warm])
    rows = [np.ascontiguousarray(X[i : i + 1]) for i in range(WARM_ROWS, WARM_ROWS + calls)]
    learner.predict(rows[0])
    predicts = clocked(learner.predict, [(row,) for row in rows])
    # One that is fitted now and then would measure its fit here, not what a row costs.
    labels = [y[i : i + 1] for i in range(WARM_ROWS, WARM_ROWS + calls)]
    learns = (
        clocked(learner.learn, list(zip(rows, labels, strict=True))) if learner.prefers == "stream" else None
    )
    p50, p99 = np.percentile(predicts, [50, 99])
    return {
        "learner": entry.name,
        "calls": calls,
        "predict_us": round(float(p50), 2),
        "predict_p99_us": round(float(p99), 2),
        "learn_us": None if learns is None else round(float(np.median(learns)), 2),
    }


def clocked(call: Any, arguments: list[Any]) -> Any:
    """Microseconds of each call."""
    gc.collect()
    gc.disable()
    spent, clock = np.empty(len(arguments)), time.perf_counter_ns
    try:
        for i, given in enumerate(arguments):
            started = clock()
            call(*given)
            spent[i] = clock() - started
    finally:
        gc.enable()
    return spent / 1000.0
