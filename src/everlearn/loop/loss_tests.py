"""Exact tests of losses: have they risen, and who loses less on the same rows? Losses are float64 (n,)."""

from __future__ import annotations

import numpy as np

from everlearn.loop.discrepancy import PERMUTATIONS
from everlearn.types import FloatArray

FEWEST = 20
"""Rows on either side below which nothing is tested."""


def loss_risen(old: FloatArray, new: FloatArray, *, seed: int = 0) -> float:
    """p-value of "the mean loss on the new rows is no higher than on the old".

    0/1 losses: Fisher's exact test. Others: a permutation test of the difference of means, at most
    :data:`PERMUTATIONS` permutations (Phipson & Smyth 2010).

    >>> old, new = np.repeat([0.0, 1.0], [95, 5]), np.repeat([0.0, 1.0], [35, 15])
    >>> round(loss_risen(old, new), 5)
    5e-05
    """
    if binary(old) and binary(new):
        from scipy.stats import hypergeom

        errors = int(old.sum() + new.sum())
        return float(hypergeom.sf(int(new.sum()) - 1, len(old) + len(new), errors, len(new)))
    draw = np.random.default_rng(seed)
    pooled = np.concatenate([old, new])
    order = draw.permuted(np.tile(pooled, (PERMUTATIONS, 1)), axis=1)
    sums = order[:, : len(new)].sum(axis=1)
    return float((1 + (sums >= new.sum() - 1e-12).sum()) / (PERMUTATIONS + 1))


def no_better(ours: FloatArray, theirs: FloatArray) -> float:
    """p-value of "we lose no less than they on the same rows".

    The exact sign test on the rows where the two differ; for 0/1 losses that is McNemar's. With other
    losses it compares which side wins more rows, not by how much.

    >>> no_better(np.zeros(10), np.ones(10))
    0.0009765625
    """
    wins, losses = int((ours < theirs).sum()), int((ours > theirs).sum())
    if wins + losses == 0:
        return 1.0
    from scipy.stats import binom

    return float(binom.sf(wins - 1, wins + losses, 0.5))


def binary(losses: FloatArray) -> bool:
    """Whether these are 0/1 losses."""
    return bool(np.isin(losses, (0.0, 1.0)).all())
