"""A broker in memory, for one process: its messages are lost with it, which is harmless as ever."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import cycle

POLL_SECONDS = 0.01


class MemoryBroker:
    """:class:`everlearn.ports.Broker` in memory, and who consumes it.

    >>> broker = MemoryBroker()
    >>> broker.tell("train", "job", "spam-12")
    >>> broker.waiting("train"), broker.take("train")
    (1, ('job', 'spam-12'))
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, deque[tuple[str, str]]] = {}
        self._stop = threading.Event()

    def tell(self, queue: str, task: str, about: str) -> None:
        """See the port."""
        with self._lock:
            self._queues.setdefault(queue, deque()).append((task, about))

    def waiting(self, queue: str) -> int:
        """See the port."""
        with self._lock:
            return len(self._queues.get(queue, ()))

    def take(self, queue: str) -> tuple[str, str] | None:
        """The oldest message of a queue, if there is one."""
        with self._lock:
            waiting = self._queues.get(queue)
            return waiting.popleft() if waiting else None

    def flush(self) -> None:
        """Lose every message."""
        with self._lock:
            self._queues.clear()

    def work(
        self, queues: list[str], tasks: Mapping[str, Callable[[str], None]], on_stop: Callable[[], None]
    ) -> None:
        """Call a task for each message, one at a time, until :meth:`stop`."""
        turns = cycle(queues)
        while not self._stop.is_set():
            found = [message for _ in queues if (message := self.take(next(turns))) is not None]
            for task, about in found:
                tasks[task](about)
            if not found:
                self._stop.wait(POLL_SECONDS)
        on_stop()

    def stop(self) -> None:
        """Have :meth:`work` end."""
        self._stop.set()
