"""A worker's heart-beat for whoever watches from outside: pushed while it works, and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from everlearn.adapters.heartbeats import BEAT_SECONDS, push
from everlearn.errors import EverlearnError


class Pulse:
    """Pushes to an address every so often while ``well`` says that the worker works.

    ``well`` returns, or raises what is wrong. That it is not, or cannot push, is said once in the log.
    """

    def __init__(
        self,
        url: str,
        well: Callable[[], object],
        *,
        seconds: float = BEAT_SECONDS,
        send: Callable[[str], None] = push,
    ) -> None:
        self._url, self._well, self._seconds, self._send = url, well, seconds, send
        self._silent = False

    def start(self, stop: threading.Event) -> threading.Thread:
        """Push in a thread of its own until ``stop`` is set."""
        thread = threading.Thread(target=self.run, args=(stop,), name="pulse", daemon=True)
        thread.start()
        return thread

    def run(self, stop: threading.Event) -> None:
        """Push until ``stop`` is set."""
        while not stop.wait(self._seconds):
            self.beat()

    def beat(self) -> bool:
        """Push once; whether it was."""
        try:
            self._well()
            self._send(self._url)
        except Exception as error:
            if not self._silent:
                said = error if isinstance(error, EverlearnError) else type(error).__name__
                logger.warning("no heart-beat is pushed: {}", said)
            self._silent = True
            return False
        if self._silent:
            logger.info("heart-beats are pushed again")
        self._silent = False
        return True
