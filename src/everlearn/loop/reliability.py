"""Whether confidence can be trusted: calibration error, beside what chance alone would make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def ece(confidences: Sequence[float], rights: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: the mean distance of accuracy from confidence, over bins of equal width.

    Naeini, Cooper & Hauskrecht (2015); Guo et al. (2017), equation 3. 0 for no rows.

    >>> round(ece([0.9] * 10, [True] * 6 + [False] * 4), 3)
    0.3
    """
    gaps: list[list[float]] = [[] for _ in range(bins)]
    for confidence, right in zip(confidences, rights, strict=True):
        gaps[_bin(confidence, bins)].append(right - confidence)
    return math.fsum(abs(math.fsum(gap)) for gap in gaps) / max(1, len(confidences))


def ece_noise(confidences: Sequence[float], bins: int = BINS) -> tuple[float, float]:
    """The mean and standard deviation of the ECE of a perfectly calibrated model with these confidences.

    In a bin the rights less the confidences are then a sum of independent terms of mean 0 and variance
    v = sum c(1 - c): about normal, so its distance from 0 has the mean sqrt(2v/pi) and the variance
    v(1 - 2/pi). Where hardly an error is expected it is Poisson instead, with a mean distance of 2v
    and a variance of v - 4v². (The ECE is biased upwards by this much: Bröcker 2012, Roelofs et al. 2022.)
    """
    variances = [0.0] * bins
    for confidence in confidences:
        variances[_bin(confidence, bins)] += confidence * (1 - confidence)
    means = [min(math.sqrt(2 * v / math.pi), 2 * v) for v in variances]
    spread = math.fsum(max(0.0, v - m * m) for v, m in zip(variances, means, strict=True))
    n = max(1, len(confidences))
    return math.fsum(means) / n, math.sqrt(spread) / n


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


def _bin(confidence: float, bins: int) -> int:
    return min(bins - 1, int(confidence * bins))
