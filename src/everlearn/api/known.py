"""What the gauges know of each model: read again only where something has happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from everlearn.api.parts import Parts
from everlearn.errors import NotFoundError
from everlearn.types import Tally

if TYPE_CHECKING:
    from everlearn.loop.figures import Figures

SECONDS = 0.5
"""How long a scrape reads states of loops; those that it does not come to are as they were the last time."""


@dataclass(frozen=True, slots=True)
class Known:
    """One model. ``cursor`` is where its loop stood when ``figures`` were read, ``counted`` the last decision
    that ``decisions`` counts by kind."""

    tally: Tally
    figures: Figures
    cursor: int = -1
    read_at: float = float("-inf")
    counted: int = 0
    decisions: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_moved(self) -> bool:
        """Whether the model's loop has moved since it was read."""
        return self.tally.cursor != self.cursor or self.tally.decisions != self.counted


class Models:
    """Reads where all models stand. ``count`` is how many there are."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[int, Known] = {}
        self._lock = Lock()
        self.count = 0

    def read(self, most: int) -> Sequence[Known]:
        """The first ``most`` models by name."""
        with self._lock:
            tallies = sorted(self._parts.tallies.models(), key=lambda tally: tally.name)
            self.count = len(tallies)
            known = {tally.id: self._met(tally) for tally in tallies[:most]}
            self._refresh(known)
            self._known = known
            return list(known.values())

    def _met(self, tally: Tally) -> Known:
        from everlearn.loop.figures import Figures

        known = self._known.get(tally.id)
        return Known(tally, Figures()) if known is None else replace(known, tally=tally)

    def _refresh(self, known: dict[int, Known]) -> None:
        """Read what has moved: all that is new, and of the others, longest unread first, as time allows."""
        moved = [one for one in known.values() if one.has_moved]
        until = time.monotonic() + SECONDS
        for one in sorted(moved, key=lambda one: one.read_at):
            if one.cursor >= 0 and time.monotonic() > until:
                break
            try:
                known[one.tally.id] = self._read(one)
            except NotFoundError:  # deleted meanwhile
                del known[one.tally.id]

    def _read(self, one: Known) -> Known:
        from everlearn.loop.figures import figures

        name, ledger = one.tally.name, self._parts.ledger
        checkpoint = ledger.checkpoint(name)
        newest = one.tally.decisions
        decisions = Counter(one.decisions) + Counter(ledger.counts(name, one.counted, newest))
        now = time.monotonic()
        return Known(one.tally, figures(checkpoint.state), checkpoint.cursor, now, newest, decisions)
