"""Whether an update is worth its cost: what staying costs a row, against what an update leads to.

With a version that loses ``x(a)`` more a row than a fresh one would, ``a`` rows after it was trained, and an
update that costs ``p`` rows, a cycle of ``n`` rows costs (p + X(n)) / n a row, where X(n) is the sum of x(1)
to x(n). A cycle should end when its next row would cost more than rows do on average in the best cycle to
come (the marginal rule of age replacement: Barlow & Hunter 1960, "Optimum preventive maintenance policies"):

    x(a) >= min over n <= h of (p + X(n)) / n.

For a loss that grows linearly with age, x(a) = s a, that is at a = sqrt(2 p / s), the economic order quantity
(Harris 1913). A version that learned from few examples is replaced the sooner, since the one after it will
stay good for longer, and one that a drift has made bad as soon as that is known. How long an update will be
of use is not known: ``h`` is a share of the rows that there have been (Gott 1993, "Implications of the
Copernican principle"). And nobody buys before a good part of the price has been paid in rent, which bounds
the regret of a forecast that is wrong (Karlin et al. 1988, "Competitive snoopy caching", section 2).

The excess is estimated (:mod:`everlearn.loop.cost`). Since a model that is never updated never learns what an
update would bring, one is also made whenever it costs less than a small share of what the champion has lost
since the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from everlearn.loop.cost import DEFAULT, CostState, Settings, base_of, dot, features, growth

SHORTEST, LONGER = 100.0, 1.3
"""The lengths of a cycle that are tried, in rows: the first, and how much longer the next one is."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What staying costs and what an update leads to, in rows answered wrongly (``rows``: in rows).

    ``excess`` is how much more the next row costs with the champion than with a fresh version, ``average``
    the least that a row of the cycle to come would cost, with the price of the update (its lower bound, the
    price over the horizon, where that says no). ``accumulated`` is the excess of the ``rows`` rows since the
    last update, and ``paid`` what it must have reached. ``lost`` is all that the champion has lost in them,
    ``cost`` the price, and ``explores`` whether it is a small share of that.
    """

    excess: float
    average: float
    accumulated: float
    paid: float
    cost: float
    lost: float
    rows: int
    explores: bool

    @property
    def pays(self) -> bool:
        """Whether the next row costs more by staying than by updating, and staying has cost enough."""
        return self.accumulated >= self.paid and self.excess >= self.average > 0.0

    @property
    def worth(self) -> bool:
        """Whether an update is worth its cost."""
        return self.explores or self.pays


def forecast(
    state: CostState,
    row: int,
    known: int,
    cost: float,
    capacity: int | None = None,
    settings: Settings = DEFAULT,
) -> Forecast:
    """What staying costs as of a row, against the cost of an update (in rows answered wrongly).

    known: labels known now. capacity: rows that the learner learns from at most. Weights below 0 count as 0:
    a version that grows better with age is taken to be chance.
    """
    weights = [max(0.0, weight) for weight in state.beliefs(settings)]
    seen, age = features(state, row, known, capacity, settings), max(0, row - state.at)
    excess, accumulated = dot(weights, seen.now), dot(weights, seen.sums)
    lost = state.total + state.level * max(0, age - state.rows)
    paid, horizon = settings.paid * cost, max(1.0, settings.horizon * row)
    average = cost / horizon
    if accumulated >= paid and excess >= average:
        cycle = _Cycle(weights, base_of(state, settings), max(1, known - state.origin), capacity, settings)
        average = cycle.least(cost, horizon)
    explores = lost > 0.0 and cost <= settings.explore * lost
    return Forecast(excess, average, accumulated, paid, cost, lost, age, explores)


@dataclass(frozen=True, slots=True)
class _Cycle:
    """A version trained now from ``known`` labels: what it will lose more than fresh ones, by its age."""

    weights: list[float]
    base: float
    known: int
    capacity: int | None
    settings: Settings

    def least(self, cost: float, horizon: float) -> float:
        """The least average cost of a row, over cycles of all lengths up to the horizon."""
        rows, least = min(SHORTEST, horizon), math.inf
        while rows < horizon:
            least = min(least, (cost + self._excess(rows)) / rows)
            rows *= LONGER
        return min(least, (cost + self._excess(horizon)) / horizon)

    def _excess(self, rows: float) -> float:
        """In so many rows; a rise is not foreseen."""
        age, exponent = round(rows), self.settings.exponent
        _, grown = growth(self.known, self.known + age, age, self.capacity, exponent)
        return self.base * (self.weights[0] * rows * rows / 2000.0 + self.weights[2] * grown)
