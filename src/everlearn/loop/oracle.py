"""The best that hindsight allows: from a matrix of losses to the cheapest sequence of updates.

``losses[v, c]`` is what version ``v``, trained as of grid point ``v``, loses in all on chunk ``c``, the
rows between grid points ``c`` and ``c + 1``; only ``v <= c`` is ever read. A policy starts with version
0, whose training everybody pays and nobody is charged for; every later update costs ``price``, in the
unit of the losses. With prefix sums the dynamic programme over the last update is that of optimal
partitioning (Jackson et al. 2005, "An algorithm for optimal partitioning of data on an interval",
section II): O(V²) time, O(V²) memory.

>>> import numpy as np
>>> losses = np.array([[1.0, 1, 9, 9], [0, 1, 8, 8], [0, 0, 2, 2], [0, 0, 0, 1]])
>>> best_sequence(losses, price=3.0)
Sequence(cost=9.0, updates=(2,))
>>> cost_of(losses, (), price=3.0), cost_of(losses, (1, 2, 3), price=3.0)
(20.0, 14.0)
>>> best_cadence(losses, price=3.0)
Cadence(every=2, cost=9.0, updates=1)
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import InvalidError
from everlearn.types import FloatArray

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Grid points at which to update (not counting point 0), and what it costs: losses and prices."""

    cost: float
    updates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cadence:
    """A fixed cadence in grid points (``None``: never), its cost, and how many updates it made."""

    every: int | None
    cost: float
    updates: int


def best_sequence(losses: FloatArray, price: float, *, latency: int = 0) -> Sequence:
    """The cheapest updates in hindsight.

    losses: (V, C) with V <= C, loss of version v on chunk c. price: of an update. latency: chunks from
    asking for a version to its first answer (it is trained as of the asking, and served so much later; a
    new one is asked for only once the last one serves). Ties go to fewer updates, then to earlier ones.

    Raises InvalidError for a matrix of another shape, or a price or latency below 0.
    """
    sums = _prefix_sums(losses, price, latency)
    versions, chunks = sums.shape[0], sums.shape[1] - 1
    # best[u]: least cost of all chunks before version u serves, if u is asked for at grid point u
    best = np.full(versions, np.inf)
    came, count = np.full(versions, -1), np.zeros(versions, dtype=np.int64)
    best[0] = 0.0
    for update in range(1, versions):
        serves = update + latency
        starts = _serving(np.arange(update), latency)
        usable = starts <= update
        if serves >= chunks or not usable.any():
            continue
        kept = best[:update] + sums[:update, serves] - sums[np.arange(update), starts] + price
        kept[~usable] = np.inf
        came[update] = _least(kept, count[:update])
        best[update], count[update] = kept[came[update]], count[came[update]] + 1
    every = np.arange(versions)
    ends = best + sums[:, chunks] - sums[every, np.minimum(_serving(every, latency), chunks)]
    last = _least(ends, count)
    return Sequence(float(ends[last]), _path(came, last))


def cost_of(losses: FloatArray, updates: Ordered[int], price: float, *, latency: int = 0) -> float:
    """What given updates (grid points, increasing, above 0) cost in all: losses and prices."""
    sums = _prefix_sums(losses, price, latency)
    chunks, total, version, start = sums.shape[1] - 1, 0.0, 0, 0
    for update in updates:
        end = min(update + latency, chunks)
        total += sums[version, end] - sums[version, start] + price
        version, start = update, end
    return float(total + sums[version, chunks] - sums[version, start])


def cadence(every: int | None, points: int) -> tuple[int, ...]:
    """The updates of a fixed cadence over so many grid points (versions); none for ``None``."""
    return () if every is None else tuple(range(every, points, every))


def best_cadence(losses: FloatArray, price: float, *, latency: int = 0) -> Cadence:
    """The cheapest fixed cadence in hindsight among never and every 1, 2, … grid points."""
    points = len(losses)
    tried: list[Cadence] = []
    for every in (None, *range(points - 1, latency, -1)):
        updates = cadence(every, points)
        tried.append(Cadence(every, cost_of(losses, updates, price, latency=latency), len(updates)))
    return min(tried, key=lambda one: one.cost)


def regret(cost: float, losses: FloatArray, price: float, *, latency: int = 0) -> float:
    """How much more a cost is than that of the best sequence; at least 0 for what was played on the grid."""
    return cost - best_sequence(losses, price, latency=latency).cost


def _serving(updates: Integers, latency: int) -> Integers:
    """The chunk from which a version serves: version 0 from the first."""
    return np.where(updates == 0, 0, updates + latency)


def _least(costs: FloatArray, count: Integers) -> int:
    """Where the cost is least; among equals the one with the fewest updates."""
    near = np.flatnonzero(costs <= costs.min() + 1e-9)
    return int(near[np.argmin(count[near])])


def _path(came: Integers, last: int) -> tuple[int, ...]:
    updates: list[int] = []
    while last > 0:
        updates.append(int(last))
        last = int(came[last])
    return tuple(reversed(updates))


def _prefix_sums(losses: FloatArray, price: float, latency: int) -> FloatArray:
    """(V, C + 1) sums of each version's losses up to each grid point."""
    matrix = np.asarray(losses, dtype=np.float64)
    if matrix.ndim != 2 or not 1 <= matrix.shape[0] <= matrix.shape[1]:
        shape = f"losses have the shape {matrix.shape}"
        raise InvalidError(f"{shape}: give (versions, chunks), no more versions than chunks")
    if price < 0 or latency < 0:
        raise InvalidError(f"price {price} and latency {latency} may not be below 0")
    usable = np.arange(matrix.shape[1])[None, :] >= np.arange(matrix.shape[0])[:, None]
    sums = np.cumsum(np.where(usable, matrix, 0.0), axis=1)
    return np.concatenate([np.zeros((len(matrix), 1)), sums], axis=1)
