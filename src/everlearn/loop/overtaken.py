"""Is an old regime to be protected, because only x has moved, or forgotten, because its truth has changed?

Losses are float64 (n,), lower is better; features float64 (n, d) with NaN for missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.loop.discrepancy import scaled, squared_distances
from everlearn.loop.loss_tests import FEWEST, no_better
from everlearn.types import FloatArray

Kind = Literal["protected", "obsolete", "undecided"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an old regime, why, and on what evidence."""

    kind: Kind
    reason: str
    evidence: Mapping[str, float | int]

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {"kind": self.kind, "reason": self.reason, **self.evidence}


def kind_of_change(
    anchors: FloatArray,
    new_X: FloatArray,
    old_on_anchors: FloatArray,
    new_on_anchors: FloatArray,
    old_on_new: FloatArray,
    new_on_new: FloatArray,
    *,
    alpha: float = 0.05,
    tolerance: float = 0.05,
) -> Change:
    """Whether an old regime is still true, and so must not be forgotten, or has been overtaken.

    ``old_*`` and ``new_*`` are the losses of the regime's version and of a version of the new rows, on the
    regime's ``anchors`` (m, d) and on ``new_X`` (n, d); neither has learned from what it is tested on.

    If the old version does not win on the old anchors there is nothing to lose: *undecided*. If it does,
    the new rows with similar x decide, each paired with the anchor nearest to it. The old version
    loses more there than on those anchors, and than the new version on the same rows: the same x now has
    another truth, the regime is *obsolete*. It does not (with ``1 - alpha`` confidence no more than
    ``tolerance`` above), or no new row is like an anchor: x has moved and the truth has not, the regime is
    *protected*. Else there are too few similar rows to say.
    """
    wins = no_better(old_on_anchors, new_on_anchors)
    here, there = similar_pairs(anchors, new_X)
    evidence: dict[str, float | int] = {"old_wins": wins, "similar": len(there), "rows": len(new_X)}
    if wins > alpha:
        return Change("undecided", f"the new version does as well on its anchors (p = {wins:.3g})", evidence)
    if len(there) < FEWEST:
        return _without_overlap(evidence, len(new_X))
    changed = _changed(old_on_anchors[here], old_on_new[there], new_on_new[there])
    evidence |= changed
    words = f"{len(there)} new rows with similar x"
    if max(changed["old_worse"], changed["old_loses"]) <= alpha:
        return Change("obsolete", f"the old version now loses on {words}: their truth changed", evidence)
    if _rise_bound(old_on_anchors[here], old_on_new[there], alpha) <= tolerance:
        return Change("protected", f"the old version is still right on {words}: only x moved", evidence)
    return Change("undecided", f"too little evidence on {words}", evidence)


def _without_overlap(evidence: dict[str, float | int], rows: int) -> Change:
    if rows >= 5 * FEWEST:
        reason = f"hardly any of {rows} new rows has an x like its anchors: x moved"
        return Change("protected", reason, evidence)
    return Change("undecided", f"only {rows} new rows, {evidence['similar']} with similar x", evidence)


def _changed(before: FloatArray, now: FloatArray, new: FloatArray) -> dict[str, float]:
    """p-values of "no worse than on the paired anchors", and of "no worse than the new version"."""
    return {
        "old_before": float(before.mean()),
        "old_now": float(now.mean()),
        "new_now": float(new.mean()),
        "old_worse": no_better(before, now),
        "old_loses": no_better(new, now),
    }


def _rise_bound(before: FloatArray, now: FloatArray, alpha: float) -> float:
    """The upper confidence bound of how much the loss has risen over pairs (normal; Wald with one pair
    added on either side for 0/1 losses: Agresti & Min 2005)."""
    rises = np.concatenate([now - before, [1.0, -1.0]])
    z = NormalDist().inv_cdf(1 - alpha)
    return float(rises.mean() + z * rises.std() / np.sqrt(len(rises)))


def similar_pairs(
    anchors: FloatArray, new_X: FloatArray, quantile: float = 0.9
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Anchors and new rows with similar x, one to one: indices into both, the closest pairs first.

    Similar: as near as an anchor is to its nearest other anchor, but for the ``1 - quantile`` loneliest.
    """
    nothing = np.empty(0, dtype=np.int64)
    if len(anchors) < 2 or not len(new_X):
        return nothing, nothing
    pooled = scaled(np.vstack([anchors, new_X]))
    old, new = pooled[: len(anchors)], pooled[len(anchors) :]
    among = squared_distances(old, old)
    np.fill_diagonal(among, np.inf)
    limit = float(np.quantile(among.min(axis=1), quantile))
    apart = squared_distances(old, new)
    close = np.argwhere(apart <= limit)
    order = np.argsort(apart[close[:, 0], close[:, 1]], kind="stable")
    pairs = _one_to_one(close[order])
    return np.array([a for a, _ in pairs], dtype=np.int64), np.array([b for _, b in pairs], dtype=np.int64)


def _one_to_one(close: NDArray[np.int64]) -> list[tuple[int, int]]:
    taken: set[int] = set()
    given: set[int] = set()
    pairs = []
    for a, b in close.tolist():
        if a not in taken and b not in given:
            taken.add(a)
            given.add(b)
            pairs.append((a, b))
    return pairs
