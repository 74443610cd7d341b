"""Has a known regime come back?

A concept is a joint distribution P(x, y). New rows belong to a known regime if neither of two tests
rejects it: a kernel two-sample test of (x, y) against the regime's anchors, which sees that x has moved
or that y goes with other x, and a test that the regime's version errs no more on the new rows than on
its anchors, which sees small changes of P(y | x) that no distance between samples would.

Not rejecting proves nothing by itself: with few rows nothing is ever rejected. So a regime is
recognised only if its version is also *proven* better on the new rows than what answers now.

Features are float64 (n, d) with NaN for missing, truths any array (n,), losses float64 (n,). The
two-sample test holds its level if rows are exchangeable; strong serial dependence makes it reject too
often, which errs on the side of a new regime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.loop.bounds import mean_interval, proportion_interval
from everlearn.loop.discrepancy import same_distribution
from everlearn.loop.loss_tests import FEWEST, binary, loss_risen, no_better
from everlearn.loop.overtaken import Change, kind_of_change
from everlearn.types import FloatArray

__all__ = [
    "FEWEST",
    "Change",
    "Memory",
    "Recognition",
    "RegimeTest",
    "holm",
    "kind_of_change",
    "recognise",
]


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a regime for the test: its anchors, and its version's losses on old and new rows.

    ``X`` (m, d) and ``y`` (m,) are the anchors; ``anchor_losses`` (m,) and ``new_losses`` (n,) those of
    ``version``, which has learned from neither.
    """

    number: int
    version: int
    X: FloatArray
    y: NDArray[Any]
    anchor_losses: FloatArray
    new_losses: FloatArray


@dataclass(frozen=True, slots=True)
class RegimeTest:
    """What the tests say of one regime: their p-values, and the adjusted ones that decide.

    ``same`` is for the joint distribution, ``loss`` for the version's loss, ``consistent`` both of them
    (Holm 1979: the smaller doubled); ``better`` that the version is no better than the incumbent.
    ``bound`` is the upper confidence bound of ``anchor_loss``.
    """

    number: int
    version: int
    same: float
    loss: float
    consistent: float
    better: float
    anchor_loss: float
    bound: float
    new_loss: float

    def to_dict(self) -> dict[str, float | int]:
        """The test as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Recognition:
    """Which known regime the new rows belong to (``None``: none is proven), and the tests."""

    regime: int | None
    reason: str
    alpha: float
    rows: int
    tests: tuple[RegimeTest, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        tests = {str(test.number): test.to_dict() for test in self.tests}
        return {"regime": self.regime, "alpha": self.alpha, "rows": self.rows, "tests": tests}


def recognise(
    X: FloatArray,
    y: NDArray[Any],
    incumbent: int,
    incumbent_losses: FloatArray,
    known: Sequence[Memory],
    *,
    alpha: float = 0.05,
    look: int = 1,
    seed: int = 0,
) -> Recognition:
    """RegimeTest new rows against every known regime.

    A regime is recognised if its combined p-value of being the same is over ``alpha``, and its version
    is better than the ``incumbent`` on the new rows by Holm's procedure over the regimes at the level
    of this look, ``6 alpha / (pi look)^2``, so that looking again and again spends no more than
    ``alpha``. If the incumbent is the regime's own version there is nothing to beat: then its loss on
    the new rows must not be above the upper confidence bound of that on the anchors. Of several the
    one with the lowest loss wins, then the one that looks most the same.
    """
    if len(y) < FEWEST:
        return Recognition(None, f"only {len(y)} new rows, {FEWEST} are needed", alpha, len(y))
    able = [memory for memory in known if len(memory.y) >= FEWEST]
    tests = tuple(_test(X, y, incumbent_losses, memory, alpha, seed) for memory in able)
    proven = _proven(tests, incumbent, alpha * 6 / (np.pi * look) ** 2)
    passed = [t for t in tests if t.consistent > alpha and t.number in proven]
    if not passed:
        return Recognition(None, "no known regime is proven to have come back", alpha, len(y), tests)
    best = min(passed, key=lambda t: (t.new_loss, -t.same, t.number))
    reason = (
        f"regime {best.number} has come back: its version {best.version} loses {best.new_loss:.4f} on "
        f"{len(y)} new rows, {best.anchor_loss:.4f} on its anchors (p = {best.loss:.3g}), and the rows "
        f"look like its anchors (p = {best.same:.3g})"
    )
    return Recognition(best.number, reason, alpha, len(y), tests)


def _test(
    X: FloatArray, y: NDArray[Any], incumbent_losses: FloatArray, memory: Memory, alpha: float, seed: int
) -> RegimeTest:
    same = same_distribution(memory.X, memory.y, X, y, seed=seed)
    loss = loss_risen(memory.anchor_losses, memory.new_losses, seed=seed)
    return RegimeTest(
        memory.number,
        memory.version,
        same,
        loss,
        min(1.0, 2 * min(same, loss)),
        no_better(memory.new_losses, incumbent_losses),
        float(memory.anchor_losses.mean()),
        _upper(memory.anchor_losses, alpha),
        float(memory.new_losses.mean()),
    )


def _proven(tests: Sequence[RegimeTest], incumbent: int, alpha: float) -> set[int]:
    """The regimes whose version beats the incumbent, or is it and errs no more than on its anchors."""
    others = [test for test in tests if test.version != incumbent]
    beaten = holm([test.better for test in others], alpha)
    proven = {test.number for test, won in zip(others, beaten, strict=True) if won}
    return proven | {t.number for t in tests if t.version == incumbent and t.new_loss <= t.bound}


def _upper(losses: FloatArray, alpha: float) -> float:
    """The upper confidence bound of the mean loss, exact for 0/1 losses."""
    if binary(losses):
        return proportion_interval(int(losses.sum()), len(losses), 1 - alpha).upper
    return mean_interval(losses.tolist(), 1 - alpha).upper


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected with family-wise error ``alpha`` (Holm 1979).

    >>> holm([0.01, 0.04, 0.03], 0.05)
    [True, False, False]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > alpha / (len(order) - rank):
            break
        rejected[index] = True
    return rejected
