"""Rates and lock-outs, in the memory of one process. Times are given; nothing here reads a clock."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from everlearn.access.names import fault

DAY: Final = 86_400.0
MOST_NAMES: Final = 10_000
"""How many callers are remembered at most: those not seen for longest are forgotten."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands after a request. ``wait`` is 0, or the seconds until it would be let in."""

    left: int
    reset: float
    wait: float


class Buckets:
    """A token bucket for each name: ``rate`` requests a second on average, ``burst`` at once.

    >>> buckets = Buckets(rate=1.0, burst=2)
    >>> [buckets.take("ann", now=10.0).wait for _ in range(3)], buckets.take("ann", now=11.0).wait
    ([0.0, 0.0, 1.0], 0.0)
    """

    def __init__(self, rate: float, burst: int) -> None:
        if not rate > 0 or burst < 1:
            raise fault("rate", "must be positive, with a burst of at least 1")
        self.rate = rate
        self.burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> Standing:
        """Count a request of this name, if there is room for it."""
        level = self._level(name, now)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self.rate
        if not wait:
            level -= 1.0
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > MOST_NAMES:
            self._levels.popitem(last=False)
        return Standing(int(level), (self.burst - level) / self.rate, wait)

    def wait(self, name: str, now: float) -> float:
        """Seconds until a request of this name would be let in (0: now); counts nothing."""
        level = self._level(name, now)
        return 0.0 if level >= 1.0 else (1.0 - level) / self.rate

    def _level(self, name: str, now: float) -> float:
        level, since = self._levels.get(name, (float(self.burst), now))
        return min(float(self.burst), level + max(0.0, now - since) * self.rate)


class Quotas:
    """A token bucket for each name, of its own size: ``per_day`` on average, and at once.

    >>> quotas = Quotas()
    >>> [quotas.take("ann", count, per_day=100, now=0.0).wait for count in (60, 60, 40, 200)]
    [0.0, 17280.0, 0.0, inf]
    """

    def __init__(self) -> None:
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, count: int, per_day: int, now: float) -> Standing:
        """Count so many, if there is room for all of them; never, for more than there is in a day."""
        rate = per_day / DAY
        level, since = self._levels.get(name, (float(per_day), now))
        level = min(float(per_day), level + max(0.0, now - since) * rate)
        wait = 0.0
        if count > level:
            wait = math.inf if count > per_day else (count - level) / rate
        else:
            level -= count
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > MOST_NAMES:
            self._levels.popitem(last=False)
        return Standing(int(level), (per_day - level) / rate if rate else math.inf, wait)


class LockOut:
    """Locks a name out after ``allowed`` failures in a row: ``base`` seconds, twice as long each time.

    Names that do not exist are counted too, so that being locked out tells nothing.

    >>> lock = LockOut(allowed=2, base=10.0)
    >>> for _ in range(3): lock.failed("ann", now=0.0)
    >>> lock.wait("ann", now=4.0), lock.wait("bob", now=4.0), lock.wait("ann", now=30.0)
    (16.0, 0.0, 0.0)
    """

    def __init__(self, allowed: int, base: float = 5.0, most: float = 900.0) -> None:
        self.allowed = allowed
        self._base = base
        self._most = most
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Seconds for which the name is still locked out (0: it is not)."""
        return max(0.0, self._failures.get(name, (0, 0.0))[1] - now)

    def failed(self, name: str, now: float) -> None:
        """Count a failure. After a quiet time of the longest lock-out, counting begins anew."""
        count, until = self._failures.get(name, (0, now))
        count = 1 if now - until > self._most else count + 1
        over = count - self.allowed
        locked = 0.0 if over < 0 else min(self._most, self._base * 2.0 ** min(over, 30))
        self._failures[name] = (count, now + locked)
        self._failures.move_to_end(name)
        if len(self._failures) > MOST_NAMES:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        self._failures.pop(name, None)
