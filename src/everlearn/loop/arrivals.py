"""How late labels come: a maturity curve that labels still under way do not bend.

Predictions are counted in cohorts of consecutive rows, and the labels of each cohort by their delay. A
cohort says something about a delay once its youngest row is older than that: then every label that
late has come. So each delay has a hazard, the labels that came that late among the predictions that
were still without one, over the cohorts old enough to know; the product of what the hazards leave is
the share that is without a label at an age (Kaplan & Meier 1958; for reporting delays, Kalbfleisch &
Lawless 1989). Nothing is assumed of labels that have not come.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec

COHORT = 16
"""Rows of a new cohort; older ones are merged, at most to ``COARSENESS`` of their age if that will do."""

MAX_COHORTS = 64
COARSENESS = 0.25
MEMORY_ROWS = 10_000
"""Cohorts older than this, and than 8 horizons, are forgotten."""

ROW_EDGES: list[int] = [*range(16), *(round(2 ** (4 + i / 8)) for i in range(8 * 20))]
"""Where the bins of delays in rows begin: one delay each up to 15, then eight a doubling, to 16 million."""

SECOND_EDGES: list[float] = [0.0, *(0.001 * 2 ** (i / 4) for i in range(4 * 39))]
"""Where the bins of delays in seconds begin: four a doubling, from a millisecond to 17 years."""

MIN_EXPOSED = 30
"""The curve ends where fewer predictions are old enough to tell."""

MIN_LABELS = 50
MIN_WATCHED = 500
"""Rows after which labels that are missing are taken to be missing, while more than 5% are."""

QUANTILE = 0.95
PATIENCE = 5000
"""With so many labels a horizon is given even while labels never cease to come."""

NEVER_HORIZONS = 3
POINTS = 40


@dataclass(frozen=True, slots=True)
class Curve:
    """``shares[k]`` of the predictions have their label before the age at which bin ``k + 1`` begins."""

    edges: list[Any]
    shares: list[float]

    def first(self, share: float) -> int:
        """The first bin at whose end so many have come."""
        return next(k for k, reached in enumerate(self.shares) if reached >= share)


class Arrivals(msgspec.Struct):
    """Cohorts, oldest first: the first row of each, the time of its newest row, its labels by delay.

    The last cohort is still open, and has no time. ``tops`` are the longest delays seen by bin, ``early``
    how many labels came for rows before the oldest cohort: later than what is remembered. A label that takes
    the place of one whose source was put aside is counted like the first; no more are believed than there
    are rows.
    """

    starts: list[int] = msgspec.field(default_factory=lambda: [1])
    times: list[float] = []
    by_rows: list[dict[int, int]] = msgspec.field(default_factory=lambda: [{}])
    by_seconds: list[dict[int, int]] = msgspec.field(default_factory=lambda: [{}])
    tops: dict[int, int] = {}
    labels: int = 0
    forgotten: int = 0

    def close(self, rows: int, now: float, horizon: int | None) -> int:
        """Close the open cohort with the row ``rows``; the row with which to close the next."""
        self.starts.append(rows + 1)
        self.times.append(now)
        self.by_rows.append({})
        self.by_seconds.append({})
        if len(self.starts) > MAX_COHORTS:
            self._forget(rows, horizon)
            self._merge(rows)
        return rows + COHORT

    def add(self, row: int, at: float, rows: int, now: float) -> None:
        """Count the label of a row: it came when ``rows`` predictions had been made, at the time ``now``."""
        self.labels += 1
        starts, late = self.starts, rows - row
        if row < starts[0]:
            self.forgotten += 1
            return
        cohort = -1 if row >= starts[-1] else bisect_right(starts, row) - 1
        place = late if late < 16 else bisect_right(ROW_EDGES, late) - 1
        counts = self.by_rows[cohort]
        counts[place] = counts.get(place, 0) + 1
        if late > self.tops.get(place, -1):
            self.tops[place] = late
        place = bisect_right(SECOND_EDGES, now - at) - 1 if now > at else 0
        counts = self.by_seconds[cohort]
        counts[place] = counts.get(place, 0) + 1

    # -- what is learned ---------------------------------------------------------------------------

    def horizon(self, rows: int) -> int | None:
        """The age in rows at which 95% of the labels that ever come have come; ``None`` if not yet known.

        It is known once the curve has been watched for twice as long (and for 500 rows if labels are
        missing that may only be late), or if 95% of all predictions have their label by then, whatever
        may come. Until then no one can tell how many still will.
        """
        if self.labels < MIN_LABELS:
            return None
        curve = self.by_row(rows)
        if not curve.shares or not curve.shares[-1]:
            return None
        last = curve.shares[-1]
        horizon, watched = self._top(curve.first(QUANTILE * last)), ROW_EDGES[len(curve.shares)] - 1
        if watched >= max(2 * horizon, 0 if last >= QUANTILE else MIN_WATCHED):
            return horizon
        if last >= QUANTILE:
            return self._top(curve.first(QUANTILE))
        return horizon if self.labels >= PATIENCE else None

    def never(self, rows: int, horizon: int | None) -> float | None:
        """The share of the predictions older than three horizons that have no label."""
        if horizon is None:
            return None
        made = labelled = 0
        for (start, after), counts in zip(self._spans(), self.by_rows, strict=False):
            if rows - after + 1 > NEVER_HORIZONS * horizon:
                made += after - start
                labelled += min(sum(counts.values()), after - start)
        return 1 - labelled / made if made else None

    def by_row(self, rows: int) -> Curve:
        """The maturity curve over ages in rows, once ``rows`` predictions have been made."""
        ages = [rows - start + 1 for start in self.starts[1:]]
        return _curve(ROW_EDGES, ages, self._sizes(), self.by_rows)

    def by_second(self, now: float) -> Curve:
        """The maturity curve over ages in seconds, at the time ``now``."""
        return _curve(SECOND_EDGES, [now - at for at in self.times], self._sizes(), self.by_seconds)

    def points(self, rows: int, now: float) -> list[dict[str, Any]]:
        """Both curves as points, each where the share has grown, at most 40 of each.

        ``{"age_rows": a, "share": s}``: a share ``s`` of the predictions has its label by the age ``a``;
        ``{"age_seconds": a, "share": s}`` the same in time.
        """
        by_row = [(edge - 1, share) for edge, share in _steps(self.by_row(rows))]
        by_second = _steps(self.by_second(now))
        return [
            *({"age_rows": age, "share": share} for age, share in by_row),
            *({"age_seconds": age, "share": share} for age, share in by_second),
        ]

    def _top(self, place: int) -> int:
        longest = self.tops.get(place)
        return int(ROW_EDGES[place + 1]) - 1 if longest is None else longest

    # -- cohorts -----------------------------------------------------------------------------------

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.starts, self.starts[1:], strict=False))

    def _sizes(self) -> list[int]:
        return [after - start for start, after in self._spans()]

    def _forget(self, rows: int, horizon: int | None) -> None:
        if horizon is None:
            return
        oldest = rows - max(MEMORY_ROWS, 8 * horizon)
        gone = bisect_right(self.starts, oldest) - 1
        if gone > 0:
            self._keep([(i, i + 1) for i in range(gone, len(self.starts))])

    def _merge(self, rows: int) -> None:
        """Merge neighbours until half of the cohorts are left, as little as that takes."""
        coarseness = COARSENESS
        while len(self.starts) > MAX_COHORTS // 2:
            groups: list[tuple[int, int]] = []
            closed = len(self.starts) - 1
            for i in range(closed):
                size = self.starts[i + 1] - self.starts[groups[-1][0] if groups else i]
                if groups and size <= coarseness * (rows - self.starts[i + 1]):
                    groups[-1] = (groups[-1][0], i + 1)
                else:
                    groups.append((i, i + 1))
            self._keep([*groups, (closed, closed + 1)])
            coarseness *= 1.5

    def _keep(self, groups: list[tuple[int, int]]) -> None:
        """Make a cohort of each run of cohorts; the last run is the open one."""
        self.starts = [self.starts[first] for first, _ in groups]
        self.times = [self.times[end - 1] for _, end in groups[:-1]]
        self.by_rows = [_summed(self.by_rows[first:end]) for first, end in groups]
        self.by_seconds = [_summed(self.by_seconds[first:end]) for first, end in groups]


def _curve(edges: list[Any], ages: list[Any], sizes: list[int], counts: list[dict[int, int]]) -> Curve:
    """The product-limit estimate over the bins that at least 30 predictions are old enough for.

    ``ages`` (c,) of the youngest row of each closed cohort, ``sizes`` (c,) in rows, ``counts`` by bin.
    """
    came, risk, exposed = ([0] * (len(edges) + 1) for _ in range(3))
    for age, size, found in zip(ages, sizes, counts, strict=False):
        known = max(0, bisect_right(edges, age) - 1)  # the bins before this one are over for every row
        exposed[0] += size
        exposed[known] -= size
        risk[0] += size
        for place, count in found.items():
            if place < known:
                count = min(count, size)
                came[place] += count
                risk[place + 1] -= count
                size -= count
        risk[known] -= size
    shares, without = [], 1.0
    for events, left, old in zip(came, accumulate(risk), accumulate(exposed), strict=True):
        if old < MIN_EXPOSED:
            break
        without *= 1 - events / left if events else 1.0
        shares.append(1 - without)
    return Curve(edges, shares)


def _steps(curve: Curve) -> list[tuple[Any, float]]:
    """The ages at which a curve has risen, thinned to 40, and its end."""
    edges, shares = curve.edges, curve.shares
    risen = [k for k, share in enumerate(shares) if share > (shares[k - 1] if k else 0.0)]
    stride = -(-len(risen) // (POINTS - 1)) if risen else 1
    kept = sorted({*risen[::-1][::stride], *([len(shares) - 1] if shares else [])})
    return [(edges[k + 1], shares[k]) for k in kept]


def _summed(parts: list[dict[int, int]]) -> dict[int, int]:
    whole: dict[int, int] = {}
    for part in parts:
        for place, count in part.items():
            whole[place] = whole.get(place, 0) + count
    return whole
