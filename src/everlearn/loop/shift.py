"""Has a column moved? Two-sample tests of a window against its reference, each with its null.

A fixed threshold ("PSI > 0.1") says nothing: how large a statistic grows by chance depends on how many
rows and cells there are. Here each has a p-value from its own null at the rows at hand:

* chi² of homogeneity (Pearson 1900): a gamma distribution with the exact mean and variance of the
  statistic given the margins (Haldane 1940; Dawson 1954), good also where cells are sparse.
* Kolmogorov-Smirnov and PSI on the cells of an equi-depth sketch: simulated. The cuts are order
  statistics of the reference, so under the null the shares between them are Dirichlet, and the counts
  of a window Dirichlet-multinomial, whatever the distribution of the column (David & Nagaraja 2003,
  section 2.5). That counts the sampling error of the reference and of the window alike.

Rows that depend on their neighbours tell less than as many independent ones. ``spread`` is how many
times less (the design effect; Rao & Scott 1981): counts are divided by it.

>>> same = ks_test([0.0, 500.0, 500.0], [0.0, 55.0, 45.0])
>>> same.p_value > 0.2, ks_test([0.0, 500.0, 500.0], [0.0, 80.0, 20.0]).p_value < 1e-6
(True, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

IntArray = NDArray[np.int64]

DRAWS = {"ks": 4000, "psi": 16_000}
"""Simulated windows of a null; a p-value under a fiftieth follows from the shape of the tail."""

GROUPS = 10
"""Most groups of cells that PSI compares."""

EXPECTED = 5.0
"""Rows that a group of cells must expect in a window (Cochran 1954)."""

EVEN_CELLS, EVEN_RATIO = 8, 2.5
"""So many cells, none larger than so many times the smallest, are taken as equal when a null is made."""

_LEVELS = np.array([0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.05, 0.03, 0.02])


@dataclass(frozen=True, slots=True)
class Shift:
    """A test's statistic, and how probable one at least as great is if nothing has moved."""

    statistic: float
    p_value: float


def ks_test(reference: Sequence[float], window: Sequence[float], spread: float = 1.0, seed: int = 0) -> Shift:
    """Kolmogorov-Smirnov over ordered cells: the greatest gap between the two cumulative shares.

    ``reference`` and ``window`` are counts (c,) of the same cells; the reference's ends of cells are
    values of its own rows, or the column has few values.
    """
    ready, seen = _ready(reference, window, spread, seed)
    if ready is None:
        return Shift(0.0, 1.0)
    gap = float(_gaps(ready.held, seen[None, :])[0])
    return Shift(gap, ready.ks.p_value(gap * gap))


def psi_test(
    reference: Sequence[float], window: Sequence[float], spread: float = 1.0, seed: int = 0
) -> Shift:
    """The population stability index over groups of ordered cells; the statistic is :func:`psi`."""
    size = psi(reference, window)
    ready, seen = _ready(reference, window, spread, seed)
    if ready is None:
        return Shift(size, 1.0)
    return Shift(size, ready.psi.p_value(ready.index(seen)))


def chi2_test(
    reference: Sequence[float], window: Sequence[float], spread: float = 1.0, floor: float = 0.0
) -> Shift:
    """Chi² of homogeneity over cells without order, the last one of all that has no cell of its own.

    Cells that are rare in both sides together join it.

    ``floor`` is the greatest count that the reference did not list by name. Cells are chosen by their
    counts in both sides, well above the floor: chosen by the reference's alone, the frequent ones would
    seem to have become rarer (regression to the mean).
    """
    cells = np.array([reference, window], dtype=np.float64) / max(spread, 1.0)
    if cells.sum(axis=1).min() < 2.0:
        return Shift(0.0, 1.0)
    place = np.unique(_rare_groups(cells, floor / max(spread, 1.0)), return_inverse=True)[1]
    table = np.stack([np.bincount(place, weights=side).astype(np.float64) for side in cells])
    table = table[:, table.sum(axis=0) > 0.0]
    if table.shape[1] < 2:
        return Shift(0.0, 1.0)
    statistic = homogeneity(table)
    mean, variance = _moments(table)
    return Shift(statistic, _gamma_tail(statistic, mean, variance))


def psi(reference: Sequence[float], window: Sequence[float]) -> float:
    """The population stability index over at most ten groups of cells, half a row added to each.

    The sum of (p - q) ln(p / q): an effect size, that grows by chance as rows get fewer.
    """
    ready, seen = _ready(reference, window, 1.0, 0)
    return 0.0 if ready is None else ready.index(seen)


def benjamini_hochberg(p_values: Sequence[float], q: float) -> list[bool]:
    """Which hypotheses to reject so that at most a share ``q`` of the rejected are true, on average.

    Benjamini & Hochberg 1995. If none is false, any is rejected with a probability of at most ``q``.

    >>> benjamini_hochberg([0.001, 0.04, 0.03, 0.9], q=0.05)
    [True, False, False, False]
    """
    adjusted = adjusted_p_values(p_values)
    return [value <= q for value in adjusted]


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """For each p-value the least ``q`` at which :func:`benjamini_hochberg` rejects it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    least = 1.0
    for rank in range(len(order), 0, -1):
        least = min(least, p_values[order[rank - 1]] * len(order) / rank)
        adjusted[order[rank - 1]] = least
    return adjusted


def homogeneity(table: FloatArray) -> float:
    """Pearson's statistic of a table (2, c) of counts without empty columns."""
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    expected = rows * columns / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


class _Reference:
    """A reference made ready for windows of so many rows: effective counts, groups and nulls, when asked."""

    def __init__(self, held: FloatArray, rows: int, seed: int) -> None:
        self.held, self._rows, self._seed = held, rows, seed
        self._group = np.unique(_ordered_groups(held, rows), return_inverse=True)[1]
        self._together = np.bincount(self._group, weights=held).astype(np.float64)

    def index(self, window: FloatArray) -> float:
        """The stability index of a window (c,)."""
        seen = np.bincount(self._group, weights=window).astype(np.float64)
        return float(_psi(self._together, seen[None, :])[0])

    @cached_property
    def ks(self) -> _Null:
        """The null of the squared gap."""
        return _null("ks", _even(self.held), self._rows, self._seed)

    @cached_property
    def psi(self) -> _Null:
        """The null of the stability index."""
        return _null("psi", _even(self._together), self._rows, self._seed)


def _ready(
    reference: Sequence[float], window: Sequence[float], spread: float, seed: int
) -> tuple[_Reference | None, FloatArray]:
    """The reference made ready (``None``: there is nothing to compare), and the window's effective counts."""
    seen = np.array(window, dtype=np.float64) / max(spread, 1.0)
    rows = round(float(seen.sum()))
    return _prepared(tuple(reference), max(spread, 1.0), rows, seed), seen


@lru_cache(maxsize=512)
def _prepared(reference: tuple[float, ...], spread: float, rows: int, seed: int) -> _Reference | None:
    held = np.array(reference, dtype=np.float64) / spread
    return None if rows < 2 or held.sum() < 2.0 or len(held) < 2 else _Reference(held, rows, seed)


@dataclass(frozen=True, slots=True)
class _Null:
    """How great a statistic grows under the null: its values at :data:`_LEVELS`, beyond them ``tail``."""

    values: FloatArray
    tail: Callable[[float], float]

    def p_value(self, statistic: float) -> float:
        """The probability of a statistic at least as great."""
        if statistic > self.values[-1]:
            return min(self.tail(statistic), float(_LEVELS[-1]))
        known = np.concatenate([[0.0], self.values])
        return float(math.exp(np.interp(statistic, known, np.log(np.concatenate([[1.0], _LEVELS])))))


def _even(held: FloatArray) -> tuple[float, ...]:
    """The counts, or the same with equal cells where they nearly are, so that such columns share a null.

    The null of a shift over many cells hardly depends on how equal they are.
    """
    inner = held[held > 0.0]
    if len(inner) < EVEN_CELLS or inner.max() > EVEN_RATIO * inner.min():
        return tuple(held.tolist())
    return tuple(np.where(held > 0.0, round(float(inner.mean()), 6), 0.0).tolist())


@lru_cache(maxsize=512)
def _null(kind: str, reference: tuple[float, ...], rows: int, seed: int) -> _Null:
    """The null of a statistic by simulation; the same arguments give the same null."""
    held = np.array(reference)
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.maximum(held, 0.5), size=DRAWS[kind])
    windows = rng.multinomial(rows, shares).astype(np.float64)
    # One standard error of the simulation to the safe side, so that it does not add false alarms.
    safe = 1.0 - _LEVELS + np.sqrt(_LEVELS * (1.0 - _LEVELS) / DRAWS[kind])
    if kind == "ks":
        values = np.quantile(_gaps(held, windows) ** 2, safe, method="higher")
        return _Null(values, _ks_tail(values, held, rows))
    sizes = _psi(held, windows)
    mean, variance = float(sizes.mean()), float(sizes.var(ddof=1))
    values = np.quantile(sizes, safe, method="higher")
    return _Null(values, _joined(values, lambda size: _gamma_tail(size, mean, variance)))


def _ks_tail(values: FloatArray, held: FloatArray, rows: int) -> Callable[[float], float]:
    """The tail of a Gaussian bridge: log p falls by the square over twice its greatest variance."""
    total = held.sum()
    share = np.cumsum(held)[:-1] / total
    variance = float(np.max(share * (1.0 - share))) * (1.0 / rows + 1.0 / total)
    start, level = float(values[-1]), float(_LEVELS[-1])
    return lambda square: level * math.exp(-(square - start) / (2.0 * max(variance, 1e-12)))


def _joined(values: FloatArray, tail: Callable[[float], float]) -> Callable[[float], float]:
    """A tail that starts at the last simulated level."""
    scale = float(_LEVELS[-1]) / max(tail(float(values[-1])), 1e-12)
    return lambda statistic: scale * tail(statistic)


def _gaps(reference: FloatArray, windows: FloatArray) -> FloatArray:
    """The greatest gap between cumulative shares for each of windows (r, c); (r,)."""
    held = np.cumsum(reference) / reference.sum()
    seen = np.cumsum(windows, axis=1) / windows.sum(axis=1, keepdims=True)
    gaps: FloatArray = np.abs(seen - held)[:, :-1].max(axis=1)
    return gaps


def _psi(reference: FloatArray, windows: FloatArray) -> FloatArray:
    """The population stability index for each of windows (r, c), half a row added to each cell; (r,)."""
    p = (reference + 0.5) / (reference + 0.5).sum()
    q = (windows + 0.5) / (windows + 0.5).sum(axis=1, keepdims=True)
    sizes: FloatArray = ((p - q) * np.log(p / q)).sum(axis=1)
    return sizes


def _ordered_groups(reference: FloatArray, rows: float) -> IntArray:
    """The group of each cell: neighbours together, at most ten, each expecting enough rows; (c,)."""
    groups = int(np.clip(rows / EXPECTED / 2.0, 2, GROUPS))
    middle = np.cumsum(reference) - reference / 2.0
    return np.asarray(np.minimum(middle / reference.sum() * groups, groups - 1), dtype=np.int64)


def _rare_groups(cells: FloatArray, floor: float) -> IntArray:
    """The group of each cell of (2, c): rare ones, and the last one of what has no name, are one; (c,)."""
    held, seen = cells.sum(axis=1).tolist()
    unnamed = (floor + 3.0 * math.sqrt(floor)) * (1.0 + seen / held)  # what a name left out may come to
    rare = cells.sum(axis=0) < max(EXPECTED * (held + seen) / min(held, seen), unnamed)
    rare[-1] = True
    return np.asarray(np.where(rare, 0, np.arange(1, cells.shape[1] + 1)))


def _moments(table: FloatArray) -> tuple[float, float]:
    """Mean and variance of Pearson's statistic given both margins (Dawson 1954, equation 3)."""
    total = float(table.sum())
    if total <= 4.0:
        return float(table.shape[1] - 1), 2.0 * (table.shape[1] - 1)
    v = [(size - 1) * (total - size) / (total - 1) for size in table.shape]
    sums = [float((total / table.sum(axis=axis)).sum()) for axis in (1, 0)]
    w = [(inverse - size**2) / (total - 2) for inverse, size in zip(sums, table.shape, strict=True)]
    mean = total * (table.shape[0] - 1) * (table.shape[1] - 1) / (total - 1)
    variance = 2 * total / (total - 3) * (v[0] - w[0]) * (v[1] - w[1]) + total**2 / (total - 1) * w[0] * w[1]
    return mean, max(variance, 1e-9)


def _gamma_tail(statistic: float, mean: float, variance: float) -> float:
    """The upper tail of the gamma distribution with this mean and variance."""
    from scipy.special import gammaincc

    if variance <= 0.0:  # one cell holds all: the statistic can take no other value
        return float(statistic <= mean)
    return float(gammaincc(mean * mean / variance, max(statistic, 0.0) * mean / variance))
