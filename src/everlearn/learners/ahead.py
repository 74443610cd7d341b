"""Compiles the learners' hot loops ahead, so that no request waits for a compiler.

``python -m everlearn.learners.ahead`` compiles all of them once, into numba's cache on disk; it takes a
minute or two, and no time when nothing has changed. :func:`warm` loads what one learner needs into a
process.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from everlearn import learners
from everlearn.types import Task

COMPILED = ("rates", "linear", "ridge", "knn", "forest", "patches", "blend")
"""The learners whose loops are compiled."""

_HERE = Path(__file__).parent


def warm(name: str, task: Task, categorical: Sequence[int] = (1,)) -> None:
    """Go through a learner's life once, in a small way: all that it compiles is then in memory."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 3))
    X[:, 1] = np.arange(24) % 3
    y = X[:, 0] if task == "regression" else np.arange(24) % 3
    learner = learners.build(name, task=task, categorical=tuple(categorical))
    for rows in (slice(0, 20), slice(20, 21)):
        learner.learn(X[rows], y[rows])
        learner.predict(X[rows])
    answer_first = getattr(learner, "test_then_train", None)
    if answer_first is not None:
        answer_first(X[21:], y[21:], delay=1)
    learners.build(name, task=task, categorical=tuple(categorical)).restore(learner.state())


def main() -> None:
    """Compile everything, telling on standard error what is being compiled."""
    digest = _digest()
    mark = _HERE / "__pycache__" / "compiled.sha256"
    if mark.exists() and mark.read_text() == digest:
        return
    # numba looks at each file alone: a loop keeps the old code of one in another file that it calls.
    for stale in (_HERE / "__pycache__").glob("*.nb[ic]"):
        stale.unlink()
    tasks: tuple[Task, ...] = ("classification", "regression")
    for name in COMPILED:
        for task in tasks:
            sys.stderr.write(f"\rCompiling the learners ahead: {name}, {task:<16}")
            sys.stderr.flush()
            warm(name, task)
    sys.stderr.write("\rCompiled the learners' hot loops.                         \n")
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(digest)


def _digest() -> str:
    """What the compiled code depends on: the sources, and the versions of Python and numba."""
    import numba

    made = hashlib.sha256(f"{sys.version} {numba.__version__}".encode())
    for file in sorted(_HERE.glob("*.py")):
        made.update(file.read_bytes())
    return made.hexdigest()


if __name__ == "__main__":
    main()
