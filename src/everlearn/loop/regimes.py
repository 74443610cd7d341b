"""The memory of regimes: stretches of the stream under one concept, and what is kept of each.

A change point cuts the stream; what follows is a new regime until the evidence says that a known one
has come back (:mod:`everlearn.loop.recurrence`). Numbers count from 1 and are never used twice.

>>> memory, spec = Regimes(), RegimeSpec(anchor_every=1, anchors=4)
>>> for row in range(1, 301):
...     memory.take(row, f"p{row}", "a", 0.0, spec)
>>> memory.cut(251, "the loss rose", spec).number, [regime.stretches for regime in memory.regimes]
(2, [[(1, 250)], [(251, 0)]])
>>> memory.recognise(1, "its anchors look the same", spec).stretches
[(1, 250), (251, 0)]
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from everlearn.loop.anchors import Anchor, Reservoir, eligible
from everlearn.spec import RegimeSpec

LEAST_ROWS = 100
"""Matured rows that a stretch must have had, for what is cut off to be remembered as a regime."""

MOST_SERVED = 8
"""How many of the newest versions that served a regime are kept."""

MOST_STRETCHES = 64
"""How many of the newest stretches of a regime are kept."""


class Regime(msgspec.Struct):
    """One concept: when it was there, what is kept of it, and whether it may be forgotten.

    ``stretches`` are pairs (first row, last row); the last row of the one that is open is 0. ``rows``
    counts matured rows, ``newest`` those of the newest stretch. ``served`` has pairs (row, version): the
    version that was promoted while the regime was there, and from which row it answered.
    ``protected`` is ``None`` while nothing has decided it; ``obsolete``: its truth has changed since.
    """

    number: int
    opened: int
    stretches: list[tuple[int, int]]
    reason: str = ""
    rows: int = 0
    newest: int = 0
    reservoir: Reservoir = msgspec.field(default_factory=Reservoir)
    served: list[tuple[int, int]] = []
    protected: bool | None = None
    obsolete: bool = False
    verdict: str = ""

    @property
    def name(self) -> str:
        """Its name as a group of rows, for the gate."""
        return f"regime {self.number}"

    @property
    def best(self) -> int | None:
        """The version that served it last, by the policy's and the gate's own choice the best known."""
        return self.served[-1][1] if self.served else None

    def holds(self, row: int) -> bool:
        """Whether a row lies in one of its stretches."""
        return any(first <= row and (row <= last or last == 0) for first, last in self.stretches)

    def protects(self, spec: RegimeSpec) -> bool:
        """Whether it must not be forgotten: as the operator says, else as was found; undecided: no."""
        told = spec.told(self.number)
        return (self.protected is True and not self.obsolete) if told is None else told

    def is_obsolete(self, spec: RegimeSpec) -> bool:
        """Whether forgetting it is right: as the operator says, else as was found."""
        told = spec.told(self.number)
        return self.obsolete if told is None else not told


class Regimes(msgspec.Struct):
    """The regimes of a model, the current one last; at most ``spec.most`` of them."""

    regimes: list[Regime] = []
    opened: int = 0

    @property
    def current(self) -> Regime | None:
        """The regime that is there now; ``None`` before the first matured row."""
        return self.regimes[-1] if self.regimes else None

    def find(self, number: int) -> Regime | None:
        """A regime by its number, if it is still remembered."""
        return next((regime for regime in self.regimes if regime.number == number), None)

    def past(self) -> list[Regime]:
        """All but the current one."""
        return self.regimes[:-1]

    # -- what is seen ------------------------------------------------------------------------------

    def take(
        self, row: int, key: str, truth: Any, at: float, spec: RegimeSpec, source: str | None = None
    ) -> None:
        """Take in a matured row; ``key`` is its prediction's id, ``source`` gave its truth.

        A row from before the current stretch (a label later than the horizon) only counts.
        """
        every = spec.anchor_every
        if every == 0:
            return
        regime = self.regimes[-1] if self.regimes else self._open(row, "the first rows")
        if row < regime.stretches[-1][0]:
            home = next((other for other in self.regimes if other.holds(row)), None)
            if home is not None:
                home.rows += 1
            return
        regime.rows += 1
        regime.newest += 1
        if truth is not None and eligible(row, every):
            regime.reservoir.add(Anchor(row, key, truth, at, source), spec.anchors)

    def promoted(self, row: int, version: int) -> None:
        """Note which version answers from a row on, in the current regime."""
        if self.current is not None:
            self.current.served = [*self.current.served, (row, version)][-MOST_SERVED:]

    def correct(self, row: int, truth: Any, source: str | None = None) -> bool:
        """Correct the truth of an anchor; whether the row is one."""
        return any(regime.reservoir.correct(row, truth, source) for regime in self.regimes)

    def forget(self, ids: Collection[str]) -> int:
        """Remove the anchors with these prediction ids from every regime; how many they were."""
        return sum(regime.reservoir.forget(ids) for regime in self.regimes)

    # -- what is decided ---------------------------------------------------------------------------

    def cut(self, row: int, reason: str, spec: RegimeSpec) -> Regime | None:
        """End the current regime before ``row``, where the change began; the regime that begins there.

        Anchors and versions from that row on go with it. If the stretch before the cut was too short
        (:data:`LEAST_ROWS`), it was the change itself rather than a regime: the stretch begins
        again at ``row``, under the same number, without what lay before. ``None`` before any row, and
        for a cut at or before the beginning of the stretch nothing changes.
        """
        regime = self.current
        if regime is None or row <= regime.stretches[-1][0]:
            return regime
        later = regime.reservoir.split(row)
        if len(regime.stretches) == 1 and regime.newest - _matured_from(regime, row) < LEAST_ROWS:
            return _again(regime, row, reason, later)
        fresh = self._open(row, reason)
        fresh.rows = fresh.newest = _matured_from(regime, row)
        fresh.served = [pair for pair in regime.served if pair[0] >= row]
        regime.served = [pair for pair in regime.served if pair[0] < row]
        regime.rows -= fresh.rows
        _close(regime, row - 1)
        fresh.reservoir.merge(later, spec.anchors)
        self._make_room(spec)
        return fresh

    def recognise(self, number: int, reason: str, spec: RegimeSpec) -> Regime:
        """Let the current stretch be a known regime that has come back: its memory goes on there.

        Raises KeyError if there is no such regime among the past ones.
        """
        known = next((regime for regime in self.past() if regime.number == number), None)
        if known is None:
            raise KeyError(f"regime {number} is not among the past regimes")
        new = self.regimes.pop()
        self.regimes.remove(known)
        self.regimes.append(known)
        known.stretches = _joined([*known.stretches, *new.stretches])
        known.rows, known.newest = known.rows + new.rows, new.newest
        known.served = [*known.served, *new.served][-MOST_SERVED:]
        known.reason, known.obsolete = reason, False
        known.reservoir.frozen = False
        known.reservoir.merge(new.reservoir.entries, spec.anchors)
        return known

    def judge(self, number: int, kind: str, reason: str) -> None:
        """Put down what a test says of a past regime: ``protected``, ``obsolete`` or ``undecided``.

        ``undecided`` leaves what was found before. Unknown numbers and the current regime: nothing.
        """
        regime = self.find(number)
        if regime is None or regime is self.current or kind == "undecided":
            return
        regime.protected, regime.obsolete = kind == "protected", kind == "obsolete"
        regime.verdict = reason

    def groups_for(self, row: int, spec: RegimeSpec) -> list[str]:
        """The names of the protected regimes that a row lies in."""
        return [regime.name for regime in self.regimes if regime.protects(spec) and regime.holds(row)]

    def protected(self, spec: RegimeSpec) -> list[Regime]:
        """The regimes that must not be forgotten."""
        return [regime for regime in self.regimes if regime.protects(spec)]

    # -- how many ----------------------------------------------------------------------------------

    def _open(self, row: int, reason: str) -> Regime:
        self.opened += 1
        self.regimes.append(Regime(self.opened, row, [(row, 0)], reason))
        return self.regimes[-1]

    def _make_room(self, spec: RegimeSpec) -> None:
        """Drop the oldest obsolete regime, else the smallest that is not protected, else the smallest."""
        while len(self.regimes) > spec.most:
            past = self.past()
            obsolete = [regime for regime in past if regime.is_obsolete(spec)]
            free = [regime for regime in past if not regime.protects(spec)]
            dropped = obsolete[0] if obsolete else min(free or past, key=lambda r: (r.rows, r.number))
            self.regimes.remove(dropped)

    def to_dict(self, spec: RegimeSpec) -> list[dict[str, Any]]:
        """The regimes as JSON values for people and the API, without their anchors."""
        return [
            {
                "number": regime.number,
                "name": regime.name,
                "opened": regime.opened,
                "stretches": [[first, last or None] for first, last in regime.stretches],
                "rows": regime.rows,
                "anchors": len(regime.reservoir.entries),
                "best": regime.best,
                "protected": regime.protects(spec),
                "obsolete": regime.is_obsolete(spec),
                "by_operator": spec.told(regime.number) is not None,
                "verdict": regime.verdict,
                "reason": regime.reason,
                "current": regime is self.current,
            }
            for regime in self.regimes
        ]


def _matured_from(regime: Regime, row: int) -> int:
    """About how many matured rows the newest stretch has from ``row`` on; exact if every row matures.

    Rows are not kept one by one, so labels that never come are taken to miss evenly.
    """
    first = regime.stretches[-1][0]
    newest = regime.reservoir.entries[-1].row if regime.reservoir.entries else first
    seen = max(first + regime.newest - 1, newest, row)
    return min(regime.newest, round(regime.newest * (seen - row + 1) / max(seen - first + 1, 1)))


def _again(regime: Regime, row: int, reason: str, later: list[Anchor]) -> Regime:
    kept = _matured_from(regime, row)
    regime.reservoir.entries = later
    regime.stretches, regime.opened, regime.reason = [(row, 0)], row, reason
    regime.rows = regime.newest = kept
    return regime


def _close(regime: Regime, last: int) -> None:
    first, _ = regime.stretches[-1]
    regime.stretches = [*regime.stretches[:-1], (first, last)][-MOST_STRETCHES:]
    regime.newest = 0
    regime.reservoir.frozen = True


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The newest stretches, in order."""
    return sorted(stretches)[-MOST_STRETCHES:]
