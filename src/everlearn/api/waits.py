"""How long messages have waited, as far as somebody has looked: the outbox keeps no times."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from everlearn.types import Waiting

MOST_LOOKS = 1000


class Waits:
    """Remembers when a look first saw messages up to an id, so it knows how long the oldest has waited.

    It is right to within the time between two looks, and knows nothing of what was before the first.

    >>> waits = Waits()
    >>> waits.take({"registry": Waiting(2, 7, 8)}, 100.0)
    {'registry': 0.0}
    >>> waits.take({"registry": Waiting(3, 7, 9)}, 115.0)
    {'registry': 15.0}
    >>> waits.take({"registry": Waiting(1, 9, 9)}, 130.0)
    {'registry': 15.0}
    """

    def __init__(self) -> None:
        self._looks: dict[str, deque[tuple[int, float]]] = {}

    def take(self, found: Mapping[str, Waiting], now: float) -> dict[str, float]:
        """Look: what waits by destination, at a time. Returns the seconds that the oldest has waited."""
        self._looks = {place: self._looks.get(place, deque(maxlen=MOST_LOOKS)) for place in found}
        return {place: _seen(self._looks[place], waiting, now) for place, waiting in found.items()}


def _seen(looks: deque[tuple[int, float]], waiting: Waiting, now: float) -> float:
    if not looks or looks[-1][0] < waiting.newest:
        looks.append((waiting.newest, now))
    while looks[0][0] < waiting.oldest:
        looks.popleft()
    return max(0.0, now - looks[0][1])
