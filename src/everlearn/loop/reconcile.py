"""Estimates meet what came true: how wrong they were, and whether they are blind.

An estimate without labels assumes that the truth of a row like this one is as it was. When the truth
itself changes (concept drift), nothing in the features shows it, and the estimate stays where it was.
That is known once labels come: it is off by more than chance, again and again, in one direction.
"""

from __future__ import annotations

import math

import msgspec

PENDING = 100
"""Estimates that may wait for their labels; more means that labels do not come, and the oldest is let go."""

LEAST_LABELLED = 30
"""Labels that a chunk must have to be compared."""

BAND = 3.0
"""Standard errors by which an estimate may be off."""

RECENT, OUTSIDE = 3, 2
"""Blind: of the newest 3 chunks, 2 are outside their band on the same side."""


class Estimate(msgspec.Struct):
    """Expected performance of the predictions ``first`` to ``last`` (row numbers), ``rows`` of them.

    ``value`` is the expected accuracy, or mean absolute error. ``doubt`` is its variance for being learned
    from few rows, ``noise`` that of one row's outcome, with which what comes true will vary around it.
    """

    first: int
    last: int
    rows: int
    value: float
    doubt: float
    noise: float
    blind: bool = False

    def error(self, rows: int | None = None) -> float:
        """The standard error of ``value`` against the mean of so many of its rows (all by default)."""
        return math.sqrt(self.doubt + self.noise / max(self.rows if rows is None else rows, 1))


class Reconciled(msgspec.Struct):
    """An estimate beside what came true on its ``labelled`` rows; ``z`` is its error in standard errors."""

    first: int
    last: int
    estimate: float
    realised: float
    labelled: int
    z: float
    blind: bool


class Waiting(msgspec.Struct):
    """An estimate whose labels are awaited, with the sum and number of those that came."""

    estimate: Estimate
    total: float = 0.0
    labelled: int = 0


class Reconciler(msgspec.Struct):
    """The estimates' own record: ``mean_error`` and ``bias`` of all that were compared.

    ``blind`` is the row from which estimates are known to be blind, or ``None``.
    """

    waiting: list[Waiting] = []
    recent: list[Reconciled] = []
    compared: int = 0
    absolute: float = 0.0
    signed: float = 0.0
    blind: int | None = None

    @property
    def mean_error(self) -> float | None:
        """The mean absolute error of the estimates so far."""
        return self.absolute / self.compared if self.compared else None

    @property
    def bias(self) -> float | None:
        """How much estimates were above what came true, on average."""
        return self.signed / self.compared if self.compared else None

    def expect(self, estimate: Estimate) -> None:
        """Remember an estimate until its labels have come."""
        self.waiting.append(Waiting(estimate))
        del self.waiting[:-PENDING]

    def arrive(self, row: int, outcome: float) -> list[Reconciled]:
        """Take in what came true of a row; rows come in order. The estimates that this settles."""
        settled = []
        while self.waiting and self.waiting[0].estimate.last < row:
            settled += self._settle(self.waiting.pop(0))
        if self.waiting and self.waiting[0].estimate.first <= row:
            first = self.waiting[0]
            first.total += outcome
            first.labelled += 1
            if first.labelled >= first.estimate.rows:
                settled += self._settle(self.waiting.pop(0))
        return settled

    def forget(self) -> None:
        """Another champion answers: what is awaited, and blindness, concern the one before."""
        self.waiting, self.recent, self.blind = [], [], None

    def _settle(self, waiting: Waiting) -> list[Reconciled]:
        estimate = waiting.estimate
        if waiting.labelled < LEAST_LABELLED:
            return []
        realised = waiting.total / waiting.labelled
        error = estimate.value - realised
        z = error / max(estimate.error(waiting.labelled), 1e-9)
        self.compared += 1
        self.absolute += abs(error)
        self.signed += error
        found = Reconciled(
            estimate.first, estimate.last, estimate.value, realised, waiting.labelled, z, False
        )
        self.recent = [*self.recent, found][-RECENT:]
        self._judge()
        found.blind = self.blind is not None
        return [found]

    def _judge(self) -> None:
        """Blind when estimates are repeatedly outside their band; seeing again when all are inside."""
        high = [past for past in self.recent if past.z > BAND]
        low = [past for past in self.recent if past.z < -BAND]
        outside = max(high, low, key=len)
        if len(outside) >= OUTSIDE:
            self.blind = outside[0].first if self.blind is None else self.blind
        elif not high and not low:
            self.blind = None
