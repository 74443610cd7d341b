"""Anytime-valid evidence: which of two versions loses less, from their losses on the same rows.

Every e-value here is at most 1 in expectation while its null hypothesis holds, at any time at which one
cares to look, so P(it ever reaches 1/alpha) ≤ alpha (Ville's inequality). Logarithms are returned, since
the values themselves overflow. Gains are old loss − new loss, in [-1, 1]: positive is better.

For 0/1 losses: a beta-binomial mixture on the discordant rows (Robbins 1970; Howard et al. 2021,
arXiv:1810.08240, proposition 7), which is McNemar's test made anytime-valid; and, for a null gain other
than 0, a mixture of bets (Waudby-Smith & Ramdas 2024, arXiv:2010.09686). For other losses in [0, 1]: the
empirical Bernstein mixture (Howard et al. 2021, theorem 4; Choe & Ramdas, arXiv:2110.00115).

>>> seen = Evidence(binary=True)
>>> seen.take(np.array([1.0] * 40 + [0.0] * 60), np.array([0.0] * 40 + [1.0] * 10 + [0.0] * 50))
>>> seen.wins, seen.losses, log_better(seen) > math.log(1 / 0.05)
(40, 10, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from everlearn.types import FloatArray

PRIOR = ((0.9, 220.0, 180.0), (0.1, 2.0, 2.0))
"""(weight, a, b): betas on p, the candidate's share of the discordant rows, truncated to p > 1/2.

The first puts its weight where one gain in ten discordant rows is at stake (p = 0.55), and decides what
a few thousand labels can; the second finds great differences within a dozen discordant rows. Any prior is
valid. The truncation makes it evidence for *better* only, at half the price.
"""

GREAT = ((0.1, 220.0, 180.0), (0.3, 12.0, 8.0), (0.6, 5.0, 1.5))
"""For versions of which one is made for another world: a great difference is found in half as many rows."""

FRACTIONS: FloatArray = np.geomspace(0.06, 0.96, 9)
"""Stakes of the bets and tilts λ of the Bernstein mixture, in units of 1 / (width of the range)."""

LEAST, MOST = -700.0, 700.0
"""Limits of the logarithms: what is beyond them is of no use, and infinities are no JSON."""

SMALLEST = 1e-250
"""Mass above 1/2 that counts. Below it double precision loses digits, and sometimes all of it (down from
3e-255, seen with SciPy 1.17); nothing is shown there anyway."""

POINTS = 65
ROUNDS = 3


def share(alpha: float, attempt: int) -> float:
    """The part of ``alpha`` that the candidate number ``attempt`` = 1, 2, … may use: 6α/(π²k²).

    The parts of all attempts sum to ``alpha``.
    """
    return 6.0 * alpha / (math.pi * attempt) ** 2


class Moments(msgspec.Struct):
    """Count, sum, and sum of squared deviations from the mean *so far* (0 before the first value).

    The deviations look back only, as the Bernstein mixture asks. So any stretch of a stream has evidence
    of its own by subtraction, and stretches can be pooled by addition.
    """

    rows: int = 0
    total: float = 0.0
    spread: float = 0.0

    @property
    def mean(self) -> float:
        """The mean, 0 for nothing."""
        return self.total / self.rows if self.rows else 0.0

    def take(self, values: FloatArray) -> None:
        """Take in values (n,); bit for bit the same in one batch or in many."""
        if not len(values):
            return
        totals = np.cumsum(np.concatenate(((self.total,), values)))
        before = totals[:-1] / np.maximum(np.arange(self.rows, self.rows + len(values)), 1)
        spreads = np.concatenate(((self.spread,), (values - before) ** 2))
        self.rows += len(values)
        self.total, self.spread = float(totals[-1]), float(np.cumsum(spreads)[-1])

    def add(self, values: FloatArray) -> None:
        """Take in values of which no deviations are needed."""
        self.rows += len(values)
        self.total += float(values.sum())

    def since(self, mark: Moments) -> Moments:
        """What came after an earlier copy."""
        return Moments(self.rows - mark.rows, self.total - mark.total, self.spread - mark.spread)


class Evidence(msgspec.Struct):
    """Losses of two versions on the same rows. ``wins``: rows on which the new one loses less.

    ``binary`` losses are 0 or 1, and their counts say everything: no deviations are kept. ``great``: a great
    difference is expected (:data:`GREAT`).
    """

    binary: bool = True
    wins: int = 0
    losses: int = 0
    gain: Moments = msgspec.field(default_factory=Moments)
    old: Moments = msgspec.field(default_factory=Moments)
    new: Moments = msgspec.field(default_factory=Moments)
    great: bool = False

    @property
    def rows(self) -> int:
        """How many rows both have answered."""
        return self.gain.rows

    def take(self, old: FloatArray, new: FloatArray) -> None:
        """Take in losses (n,) in [0, 1] of the old and the new version."""
        gain = old - new
        self.wins += int(np.count_nonzero(gain > 0))
        self.losses += int(np.count_nonzero(gain < 0))
        for moments, values in ((self.gain, gain), (self.old, old), (self.new, new)):
            (moments.add if self.binary else moments.take)(values)

    def since(self, mark: Evidence) -> Evidence:
        """What came after an earlier copy."""
        gain, old, new = (getattr(self, name).since(getattr(mark, name)) for name in ("gain", "old", "new"))
        wins, losses = self.wins - mark.wins, self.losses - mark.losses
        return Evidence(self.binary, wins, losses, gain, old, new, self.great)

    def copy(self) -> Evidence:
        """A copy that later rows do not change."""
        return self.since(Evidence(self.binary))

    def swapped(self) -> Evidence:
        """The same rows with the roles exchanged."""
        gain = Moments(self.gain.rows, -self.gain.total, self.gain.spread)
        return Evidence(self.binary, self.losses, self.wins, gain, self.new, self.old, self.great)


def pooled(parts: Sequence[Evidence], binary: bool) -> Evidence:
    """Several stretches as one: each keeps its own means so far, which is as valid."""

    def moments(name: str) -> Moments:
        each = [getattr(part, name) for part in parts]
        return Moments(*(sum(getattr(m, of) for m in each) for of in ("rows", "total", "spread")))

    wins, losses = sum(part.wins for part in parts), sum(part.losses for part in parts)
    return Evidence(binary, wins, losses, moments("gain"), moments("old"), moments("new"))


def _log_mean(logs: FloatArray, weights: ArrayLike) -> FloatArray:
    """log of the weighted sum of exp(logs) along the last axis, within the limits."""
    top = logs.max(axis=-1, keepdims=True)
    whole = np.log((np.exp(logs - top) * weights).sum(axis=-1)) + top[..., 0]
    return np.asarray(np.clip(whole, LEAST, MOST))


def log_mcnemar(
    wins: ArrayLike, losses: ArrayLike, prior: Sequence[tuple[float, float, float]] = PRIOR
) -> FloatArray:
    """Log e-values of "a discordant row is more likely lost than won" from counts (…); order is no matter.

    The likelihood ratio of p to 1/2, mixed over betas truncated to p > 1/2. Under any p ≤ 1/2, constant
    or not, no factor of it exceeds 1 in expectation.
    """
    from scipy.special import betainc, betaln

    w, x = np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    whole: Any = -math.inf
    with np.errstate(divide="ignore"):
        for a, b, scale in _scaled(tuple(prior)):
            kept = betainc(x + b, w + a, 0.5)
            kept = np.log(np.where(kept >= SMALLEST, kept, 0.0))
            whole = np.logaddexp(whole, betaln(w + a, x + b) + kept + scale)
    return np.asarray(np.clip(whole + (w + x) * math.log(2.0), LEAST, MOST))


@lru_cache(maxsize=16_384)
def log_discordant(wins: int, losses: int, great: bool = False) -> float:
    """:func:`log_mcnemar` of one pair of counts, which is looked at again and again between two rows.

    >>> math.isclose(log_discordant(40, 10), float(log_mcnemar(40, 10)), rel_tol=1e-12)
    True
    """
    from scipy.special import betainc, betaln

    logs = []
    for a, b, scale in _scaled(GREAT if great else PRIOR):
        kept = float(betainc(losses + b, wins + a, 0.5))
        if kept >= SMALLEST:
            logs.append(float(betaln(wins + a, losses + b)) + math.log(kept) + scale)
    if not logs:
        return LEAST
    top = max(logs)
    whole = top + math.log(math.fsum(math.exp(value - top) for value in logs))
    return float(min(max(whole + (wins + losses) * math.log(2.0), LEAST), MOST))


@lru_cache(maxsize=16)
def _scaled(prior: tuple[tuple[float, float, float], ...]) -> list[tuple[float, float, float]]:
    """Every beta with the logarithm of its weight over its mass above 1/2."""
    from scipy.special import betainc, betaln

    return [(a, b, math.log(weight / betainc(b, a, 0.5)) - betaln(a, b)) for weight, a, b in prior]


def log_bets(wins: ArrayLike, losses: ArrayLike, ties: ArrayLike, null: ArrayLike = 0.0) -> FloatArray:
    """Log e-values of "the mean gain is ``null`` or less" from counts of the gains 1, -1 and 0.

    The mean, over fixed stakes λ, of the wealth Π(1 + λ(gain − null)); sharper than Bernstein where the
    gains are 0 or ±1. ``null`` in (-1, 1).
    """
    stakes = FRACTIONS / 2.0
    m = np.asarray(null, dtype=np.float64)[..., None]
    parts = ((wins, 1.0 - m), (losses, -1.0 - m), (ties, -m))
    logs = sum(np.asarray(count)[..., None] * np.log1p(stakes * value) for count, value in parts)
    return _log_mean(np.asarray(logs), 1.0 / len(stakes))


def log_bernstein(
    rows: ArrayLike, total: ArrayLike, spread: ArrayLike, null: ArrayLike = 0.0, width: float = 2.0
) -> FloatArray:
    """Log e-values of "the mean is ``null`` or less" for values in a range of ``width``.

    The mean over λ of exp(λS − ψ(λ)V), S the sum of value − null, V = ``spread``, and
    ψ(λ) = (−log(1 − wλ) − wλ)/w²: for gains (w = 2), (−log(1 − 2λ) − 2λ)/4. Under the null that the mean
    of the conditional means so far is ``null`` or less it is an e-process: regimes may alternate.
    """
    psi = -np.log1p(-FRACTIONS) - FRACTIONS
    scaled = (np.asarray(total) - np.asarray(rows) * np.asarray(null)) / width
    logs = scaled[..., None] * FRACTIONS - (np.asarray(spread) / width**2)[..., None] * psi
    return _log_mean(logs, 1.0 / len(psi))


def log_both(evidence: Evidence, null: float = 0.0) -> tuple[float, float]:
    """Log e-values that the mean gain is more than ``null`` (better), and that it is less (worse).

    The first refutes "it is ``null`` or less", the second "it is ``null`` or more".
    """
    gain, wins, losses = evidence.gain, evidence.wins, evidence.losses
    if evidence.binary and null == 0.0:
        great = evidence.great
        return log_discordant(wins, losses, great), log_discordant(losses, wins, great)
    if not evidence.binary:
        totals, nulls = np.array((gain.total, -gain.total)), np.array((null, -null))
        logs = log_bernstein(gain.rows, totals, gain.spread, nulls)
    else:
        ties = gain.rows - wins - losses
        logs = log_bets((wins, losses), (losses, wins), ties, (null, -null))
    better, worse = logs.tolist()
    return better, worse


def log_better(evidence: Evidence, null: float = 0.0) -> float:
    """Log e-value of "the mean gain is ``null`` or less": large means better than that."""
    if evidence.binary and null == 0.0:
        return log_discordant(evidence.wins, evidence.losses, evidence.great)
    return log_both(evidence, null)[0]


def log_worse(evidence: Evidence, null: float = 0.0) -> float:
    """Log e-value of "the mean gain is ``null`` or more": large means worse than that."""
    return log_both(evidence, null)[1]


def _last_over(log_e: Callable[[FloatArray], FloatArray], low: float, high: float, level: float) -> float:
    """The greatest null in [low, high] that ``log_e``, falling in it, still refutes at ``level``."""
    for _ in range(ROUNDS):
        nulls = np.linspace(low, high, POINTS)
        over = int(np.count_nonzero(log_e(nulls) >= level))
        if over in (0, POINTS):
            return low if over == 0 else high
        low, high = float(nulls[over - 1]), float(nulls[over])
    return low


def _gain_over(evidence: Evidence, level: float) -> float:
    gain, wins, losses = evidence.gain, evidence.wins, evidence.losses

    def log_e(nulls: FloatArray) -> FloatArray:
        if evidence.binary:
            return log_bets(wins, losses, gain.rows - wins - losses, nulls)
        return log_bernstein(gain.rows, gain.total, gain.spread, nulls)

    return _last_over(log_e, -1.0, 1.0, level)


def gain_bounds(evidence: Evidence, alpha: float) -> tuple[float, float]:
    """A confidence sequence for the mean gain: both bounds hold at all times with 1 − ``alpha``."""
    level = math.log(2.0 / alpha)
    return _gain_over(evidence, level), -_gain_over(evidence.swapped(), level)


def loss_bounds(loss: Moments, alpha: float, *, binary: bool) -> tuple[float, float]:
    """A confidence sequence for a mean loss in [0, 1]: both bounds hold at all times with 1 − ``alpha``.

    For 0/1 losses, the nulls that a beta(1/2, 1/2)-binomial mixture does not refute (Robbins 1970); for
    others, empirical Bernstein.
    """
    rows, total = loss.rows, loss.total
    if not rows:
        return 0.0, 1.0
    if binary:
        level = math.log(1.0 / alpha)
        return _rate_over(total, rows, level), 1.0 - _rate_over(rows - total, rows, level)

    def over(of: float) -> float:
        def log_e(nulls: FloatArray) -> FloatArray:
            return log_bernstein(rows, of, loss.spread, nulls, 1.0)

        return _last_over(log_e, 0.0, 1.0, math.log(2.0 / alpha))

    return over(total), 1.0 - over(rows - total)


def _rate_over(count: float, rows: int, level: float) -> float:
    from scipy.special import betaln, xlog1py, xlogy

    mixed = betaln(count + 0.5, rows - count + 0.5) - betaln(0.5, 0.5)

    def log_e(nulls: FloatArray) -> FloatArray:
        return np.asarray(mixed - xlogy(count, nulls) - xlog1py(rows - count, -nulls))

    return _last_over(log_e, 0.0, count / rows, level)


def numbers(evidence: Evidence, log_e: float, needed: float) -> dict[str, Any]:
    """The evidence as numbers for a ledger. ``needed`` is the logarithm that proves."""
    return {
        "rows": evidence.rows,
        "wins": evidence.wins,
        "losses": evidence.losses,
        "old_loss": evidence.old.mean,
        "new_loss": evidence.new.mean,
        "gain": evidence.gain.mean,
        "e_value": math.exp(log_e),
        "needed": math.exp(needed),
    }
