"""Compiles the learners' hot loops ahead, so that no request waits for a compiler.

``python -m everlearn.learners.ahead`` compiles all of them once, into numba's cache on disk; it takes
some minutes, and no time when nothing has changed. :func:`warm` loads what one learner needs into a
process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from everlearn.types import Task

COMPILED = ("rates", "linear", "additive", "ridge", "knn", "patches", "blend")
"""The learners whose loops are compiled."""

_HERE = Path(__file__).parent
_ROWS = 24

Tell = Callable[[str], None]


def warm(name: str, task: Task, categorical: Sequence[int] = (1,), **parameters: object) -> None:
    """Go through a learner's life once, in a small way: all that it compiles is then in memory."""
    import numpy as np

    from everlearn import learners

    rng = np.random.default_rng(0)
    X = rng.normal(size=(_ROWS, 3))
    X[:, 1] = np.arange(_ROWS) % 3
    y = X[:, 0] if task == "regression" else np.arange(_ROWS) % 3
    given = {"task": task, "categorical": tuple(categorical), **parameters}
    learner = learners.build(name, **given)
    for rows in (slice(0, 20), slice(20, 21)):
        learner.learn(X[rows], y[rows])
        learner.predict(X[rows])
    answer_first = getattr(learner, "test_then_train", None)
    if answer_first is not None:
        answer_first(X[21:], y[21:], delay=1)
    learners.build(name, **given).restore(learner.state())


def needed() -> bool:
    """Whether something is not compiled yet, as far as can be told without compiling."""
    mark = _folder() / "compiled.sha256"
    return not (mark.is_file() and mark.read_text() == _digest())


def compile_all(tell: Tell) -> None:
    """Compile everything; ``tell`` is called with what is being compiled."""
    # numba looks at each file alone: a loop keeps the old code of one in another file that it calls.
    for stale in _folder().rglob("*.nb[ic]"):
        with suppress(OSError):
            stale.unlink()
    tasks: tuple[Task, ...] = ("classification", "regression")
    for number, name in enumerate(COMPILED):
        for task in tasks:
            tell(f"{name}, {task} ({number + 1} of {len(COMPILED)})")
            warm(name, task)
    warm("blend", "classification", budget="fast")
    for task in tasks:
        warm("ridge", task, exact=False)
    with suppress(OSError):  # a read-only tree: numba has found a place of its own
        _folder().mkdir(parents=True, exist_ok=True)
        (_folder() / "compiled.sha256").write_text(_digest())


def main() -> None:
    """Compile everything unless it is done, telling on standard error what is being compiled."""
    if not needed():
        return
    live = sys.stderr.isatty()

    def tell(what: str) -> None:
        if live:
            sys.stderr.write(f"\rCompiling the learners, only this once: {what:<40}")
            sys.stderr.flush()

    if not live:
        sys.stderr.write("Compiling the learners, only this once (two or three minutes) ...\n")
    compile_all(tell)
    if live:
        sys.stderr.write(f"\r{'The learners are compiled.':<80}\n")


def _folder() -> Path:
    """Where numba keeps what it compiles from this folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return Path(chosen) if chosen else _HERE / "__pycache__"


def _digest() -> str:
    """What the compiled code depends on: the sources, and the versions of Python and numba."""
    made = hashlib.sha256(f"{sys.version} {version('numba')} {version('numpy')}".encode())
    for file in sorted(_HERE.glob("*.py")):
        made.update(file.read_bytes())
    return made.hexdigest()


if __name__ == "__main__":
    main()
