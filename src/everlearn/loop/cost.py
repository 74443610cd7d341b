"""What staying with a version as it is costs: how much more it loses a row than a fresh one would.

This excess is not seen: no fresh version exists before the update. It is a regression on three features,
with prior beliefs that every update corrects, since the old version is scored beside the new one on the
same rows (its reverse shadow):

- *age*: base loss x thousands of rows since the version was trained;
- *rise*: how far the loss of matured rows is over what the version began with, or what versions before it
  did if that was less, shrunk by its noise, and only as much of it as labels of the new concept allow to
  be learned;
- *growth*: base loss x the share that more examples remove, 1 - (known then / known now)^e, a power
  law (Hestness et al. 2017), counted from the last rise that an update answered.

Labels come late: rows that still wait for theirs are reckoned at the newest rise. What this excess is held
against is in :mod:`everlearn.loop.forecast`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Settings:
    """What is believed before anything was seen; tuned on made streams and prefixes, the same for all.

    beliefs: means and standard deviations of the weights of age, rise and growth. horizon: how long an
    update will be of use, as a share of the rows that there have been. paid: share of the price that staying
    must have cost. start, recent, pairs: rows that the first and the newest loss of a champion, and the
    comparison with the one before it, are taken from. exponent: of the learning curve. shrink: of a rise, in
    its variances. doubt: standard deviation, a row, of what the regression cannot explain. settle: labels of
    a new concept that halve what a rise costs. restart: share of the base loss by which a rise begins a new
    concept. explore: share of the losses that may be spent on an update whose gain is not known.
    """

    beliefs: tuple[tuple[float, float], ...] = ((0.01, 0.05), (0.5, 0.3), (0.4, 0.2))
    horizon: float = 0.35
    paid: float = 0.6
    start: int = 250
    recent: int = 500
    pairs: int = 1000
    exponent: float = 0.25
    shrink: float = 2.0
    doubt: float = 0.01
    settle: float = 200.0
    restart: float = 0.5
    explore: float = 0.02


DEFAULT = Settings()
SIZE = 3
FEWEST_PAIRS = 100
LEAST_LOSS = 0.005
"""The base loss is not taken to be under this: there is no such thing as a version that never errs."""


class CostState(msgspec.Struct):
    """What is remembered of the champion's losses and of what earlier updates brought: a few dozen numbers.

    ``at``, ``known`` are the row and the labels known as of which the champion was trained, ``origin`` the
    labels known before its concept began; ``first`` and ``total`` sum losses of its first and of all its
    matured rows; ``level`` is a moving mean of the newest, ``base`` of what champions begin with.
    ``pair_*`` sum old minus new loss since the last update, whose features stand in ``asked``.
    ``precision`` (3 x 3, by rows) and ``weighted`` (3) are what updates have added to the prior beliefs.
    """

    at: int = 0
    known: int = 0
    origin: int = 0
    rows: int = 0
    first_rows: int = 0
    first: float = 0.0
    total: float = 0.0
    level: float = 0.0
    base: float = 0.0
    pair_rows: int = 0
    pair_sum: float = 0.0
    pair_squares: float = 0.0
    asked: list[float] = []
    precision: list[float] = msgspec.field(default_factory=lambda: [0.0] * SIZE**2)
    weighted: list[float] = msgspec.field(default_factory=lambda: [0.0] * SIZE)

    def saw(self, loss: float, settings: Settings = DEFAULT) -> None:
        """A row of the champion has matured: its loss."""
        self.rows += 1
        self.total += loss
        if self.first_rows < settings.start:
            self.first_rows += 1
            self.first += loss
        self.level += (loss - self.level) / min(self.rows, settings.recent)

    def compared(self, previous: float, loss: float, settings: Settings = DEFAULT) -> None:
        """A row was answered by the champion and by the version that it replaced: the loss of each."""
        if self.pair_rows < settings.pairs:
            gain = previous - loss
            self.pair_rows += 1
            self.pair_sum += gain
            self.pair_squares += gain * gain

    def updated(
        self, row: int, known: int, capacity: int | None = None, settings: Settings = DEFAULT
    ) -> None:
        """Another version was trained as of a row, from the labels known by then, and answers from now on."""
        if self.known and self.rows:  # else what answered before had learned nothing, or answered nothing
            self._ended(features(self, row, known, capacity, settings), known, settings)
        else:
            self.asked = []
        self._restart()
        self.at, self.known = row, known

    def _ended(self, seen: Features, known: int, settings: Settings) -> None:
        """What is kept of a champion's reign."""
        if seen.since is not None and seen.now[1] > settings.restart * max(self.base, LEAST_LOSS):
            self.origin = max(self.origin, known - seen.since)
        self.precision, self.weighted = self._with_pairs(settings) or (self.precision, self.weighted)
        self.asked = list(seen.now)
        start = self.first / self.first_rows
        self.base = start if self.base == 0.0 else (self.base + start) / 2

    def _restart(self) -> None:
        self.rows = self.first_rows = self.pair_rows = 0
        self.first = self.total = self.level = self.pair_sum = self.pair_squares = 0.0

    def _with_pairs(self, settings: Settings) -> tuple[list[float], list[float]] | None:
        """The beliefs with what the pairs since the last update add; ``None`` if they are too few."""
        if not self.asked or self.pair_rows < FEWEST_PAIRS:
            return None
        n, f = self.pair_rows, self.asked
        mean = self.pair_sum / n
        spread = max(self.pair_squares / n - mean * mean, 1.0 / n)
        weight = 1.0 / (spread / n + settings.doubt**2)
        outer = [weight * a * b for a in f for b in f]
        precision = [old + new for old, new in zip(self.precision, outer, strict=True)]
        return precision, [old + weight * a * mean for old, a in zip(self.weighted, f, strict=True)]

    def beliefs(self, settings: Settings = DEFAULT) -> list[float]:
        """The posterior mean (3,) of the weights of the features (conjugate normal)."""
        precision, weighted = self._with_pairs(settings) or (self.precision, self.weighted)
        matrix = [precision[SIZE * i : SIZE * (i + 1)] for i in range(SIZE)]
        shift = list(weighted)
        for i, (mean, spread) in enumerate(settings.beliefs):
            matrix[i][i] += 1.0 / spread**2
            shift[i] += mean / spread**2
        return [dot(line, shift) for line in _inverse(matrix)]


@dataclass(frozen=True, slots=True)
class Features:
    """Age, rise and growth as of now, and summed over the rows since the champion was trained.

    ``since`` is how many matured rows ago the loss has risen; ``None`` if it has not.
    """

    now: tuple[float, float, float]
    sums: tuple[float, float, float]
    since: int | None


def features(
    state: CostState, row: int, known: int, capacity: int | None, settings: Settings = DEFAULT
) -> Features:
    """The features as of a row, with so many labels known. capacity: rows that the learner keeps at most."""
    age, base = max(0, row - state.at), base_of(state, settings)
    rise, risen = _rise(state, age, settings)
    since = round(min(risen / rise, state.rows)) if rise > 0.0 else None
    able = 1.0 if since is None else since / (since + settings.settle)
    then, now = state.known - state.origin, known - state.origin
    grows, grown = growth(then, now, age, capacity, settings.exponent)
    return Features(
        (base * age / 1000.0, rise * able, base * grows),
        (base * age * age / 2000.0, risen * able, base * grown),
        since,
    )


def base_of(state: CostState, settings: Settings) -> float:
    """What the champion began with, the more so the more of its rows have matured."""
    own = min(1.0, state.first_rows / settings.start) if state.base else 1.0
    start = state.first / state.first_rows if state.first_rows else 0.0
    return max((1.0 - own) * state.base + own * start, LEAST_LOSS)


def _rise(state: CostState, age: int, settings: Settings) -> tuple[float, float]:
    """How far the loss has risen, and summed over the reign; each shrunk towards 0 by its noise.

    A version that began worse than those before it has risen from what they began with.
    """
    later = state.rows - state.first_rows
    if later <= 0:
        return 0.0, 0.0
    start, middle = state.first / state.first_rows, state.total / state.rows
    variance = max(middle * (1.0 - middle), 1.0 / state.rows)
    newest = min(later, settings.recent / 2)
    total = state.total - state.first - start * later
    if 0.0 < state.base < start:
        start, later, total = state.base, state.rows, state.total - state.base * state.rows
    rise = _shrunk(state.level - start, variance * (1 / state.first_rows + 1 / newest), settings.shrink)
    risen = _shrunk(total, variance * (later + later * later / state.first_rows), settings.shrink)
    return rise, risen + rise * max(0, age - state.rows)


def _shrunk(value: float, variance: float, strength: float) -> float:
    """Positive-part James-Stein towards 0; a fall is no evidence of anything."""
    return value * max(0.0, 1.0 - strength * variance / (value * value)) if value > 0.0 else 0.0


def growth(then: int, now: int, age: int, capacity: int | None, exponent: float) -> tuple[float, float]:
    """The share of the loss that more examples remove, and summed over the reign (by trapezoids)."""
    most = math.inf if capacity is None else float(capacity)
    if then <= 0 or now <= then or then >= most:
        return 0.0, 0.0
    shares = [1.0 - (min(then, most) / min(then + (now - then) * k / 4, most)) ** exponent for k in range(5)]
    return shares[4], age * (sum(shares) - shares[4] / 2) / 4


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    """The sum of the products."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """The inverse of a symmetric positive definite 3 x 3 matrix, by cofactors."""
    (a, b, c), (_, d, e), (_, _, f) = matrix
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    D, E, F = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * A + b * B + c * C
    return [[x / determinant for x in line] for line in ((A, B, C), (B, D, E), (C, E, F))]
