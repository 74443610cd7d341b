"""What the first request would otherwise wait for, done while nobody waits.

The libraries behind the learners take a second or two to import, and are imported when first used; their
hot loops are compiled ahead (:mod:`everlearn.learners.ahead`) and loaded from disk when first called.
This goes through the life of a small model of each kind once, in a thread, after the process is ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from everlearn.types import Row

PATIENCE = 60.0
"""Seconds to wait for the process to be ready before it is warmed up all the same."""

_ROWS: list[Row] = [{"x": float(i % 7), "c": "ab"[i % 2]} for i in range(40)]
_TARGETS = ["yes" if i % 7 > 3 else "no" for i in range(40)]
_SPEC = {"name": "warm-up", "target": "y", "features": {"x": "numeric", "c": "categorical"}}


def start(loading: Callable[[], bool]) -> threading.Event:
    """Warm up in a thread of its own once ``loading()`` is over; the event that is returned stops it."""
    stopping = threading.Event()

    def run() -> None:
        for _ in range(int(PATIENCE / 0.05)):
            if not loading() or stopping.wait(0.05):
                break
        try:
            for step in STEPS:
                if stopping.is_set():
                    return
                step()
        except Exception as error:  # nothing depends on it: the first request pays instead
            logger.debug("Warming up ended early: {}: {}", type(error).__name__, error)

    threading.Thread(target=run, name="warm-up", daemon=True).start()
    return stopping


def _creating() -> None:
    from everlearn.loop.defaults import with_defaults
    from everlearn.loop.summary import summary
    from everlearn.spec import parse_spec

    with_defaults(parse_spec(_SPEC))
    summary(b"")


def _swapping() -> None:
    from everlearn.predictor import Predictor
    from everlearn.spec import parse_spec

    for learner in ("blend", "window"):
        predictor = Predictor.new(parse_spec({**_SPEC, "learner": learner}))
        predictor.learn(_ROWS, _TARGETS)
        Predictor.from_bundle(predictor.bundle(anchors=_ROWS[:2])).self_test()


def _loading() -> None:
    import pandas  # noqa: F401 (uploads)


STEPS = (_creating, _swapping, _loading)
