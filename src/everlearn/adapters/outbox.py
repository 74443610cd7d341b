"""Delivers what the outbox holds to one destination: in order, at least once, whatever is down.

A message is written in the transaction of the fact it tells of, so no fact goes untold; it is
delivered here, later, so nothing waits for the outside. (The "transactional outbox" pattern.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from everlearn.adapters.tracing import Untraced
from everlearn.errors import IntegrityError, InvalidError, NotFoundError
from everlearn.ports import Clock, Outbox
from everlearn.types import Message

Deliver = Callable[[Mapping[str, Any]], None]


class LaterError(Exception):
    """A destination takes no more for now, and says for how many ``seconds``."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
POISON = (InvalidError, NotFoundError, IntegrityError)
"""What no retry mends: the message is wrong, what it tells of is gone, or its artifact is damaged."""


def backoff(attempts: int) -> float:
    """Seconds to wait after a number of failed attempts.

    >>> [backoff(n) for n in (1, 2, 3, 7, 1000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts - 1, 30))


class Dispatcher:
    """Takes the messages of a destination and hands their bodies to ``deliver``, one after the other.

    ``deliver`` must be harmless when repeated: a crash after a delivery and before its receipt
    delivers again. Run one dispatcher a destination: of several, ``may`` says of each whether it is the one.
    """

    def __init__(
        self,
        outbox: Outbox,
        destination: str,
        deliver: Deliver,
        clock: Clock,
        *,
        batch: int = 50,
        poll: float = 0.5,
        may: Callable[[], bool] = lambda: True,
        tracer: Untraced | None = None,
    ) -> None:
        self._tracer = tracer or Untraced()
        self._outbox = outbox
        self._destination = destination
        self._deliver = deliver
        self._clock = clock
        self._batch = batch
        self._poll = poll
        self._may = may

    def run_once(self, stop: threading.Event | None = None) -> int:
        """Deliver the messages that are due; returns how many left the outbox.

        The first failure ends the round: later messages wait behind it, so order is kept. Ends
        early, between two messages, when ``stop`` is set.
        """
        left = 0
        if not self._may():
            return left
        for message in self._outbox.take(self._destination, self._batch, self._clock.now()):
            if (stop is not None and stop.is_set()) or not self._handle(message):
                break
            left += 1
        return left

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; an outbox that fails is asked again after a pause."""
        failures = 0
        while not stop.is_set():
            try:
                left = self.run_once(stop)
                failures = 0
            except Exception as error:
                failures += 1
                logger.warning("{}: the outbox cannot be read: {}", self._destination, _said(error))
                stop.wait(backoff(failures))
                continue
            if not left:
                stop.wait(self._poll)

    def _handle(self, message: Message) -> bool:
        """Deliver one message; whether it is done with."""
        name, attempt = f"deliver {self._destination}", message.attempts + 1
        with (
            logger.contextualize(model=message.model),
            self._tracer.span(name, model=message.model, message=message.id, attempt=attempt) as span,
        ):
            try:
                self._deliver(message.body)
            except POISON as error:
                span.tell(failed=True, dropped=True)
                logger.error(
                    "{}: dropped message {} {}, which no retry can deliver: {}",
                    self._destination,
                    message.id,
                    dict(message.body),
                    _said(error),
                )
            except Exception as error:
                span.tell(failed=True)
                self._later(message, error)
                return False
            else:
                if message.attempts:
                    logger.info("{}: answers again; catching up", self._destination)
        self._outbox.done(message)
        return True

    def _later(self, message: Message, error: Exception) -> None:
        wait = error.seconds if isinstance(error, LaterError) else backoff(message.attempts + 1)
        logger.warning(
            "{}: attempt {} failed, the next in {:.0f} s: {}",
            self._destination,
            message.attempts + 1,
            wait,
            _said(error),
        )
        self._outbox.retry(message, _said(error), self._clock.now() + wait)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
