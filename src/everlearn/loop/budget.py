"""A hard budget: so many updates, or so many seconds of their work, in any 24 hours of event time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import msgspec

from everlearn.spec import PolicySpec

DAY = 86_400.0
MOST_ENTRIES = 512
"""Entries that a day is kept in; two that are close in time are merged beyond it."""
MEASURED = 5
"""The longest of so many newest updates is what the next one is expected to take."""


class BudgetState(msgspec.Struct):
    """The updates of the last day, oldest first: when, how many, and seconds of work.

    ``durations`` are the measured seconds of the newest updates. An update that is still at work counts
    with what it is expected to take.
    """

    times: list[float] = []
    counts: list[int] = []
    seconds: list[float] = []
    durations: list[float] = []

    @property
    def expected(self) -> float:
        """Seconds that the next update should take at most; 0 while none was measured."""
        return max(self.durations, default=0.0)

    def started(self, at: float) -> None:
        """An update was asked for at a time (seconds, event time)."""
        self._forget(at)
        self.times.append(at)
        self.counts.append(1)
        self.seconds.append(self.expected)
        if len(self.times) > MOST_ENTRIES:
            self._merge()

    def finished(self, at: float, seconds: float) -> None:
        """The update asked for last has come back after so many seconds of work."""
        if self.times:
            spent_before = self.seconds[-1] - self.expected if self.counts[-1] > 1 else 0.0
            self.seconds[-1] = max(0.0, spent_before) + max(0.0, seconds)
            self.times[-1] = max(self.times[-1], at)  # its seconds were spent up to now
        self.durations = [*self.durations, max(0.0, seconds)][-MEASURED:]

    def spent(self, now: float) -> tuple[int, float]:
        """Updates, and seconds of their work, in the 24 hours up to now."""
        inside = bisect_right(self.times, now - DAY)
        return sum(self.counts[inside:]), sum(self.seconds[inside:])

    def _forget(self, now: float) -> None:
        gone = sum(at <= now - DAY for at in self.times)
        del self.times[:gone], self.counts[:gone], self.seconds[:gone]

    def _merge(self) -> None:
        """Join the two neighbours that are closest; the later time stands, so that nothing is freed early."""
        gaps = [later - earlier for earlier, later in zip(self.times[:-2], self.times[1:-1], strict=True)]
        at = gaps.index(min(gaps))
        self.counts[at + 1] += self.counts[at]
        self.seconds[at + 1] += self.seconds[at]
        del self.times[at], self.counts[at], self.seconds[at]


@dataclass(frozen=True, slots=True)
class Room:
    """What the budget leaves: ``None`` where there is no limit. ``reason`` says why there is no room."""

    updates_left: int | None
    seconds_left: float | None
    reason: str | None


def room(policy: PolicySpec, state: BudgetState, now: float) -> Room:
    """Whether one more update fits, now (seconds, event time)."""
    updates, seconds = state.spent(now)
    left = None if policy.updates_per_day is None else policy.updates_per_day - updates
    time_left = None if policy.seconds_per_day is None else policy.seconds_per_day - seconds
    reason = None
    if left is not None and left < 1:
        reason = f"the budget of {policy.updates_per_day} updates a day is used up"
    elif time_left is not None and (time_left <= 0 or state.expected > time_left):
        reason = (
            f"an update takes up to {state.expected:.1f} s, and {max(time_left, 0.0):.1f} s are left "
            f"of the budget of {policy.seconds_per_day:g} s a day"
        )
    return Room(left, time_left, reason)
