"""Rows that are remembered instead of learned: the anchors of a regime.

A row is eligible by its number alone, so that every trainer leaves out the same rows without asking
anybody, whichever of them end up in a reservoir.

>>> sum(eligible(row, 40) for row in range(1, 4001))
94
>>> eligible(0, 40), eligible(7, 0)
(False, False)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection

import msgspec

_MASK = 0xFFFFFFFFFFFFFFFF


def mixed(number: int) -> int:
    """A well mixed 64-bit hash of an integer (the finaliser of splitmix64: Steele, Lea & Flood 2014)."""
    z = (number + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def eligible(row: int, every: int) -> bool:
    """Whether a row may become an anchor, and must not be learned: about one in ``every`` (0: none).

    ``row`` is the prediction's number; 0 stands for bulk history, which is always learned.
    """
    if every <= 0 or row <= 0:
        return False
    z = (row + 0x9E3779B97F4A7C15) & _MASK  # as `mixed`, without a call: every row is asked
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) % every == 0


class Anchor(msgspec.Struct, frozen=True, array_like=True):
    """A remembered row: its number, the id of its prediction, its truth, the time it was asked, and
    who gave its truth.

    Its features stay in the log, under the id.
    """

    row: int
    id: str
    truth: bool | int | float | str
    at: float
    source: str | None = None


class Reservoir(msgspec.Struct):
    """At most ``anchors`` rows of a regime, spread evenly over its span, in the order of their numbers.

    When one too many has come, the anchor that leaves the smallest gap is dropped, the oldest of
    equals; the first and the newest always stay. Which is dropped depends on row numbers only, never
    on features, truths or answers, so what stays is a fair sample of the regime. ``frozen``: takes
    nothing in.

    >>> kept = Reservoir()
    >>> for row in range(1, 101):
    ...     kept.add(Anchor(row, f"p{row}", "a", 0.0), anchors=5)
    >>> [anchor.row for anchor in kept.entries]
    [1, 22, 53, 83, 100]
    """

    entries: list[Anchor] = []
    frozen: bool = False

    def add(self, anchor: Anchor, anchors: int) -> None:
        """Take an anchor in, at its place; one that is there already, by row, changes nothing."""
        if self.frozen or anchors <= 0:
            return
        place = self._place(anchor.row)
        if place < len(self.entries) and self.entries[place].row == anchor.row:
            return
        self.entries.insert(place, anchor)
        self.thin(anchors)

    def thin(self, anchors: int) -> None:
        """Drop anchors until there are no more than ``anchors``."""
        while len(self.entries) > max(anchors, 0):
            del self.entries[self._most_crowded()]

    def _most_crowded(self) -> int:
        rows = [anchor.row for anchor in self.entries]
        if len(rows) < 3:
            return 0
        gaps = [after - before for before, after in zip(rows, rows[2:], strict=False)]
        return 1 + gaps.index(min(gaps))

    def split(self, row: int) -> list[Anchor]:
        """Take out, and give, the anchors from a row on."""
        place = self._place(row)
        later = self.entries[place:]
        del self.entries[place:]
        return later

    def merge(self, others: list[Anchor], anchors: int) -> None:
        """Take in the anchors of another stretch, and thin both alike."""
        known = {anchor.row for anchor in self.entries}
        joined = [*self.entries, *(other for other in others if other.row not in known)]
        self.entries = sorted(joined, key=lambda anchor: anchor.row)
        self.thin(anchors)

    def correct(self, row: int, truth: bool | int | float | str, source: str | None = None) -> bool:
        """Put a corrected truth in place, frozen or not; whether the row is an anchor here."""
        place = self._place(row)
        if place == len(self.entries) or self.entries[place].row != row:
            return False
        self.entries[place] = msgspec.structs.replace(self.entries[place], truth=truth, source=source)
        return True

    def forget(self, ids: Collection[str]) -> int:
        """Remove the anchors with these prediction ids (a subject's deletion); how many they were."""
        before = len(self.entries)
        self.entries = [anchor for anchor in self.entries if anchor.id not in ids]
        return before - len(self.entries)

    def _place(self, row: int) -> int:
        return bisect_left(self.entries, row, key=lambda anchor: anchor.row)
