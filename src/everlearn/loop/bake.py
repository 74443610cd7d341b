"""The bake: after a promotion the old champion is scored beside what is served, and may come back.

What is served may turn worse in the midst of it, so the evidence restarts: the mean of e-processes that
begin at ten points of the bake (one that has not begun is 1) is again an e-process, and an earlier good
stretch cannot hide a later bad one. A bake of a version that is no worse ends in a rollback with
probability at most ``alpha``, over the whole bake and however often it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from everlearn.loop import evidence as ev
from everlearn.loop.evidence import Evidence
from everlearn.loop.pairs import Columns, Pair, columns_of
from everlearn.spec import RollbackSpec
from everlearn.types import FloatArray

RESTARTS = 10
PRIOR = ((1.0, 12.0, 8.0),)
"""For 0/1 losses: what is worth a rollback is a difference of some points (see :data:`ev.PRIOR`)."""

PAIRED = 0.9
"""The part of alpha that the paired evidence uses; the bounds of the two losses use the rest."""

EXTENSION = 2
"""A bake whose evidence leans to the old version at its end goes on, to so many times its length."""


class Bake(msgspec.Struct):
    """A version under watch. ``evidence`` counts for ``old`` against what was served since ``opened``.

    ``marks`` are copies of it at the restarts. ``held``: what was served has been proven better than ``old``
    since, at the same alpha. If it turns worse later, the world has changed and not the version.
    """

    old: int
    new: int
    opened: int
    length: int
    binary: bool = True
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    marks: list[Evidence] = []
    held: bool = False

    @property
    def rows(self) -> int:
        """How many rows of the bake have been scored."""
        return self.evidence.rows


class BakeVerdict(msgspec.Struct, frozen=True):
    """``end``: ``rollback``, ``baked``, or ``None`` while it goes on; why, and the numbers behind it."""

    end: str | None
    reason: str
    numbers: dict[str, Any]


def open_bake(old: int, new: int, opened: int, spec: RollbackSpec, binary: bool) -> Bake:
    """The bake of ``new``, promoted over ``old`` at a row."""
    return Bake(old, new, opened, spec.bake, binary, Evidence(binary))


def take(bake: Bake, pairs: Sequence[Pair] | Columns) -> None:
    """Take in matured rows: ``old`` is the old champion's loss, ``new`` that of what was served."""
    columns = pairs if isinstance(pairs, Columns) else columns_of(pairs)
    start, rows = 0, len(columns.old)
    while start < rows:
        begins = _restart(bake, len(bake.marks))
        if begins is not None and bake.rows >= begins:
            bake.marks.append(bake.evidence.copy())
            continue
        stop = rows if begins is None else min(rows, start + begins - bake.rows)
        bake.evidence.take(columns.new[start:stop], columns.old[start:stop])
        start = stop


def hold(bake: Bake, spec: RollbackSpec) -> bool:
    """Whether what was served has ever been proven better than the old version: to be asked at every look."""
    bake.held = bake.held or ev.log_worse(bake.evidence) >= -math.log(spec.alpha)
    return bake.held


def _restart(bake: Bake, index: int) -> int | None:
    """The row of the bake at which a restart begins; ``None`` after the last."""
    return bake.length * index // RESTARTS if index < RESTARTS else None


def _restarted(bake: Bake) -> FloatArray:
    """Log e-values (restarts begun,) of "the old one is no better" since each restart."""
    since = [bake.evidence.since(mark) for mark in bake.marks]
    if bake.binary:
        return ev.log_mcnemar([s.wins for s in since], [s.losses for s in since], PRIOR)
    gains = np.array([(s.gain.rows, s.gain.total, s.gain.spread) for s in since]).reshape(-1, 3)
    return ev.log_bernstein(gains[:, 0], gains[:, 1], gains[:, 2])


def turned(bake: Bake) -> int:
    """How many rows ago the old version began to be better, going by the restart that says so the most."""
    logs = _restarted(bake)
    return bake.rows - bake.marks[int(logs.argmax())].rows if len(logs) else 0


def _mean(logs: FloatArray) -> float:
    """The log of the mean over all restarts, of which those that have not begun are 1."""
    every = np.concatenate((logs, np.zeros(RESTARTS - len(logs))))
    return float(np.logaddexp.reduce(every)) - math.log(RESTARTS)


def evidence_of(bake: Bake, spec: RollbackSpec) -> tuple[float, float]:
    """The log e-value for the old version, and that from which on it comes back."""
    return _mean(_restarted(bake)), _needed(spec)


def _needed(spec: RollbackSpec) -> float:
    return -math.log(PAIRED * spec.alpha)


def _bounds(bake: Bake, spec: RollbackSpec) -> dict[str, float] | None:
    """The lower bound of what is served and the upper bound of the old one; ``None`` if it is no use."""
    served, old = bake.evidence.old, bake.evidence.new
    if served.mean - old.mean <= spec.tolerance:
        return None
    alpha = (1.0 - PAIRED) / 2.0 * spec.alpha
    low = ev.loss_bounds(served, alpha, binary=bake.binary)[0]
    return {"served_low": low, "old_high": ev.loss_bounds(old, alpha, binary=bake.binary)[1]}


def verdict(bake: Bake, spec: RollbackSpec) -> BakeVerdict:
    """Whether the old version comes back: may be asked after every row.

    It does when its e-value reaches 1/(0.9 alpha), or when the served one's loss is certainly above its
    own by more than the tolerance. Else the bake ends after ``bake`` rows; if some restart then leans to
    the old version it goes on while one does, up to twice as long, which costs no error: the evidence
    holds at all times.
    """
    logs, needed = _restarted(bake), _needed(spec)
    log_e, bounds = _mean(logs), _bounds(bake, spec)
    numbers = {**ev.numbers(bake.evidence, log_e, needed), "alpha": spec.alpha, **(bounds or {})}
    numbers["served_loss"], numbers["old_loss"] = numbers.pop("old_loss"), numbers.pop("new_loss")
    losses = f"loss {numbers['old_loss']:.4g} before, {numbers['served_loss']:.4g} served"
    where = f"on {bake.rows:,} rows since the promotion"
    if log_e >= needed:
        proof = f"(e-value {numbers['e_value']:.3g}, {numbers['needed']:.3g} needed)"
        return BakeVerdict(
            "rollback", f"version {bake.old} is proven better {where} {proof}: {losses}", numbers
        )
    if bounds and bounds["served_low"] > bounds["old_high"] + spec.tolerance:
        sure = f"at least {bounds['served_low']:.4g} served, at most {bounds['old_high']:.4g} before"
        return BakeVerdict("rollback", f"the loss has certainly risen {where}: {sure}", numbers)
    leaning = bool(len(logs)) and float(logs.max()) > 0.0
    if bake.rows >= bake.length and (not leaning or bake.rows >= EXTENSION * bake.length):
        return BakeVerdict("baked", f"version {bake.old} is not proven better {where}: {losses}", numbers)
    return BakeVerdict(None, f"no proof for version {bake.old} {where}: {losses}", numbers)


class Storm(msgspec.Struct):
    """The automatic rollbacks: after how many matured rows the newest was, and how many in a row."""

    newest: int | None = None
    streak: int = 0


def held_back(storm: Storm, row: int, spec: RollbackSpec) -> bool:
    """Whether another automatic step back must wait: there was one less than a bake period ago."""
    return storm.newest is not None and row - storm.newest < max(1, spec.bake)


def record(storm: Storm, row: int, spec: RollbackSpec) -> bool:
    """Take in a rollback; whether the model must freeze: so many promotions in a row were rolled back."""
    storm.newest, storm.streak = row, storm.streak + 1
    return storm.streak >= spec.freeze_after
