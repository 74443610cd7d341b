"""Telling the broker of work. What the rows say is the truth; a message is a hint, and may be lost.

One process at a time looks at the rows and tells of what is due, models in turn. It keeps few messages in
each queue, so that no model fills it, and tells again of what nobody has begun after a while: a broker that
was flushed, or was down, is mended by that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from everlearn.errors import UnavailableError
from everlearn.holding import Holding
from everlearn.ports import Broker
from everlearn.types import ADVANCE, QUEUES
from everlearn.worker.pace import Backoff
from everlearn.worker.parts import Parts
from everlearn.worker.reporting import report

DISPATCH = "dispatch"
"""The name of the lease."""

ROOM = 64
"""Messages that may wait in a queue."""

POLL_SECONDS = 0.1
JOBS_SECONDS = 0.25
AGAIN_JOB = 5.0
"""Seconds after which a job that nobody has begun is told of again."""

AGAIN_MODEL = 0.5
"""Seconds after which a model that is still behind is told of again."""


class Dispatcher:
    """Tells a broker of the jobs that are due and the models that are behind."""

    def __init__(
        self,
        parts: Parts,
        broker: Broker,
        holding: Holding,
        *,
        most: int = 0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._broker, self._holding = parts, broker, holding
        self._most, self._steady = most, steady
        self._told: dict[tuple[str, str], float] = {}
        self._next_jobs = 0.0

    def run_once(self) -> int:
        """Tell of what is due, if telling is this process's task; how many messages were sent."""
        if not self._holding.take(DISPATCH):
            self._told.clear()
            return 0
        behind = self._parts.ledger.behind(limit=ROOM)
        sent = self._tell(ADVANCE, "advance", behind, AGAIN_MODEL)
        if self._steady() >= self._next_jobs:
            self._next_jobs = self._steady() + JOBS_SECONDS
            now = self._parts.clock.now()
            for queue in QUEUES:
                due = self._parts.backlog.due(queue, ROOM, now, most=self._most)
                sent += self._tell(queue, "job", due, AGAIN_JOB)
        return sent

    def _tell(self, queue: str, task: str, due: Iterable[str], again: float) -> int:
        now, wanted = self._steady(), dict.fromkeys(due)
        for key in [key for key in self._told if key[0] == f"{task}:{queue}" and key[1] not in wanted]:
            del self._told[key]
        new = [about for about in wanted if now - self._told.get((f"{task}:{queue}", about), -again) >= again]
        if not new:
            return 0
        room = max(ROOM - self._broker.waiting(queue), 0)
        for about in new[:room]:
            self._broker.tell(queue, task, about)
            self._told[f"{task}:{queue}", about] = now
        return len(new[:room])

    def run(self, stop: threading.Event) -> None:
        """Tell until stopped."""
        trouble = Backoff(first=0.5, most=5.0)
        while not stop.is_set():
            wait = POLL_SECONDS
            try:
                self.run_once()
                trouble.succeeded(DISPATCH)
            except Exception as error:
                wait = trouble.failed(DISPATCH)
                report(error, f"workers cannot be told of work; next try in {wait:.1f} s")
                if isinstance(error, UnavailableError):
                    self._told.clear()  # what was told may be lost
            stop.wait(wait)
        try:
            self._holding.release(DISPATCH)
        except Exception as error:
            report(error, "the lease runs out by itself")
