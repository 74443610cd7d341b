"""Leases of names that a process keeps: taken when first needed, renewed when half of their time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from everlearn.ports import Clock, Leases
from everlearn.processes import is_dead

REFUSED_SECONDS = 0.5
"""How long a name that is another's is not asked for again."""


class Holding:
    """The leases of one owner.

    >>> from everlearn.adapters.memory import ManualClock, MemoryStore
    >>> leases, clock = MemoryStore().leases, ManualClock()
    >>> one, two = Holding(leases, clock, "one", 10.0), Holding(leases, clock, "two", 10.0)
    >>> one.take("advance:m"), two.take("advance:m")
    (True, False)
    """

    def __init__(
        self,
        leases: Leases,
        clock: Clock,
        owner: str,
        seconds: float,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._clock, self._steady = leases, clock, steady
        self._owner, self._seconds = owner, seconds
        self._until: dict[str, float] = {}
        self._refused: dict[str, float] = {}

    def take(self, name: str) -> bool:
        """Whether a lease is this owner's, taken now if need be. Dead processes of this host lose theirs."""
        now = self._clock.now()
        if now < self._until.get(name, 0.0) - self._seconds / 2:
            return True
        if self._steady() < self._refused.get(name, 0.0):
            return False
        if self._take(name, now):
            self._until[name] = now + self._seconds
            self._refused.pop(name, None)
            return True
        self._until.pop(name, None)
        self._refused[name] = self._steady() + REFUSED_SECONDS
        return False

    def _take(self, name: str, now: float) -> bool:
        if self._leases.take(name, self._owner, self._seconds, now):
            return True
        holder = self._leases.holder(name, now)
        return is_dead(holder) and self._leases.take(name, self._owner, self._seconds, now, over=holder)

    def release(self, name: str) -> None:
        """Give one back."""
        if self._until.pop(name, None) is not None:
            self._leases.release(name, self._owner)

    def release_all(self) -> None:
        """Give all back."""
        for name in list(self._until):
            self.release(name)
