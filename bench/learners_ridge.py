"""What the exact ridge learner says of itself: streaming is batch, and forgetting is never having seen.

Both are measured against a batch solution of the whole weighted problem by a singular value decomposition,
on the same features, which shares no code with the learner; and against the learner itself, taught in
another order or taught the rest alone. A difference is the largest one of the answers to 1,000 other rows,
in standard deviations of those answers.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

ROWS, QUICK_ROWS, ASKED, BLOCK = 100_000, 5000, 1000, 997
GAMMAS = (1.0, 0.9999)
HALVES = ("first", "last", "random")


def run(bench: Any, options: Any) -> dict[str, Any]:
    """Differences and rates."""
    rows = QUICK_ROWS if options.quick else ROWS
    bench.console.print(f"ridge: {rows:,} rows", style="dim")
    X, y = stream(rows, options.seed)
    asked, _ = stream(ASKED, options.seed + 1)
    learner = taught(1.0, X[:100], y[:100])  # compiles, and is thrown away
    learner.test_then_train(X[:10], y[:10])
    learner.forget(X[:10], y[:10], 0)
    return {
        "rows": rows,
        "columns": X.shape[1],
        "streaming": streaming(X, y, asked, options.seed),
        "forgetting": [
            forgetting(X, y, asked, gamma, half, options.seed) for gamma in GAMMAS for half in HALVES
        ],
        **rates(X, y),
    }


def stream(rows: int, seed: int) -> tuple[Any, Any]:
    """Eight columns, and a smooth target with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 8))
    y = X[:, 0] * X[:, 1] + np.sin(2.0 * X[:, 2]) + X[:, 3] + 0.1 * rng.normal(size=rows)
    return X, y


def taught(gamma: float, X: Any, y: Any, weights: Any = None) -> Any:
    """A learner that was taught in blocks of an odd size."""
    from everlearn.learners.ridge import Ridge

    learner = Ridge(task="regression", gamma=gamma)
    for start in range(0, len(X), BLOCK):
        some = slice(start, start + BLOCK)
        learner.learn(X[some], y[some], None if weights is None else weights[some])
    return learner


def streaming(X: Any, y: Any, asked: Any, seed: int) -> list[dict[str, Any]]:
    rng, first = np.random.default_rng(seed), None
    found = []
    for number in range(4):
        order = rng.permutation(len(y)) if number else np.arange(len(y))
        learner = taught(1.0, X[order], y[order])
        answers = learner.predict(asked)
        first = answers if first is None else first
        batch = solution(learner._map(X), y, np.ones(len(y)), learner._map(asked))
        found.append(
            {
                "order": f"random {number}" if number else "as it is",
                "from_batch": difference(answers, batch),
                "from_first_order": difference(answers, first),
            }
        )
    return found


def forgetting(X: Any, y: Any, asked: Any, gamma: float, half: str, seed: int) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(y)) if half == "random" else np.arange(len(y))
    gone = order[len(y) // 2 :] if half == "last" else order[: len(y) // 2]
    rest = np.setdiff1d(np.arange(len(y)), gone)
    weights = gamma ** (len(y) - 1.0 - rest)
    learner = taught(gamma, X, y)
    learner.forget(X[gone], y[gone], gone)
    answers = learner.predict(asked)
    batch = solution(learner._map(X[rest]), y[rest], weights, learner._map(asked))
    alone = taught(1.0, X[rest], y[rest], weights)
    return {
        "forgotten": half,
        "gamma": gamma,
        "from_batch": difference(answers, batch),
        "from_training_on_the_rest": difference(answers, alone.predict(asked)),
    }


def solution(phi: Any, y: Any, weights: Any, asked: Any, alpha: float = 1.0) -> Any:
    """The weighted, penalised least-squares solution of all rows at once, applied to ``asked``."""
    phi, asked = phi[:, :-1], asked[:, :-1]
    share = weights / weights.sum()
    mean, mean_y = share @ phi, share @ y
    spread = np.sqrt(share @ (phi - mean) ** 2)
    root = np.sqrt(weights)
    rows = np.vstack([root[:, None] * (phi - mean) / spread, np.sqrt(alpha) * np.eye(phi.shape[1])])
    right = np.r_[root * (y - mean_y), np.zeros(phi.shape[1])]
    return (asked - mean) / spread @ np.linalg.lstsq(rows, right, rcond=None)[0] + mean_y


def difference(answers: Any, others: Any) -> float:
    return float(f"{np.abs(answers - others).max() / others.std():.2e}")


def rates(X: Any, y: Any) -> dict[str, float]:
    """Rows a second on one core, of whole batches."""
    learner = taught(1.0, X[:0], y[:0])
    some = slice(0, min(len(y), 5000))
    when = np.arange(len(y))
    return {
        "learned_per_second": clocked(len(y), learner.learn, X, y),
        "forgotten_per_second": clocked(len(y) // 2, learner.forget, X[::2], y[::2], when[::2]),
        "tested_then_trained_per_second": clocked(some.stop, learner.test_then_train, X[some], y[some]),
    }


def clocked(rows: int, call: Any, *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return round(rows / (time.perf_counter() - started), 1)
