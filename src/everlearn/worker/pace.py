"""How long to wait: after a failure, and between two looks for work."""

from __future__ import annotations

import time
from collections.abc import Callable

ACTIVE_SECONDS = 2.0
"""How long after the last work a worker goes on looking for more at its full pace."""

SLOWER = 5
"""How many times longer an idle worker waits between two looks."""


class Backoff:
    """Who must wait after failing, and until when: 1 s at first, doubling to 60 s.

    >>> backoff = Backoff(now=lambda: 0.0)
    >>> backoff.failed("m"), backoff.failed("m"), backoff.waits("m"), backoff.waits("other")
    (1.0, 2.0, True, False)
    """

    def __init__(
        self, first: float = 1.0, most: float = 60.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._most, self._now = first, most, now
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, name: str) -> float:
        """Note a failure; returns the seconds to wait."""
        count = self._failures.get(name, (0, 0.0))[0]
        wait = min(self._first * 2.0 ** min(count, 20), self._most)
        self._failures[name] = (count + 1, self._now() + wait)
        return wait

    def succeeded(self, name: str) -> None:
        """Forget its failures."""
        self._failures.pop(name, None)

    def waits(self, name: str) -> bool:
        """Whether it must wait still."""
        return name in self._failures and self._now() < self._failures[name][1]


class Pace:
    """How long to wait before the next look for work: ``poll`` seconds, more where there was none lately.

    >>> now = [10.0]
    >>> pace = Pace(0.03, now=lambda: now[0])
    >>> pace.worked()
    >>> pace.wait()
    0.03
    >>> now[0] += 60
    >>> pace.wait()
    0.15
    """

    def __init__(self, poll: float, now: Callable[[], float] = time.monotonic) -> None:
        self._poll, self._now = poll, now
        self._worked_at = float("-inf")

    def worked(self) -> None:
        """Note that there was work."""
        self._worked_at = self._now()

    def wait(self) -> float:
        """Seconds to wait now."""
        return self._poll if self._now() - self._worked_at < ACTIVE_SECONDS else self._poll * SLOWER
