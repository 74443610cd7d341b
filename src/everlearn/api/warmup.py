"""What the first request would otherwise wait for, done while nobody waits.

What describes a model is imported in a thread after the process is ready. The libraries behind a
learner (scikit-learn, river, numba) are not: they come with the first model that needs them, which is loaded
and warmed beside whatever answers meanwhile, and a process without such a model stays small.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

from loguru import logger

PATIENCE = 60.0
"""Seconds to wait for the process to be ready before it is warmed up all the same."""


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


def _settling() -> None:
    """Leave out of all later garbage collections what lives as long as the process: looking through it would
    hold up every request for a tenth of a second."""
    gc.freeze()


def _describing() -> None:
    from everlearn.loop.summary import summary

    summary(b"")


STEPS = (_describing, _settling)
