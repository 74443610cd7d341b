"""Compiles the learners' hot loops ahead, so that no request waits for a compiler.

``python -m everlearn.learners.ahead`` compiles all of them once, into numba's cache on disk; it takes
some minutes, and no time when nothing has changed. :func:`ready` loads what one learner needs into a
process, from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from everlearn.errors import InvalidError
from everlearn.types import Task

COMPILED = ("rates", "linear", "additive", "ridge", "knn", "forest", "patches", "blend")
"""The learners whose loops are compiled."""

_HERE = Path(__file__).parent
_MARK = "everlearn-learners.sha256"
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
    for asked, arguments in (("contributions", (X[:1],)), ("forget", (X[:1], y[:1], 0))):
        if hasattr(learner, asked):
            with suppress(InvalidError):  # it cannot with these parameters
                getattr(learner, asked)(*arguments)
    learners.build(name, **given).restore(learner.state())


def ready(name: str, task: Task, *, categorical: bool, parameters: Mapping[str, Any]) -> None:
    """:func:`warm`, once a process, for a learner as a spec names it; others than :data:`COMPILED` pass.

    ``parameters`` are JSON values. Raises what building the learner raises.
    """
    if name in COMPILED:
        _warm_once(name, task, categorical, json.dumps(parameters, default=dict, sort_keys=True))


@cache
def _warm_once(name: str, task: Task, categorical: bool, parameters: str) -> None:
    warm(name, task, (1,) if categorical else (), **json.loads(parameters))


def needed() -> bool:
    """Whether something is not compiled yet, as far as can be told without compiling."""
    folder = _folder()
    if folder is None:  # nothing is kept: compiling ahead would be in vain
        return False
    mark = folder / _MARK
    return not (mark.is_file() and mark.read_text() == _digest())


def compile_all(tell: Tell) -> dict[str, Exception]:
    """Compile everything; ``tell`` is called with what is being compiled. Returns what failed, and why.

    Waits while another process does the same, and then has nothing to do.
    """
    folder, failed = _folder(), dict[str, Exception]()
    if folder is None:
        return failed
    with _alone(folder):
        if not needed():
            return failed
        digest, mark = _digest(), folder / _MARK
        begun = f"begun {digest}"  # and stopped before it was done: what is there is of use
        if not (mark.is_file() and mark.read_text() == begun):
            _clear(folder)
            mark.write_text(begun)
        lives = _lives()
        for number, (name, task, parameters) in enumerate(lives, start=1):
            tell(f"{name}, {task} ({number} of {len(lives)})")
            try:
                warm(name, task, **parameters)
            except Exception as error:  # the others are of use all the same
                failed[name] = error
        if not failed:
            mark.write_text(digest)
    return failed


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
    failed = compile_all(tell)
    if live:
        sys.stderr.write(f"\r{'The learners are compiled.':<80}\n")
    for name, error in failed.items():
        sys.stderr.write(f"The learner {name} could not be warmed: {type(error).__name__}: {error}\n")


def _lives() -> list[tuple[str, Task, dict[str, Any]]]:
    """What to go through, cheap ones first, so that what fails early is seen early."""
    from everlearn import learners

    tasks: tuple[Task, ...] = ("classification", "regression")
    names = [name for name in COMPILED if name in learners.names()]
    usual: list[tuple[str, Task, dict[str, Any]]] = [(name, task, {}) for name in names for task in tasks]
    inexact: list[tuple[str, Task, dict[str, Any]]] = [("ridge", task, {"exact": False}) for task in tasks]
    return [*usual, *inexact, *(("blend", task, {"budget": "fast"}) for task in tasks)]


def _folder() -> Path | None:
    """Where numba keeps what it compiles from this folder; None where it finds no place to write to."""
    beside = _HERE / "__pycache__"
    parent = beside if beside.is_dir() else _HERE
    if not os.environ.get("NUMBA_CACHE_DIR") and os.access(parent, os.W_OK):
        beside.mkdir(exist_ok=True)
        return beside
    try:
        from everlearn.learners.kernels import tidy

        found: str = tidy.stats.cache_path  # type: ignore[attr-defined] # numba's dispatcher
    except (RuntimeError, AttributeError):
        return None
    return Path(found)


def _clear(folder: Path) -> None:
    """Remove what is compiled.

    numba looks at each file alone: a loop keeps the old code of one in another file that it calls.
    """
    for stale in folder.glob("*.nb[ic]"):
        with suppress(OSError):
            stale.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: what two write at once, numba's index may mix up."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / "everlearn-learners.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    """What the compiled code depends on: the sources, and the versions of Python and numba."""
    made = hashlib.sha256(f"{sys.version} {version('numba')} {version('numpy')}".encode())
    for file in sorted(_HERE.glob("*.py")):
        made.update(file.read_bytes())
    return made.hexdigest()


if __name__ == "__main__":
    main()
