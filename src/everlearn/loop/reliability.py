"""Whether confidence can be trusted: calibration error, beside what chance alone would make of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from everlearn.loop.scored import Scored

BINS = 10


@dataclass(frozen=True, slots=True)
class Reliability:
    """How calibrated some answers were.

    ``ece`` is to be read beside ``expected``, the error that a perfectly calibrated model of the same
    confidences shows on so few rows, and ``spread``, the standard deviation of that.
    """

    rows: int
    ece: float
    expected: float
    spread: float
    brier: float

    @property
    def excess(self) -> float:
        """The calibration error beyond what chance explains; at least 0."""
        return max(0.0, self.ece - self.expected)


class Bins:
    """Answers in bins of their confidence, summed as they come: what calibration errors are made from."""

    __slots__ = ("_gaps", "_variances", "rows")

    def __init__(self, bins: int = BINS) -> None:
        self.rows = 0
        self._gaps, self._variances = [0.0] * bins, [0.0] * bins

    def add_all(self, answers: Iterable[tuple[float, bool]]) -> None:
        """Take in answers: the probability that was given to each, and whether it was right."""
        gaps, variances, bins = self._gaps, self._variances, len(self._gaps)
        for confidence, right in answers:
            place = int(confidence * bins)
            if place >= bins:
                place = bins - 1
            self.rows += 1
            gaps[place] += right - confidence
            variances[place] += confidence * (1 - confidence)

    def ece(self) -> float:
        """See :func:`ece`."""
        return math.fsum(map(abs, self._gaps)) / max(1, self.rows)

    def noise(self) -> tuple[float, float]:
        """See :func:`ece_noise`."""
        # What rounding has left under 0 is nothing.
        variances = [max(0.0, v) for v in self._variances]
        means = [min(math.sqrt(2 * v / math.pi), 2 * v) for v in variances]
        spread = math.fsum(max(0.0, v - m * m) for v, m in zip(variances, means, strict=True))
        n = max(1, self.rows)
        return math.fsum(means) / n, math.sqrt(spread) / n


def ece(confidences: Sequence[float], rights: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: the mean distance of accuracy from confidence, over bins of equal width.

    Naeini, Cooper & Hauskrecht (2015); Guo et al. (2017), equation 3. 0 for no rows.

    >>> round(ece([0.9] * 10, [True] * 6 + [False] * 4), 3)
    0.3
    """
    return _binned(confidences, rights, bins).ece()


def ece_noise(confidences: Sequence[float], bins: int = BINS) -> tuple[float, float]:
    """The mean and standard deviation of the ECE of a perfectly calibrated model with these confidences.

    In a bin the rights less the confidences are then a sum of independent terms of mean 0 and variance
    v = sum c(1 - c): about normal, so its distance from 0 has the mean sqrt(2v/pi) and the variance
    v(1 - 2/pi). Where hardly an error is expected it is Poisson instead, with a mean distance of 2v
    and a variance of v - 4v². (The ECE is biased upwards by this much: Bröcker 2012, Roelofs et al. 2022.)
    """
    return _binned(confidences, [False] * len(confidences), bins).noise()


def _binned(confidences: Sequence[float], rights: Sequence[bool], bins: int) -> Bins:
    binned = Bins(bins)
    binned.add_all(zip(confidences, rights, strict=True))
    return binned


def brier(confidences: Sequence[float], rights: Sequence[bool]) -> float:
    """Mean squared distance of confidence from what came true (Brier 1950); 0 for no rows.

    Of two classes it does not matter whose probability is taken.
    """
    squares = [(c - right) ** 2 for c, right in zip(confidences, rights, strict=True)]
    return math.fsum(squares) / max(1, len(squares))


def reliability(rows: Sequence[Scored], bins: int = BINS) -> Reliability | None:
    """How calibrated the answers to some rows were; ``None`` if none of them had a probability."""
    found = [(s.confidence, s.value == s.truth) for s in rows if s.confidence is not None]
    if not found:
        return None
    confidences = [min(1.0, max(0.0, confidence)) for confidence, _ in found]
    rights = [right for _, right in found]
    expected, spread = ece_noise(confidences, bins)
    error = ece(confidences, rights, bins)
    return Reliability(len(found), error, expected, spread, brier(confidences, rights))
