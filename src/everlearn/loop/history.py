"""The score over time: a point for every window of matured rows, at several levels of detail.

A window closes after :data:`WINDOW_ROWS` matured rows (or the policy's window, if that is smaller). Every
:data:`FAN` points of one level make one of the next, so that any stretch of any length can be read as a few
hundred points. The fold emits them beside its decisions: a replay gives the same.

A point of many rows is the mean of its windows, weighted by rows. Windows are taken to be independent, so
the distances of the bounds add up as standard errors do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from everlearn.loop import bake
from everlearn.loop import evidence as ev
from everlearn.loop.scored import Scored
from everlearn.loop.window import metric_interval
from everlearn.spec import ModelSpec
from everlearn.types import ScorePoint

WINDOW_ROWS = 100
"""Matured rows of a window."""

FAN = 8
"""Points of a level that make one of the next."""

LEVELS = 8
"""Levels there are: a point of the last stands for 200 million rows."""

TREND = 40
"""The newest windows' scores that are kept at hand."""

UNTOLD = frozenset({"auc", "log_loss", "kappa_t"})
"""Metrics in which the no-change baseline has no score: it gives no probabilities, or is what is compared."""


class Sums(msgspec.Struct, array_like=True):
    """What points that become one add up to. ``rows`` are all matured rows, ``scored`` those with a score."""

    parts: int = 0
    rows: int = 0
    first: int = 0
    scored: int = 0
    score: float = 0.0
    bounded: int = 0
    below: float = 0.0
    above: float = 0.0
    low: float | None = None
    high: float | None = None
    told: int = 0
    no_change: float = 0.0
    frozen: int = 0
    never_updated: float = 0.0

    def add(self, point: ScorePoint) -> None:
        """Take in a point; points come in their order."""
        rows = point.rows
        self.first = self.first or point.first
        self.parts += 1
        self.rows += rows
        if point.score is not None:
            self.scored += rows
            self.score += rows * point.score
            if point.lower is not None and point.upper is not None:
                self.bounded += rows
                self.below += (rows * (point.score - point.lower)) ** 2
                self.above += (rows * (point.upper - point.score)) ** 2
        if point.low is not None and point.high is not None:
            self.low = point.low if self.low is None else min(self.low, point.low)
            self.high = point.high if self.high is None else max(self.high, point.high)
        if point.no_change is not None:
            self.told += rows
            self.no_change += rows * point.no_change
        if point.never_updated is not None:
            self.frozen += rows
            self.never_updated += rows * point.never_updated

    def point(self, level: int, number: int, last: ScorePoint) -> ScorePoint:
        """All that was taken in as one point, which stands where ``last`` does."""
        score = self.score / self.scored if self.scored else None
        known = score is not None and self.bounded
        return msgspec.structs.replace(
            last,
            level=level,
            number=number,
            rows=self.rows,
            first=self.first,
            score=score,
            lower=score - math.sqrt(self.below) / self.bounded if known and score is not None else None,
            upper=score + math.sqrt(self.above) / self.bounded if known and score is not None else None,
            low=self.low,
            high=self.high,
            no_change=self.no_change / self.told if self.told else None,
            never_updated=self.never_updated / self.frozen if self.frozen else None,
        )


class History(msgspec.Struct):
    """The open window and the open points of each level: ``closed`` windows so far, ``open`` rows since.

    ``trend`` holds the newest windows' scores. ``back`` is whether the newest change of champion was a
    rollback. ``origin`` is the first version that was promoted, or the champion when points began: what it
    would have scored to this day is the never-updated baseline.
    """

    closed: int = 0
    open: int = 0
    levels: list[Sums] = []
    trend: list[float | None] = []
    back: bool = False
    origin: int = 0


class Recorded(Protocol):
    """The part of the loop's state that a point is made from."""

    cursor: int
    now: float
    rows: int
    champion: int
    window: list[Scored]
    history: History
    candidate: Any
    bake: bake.Bake | None


def room(history: History, spec: ModelSpec) -> int:
    """How many more rows the open window takes; at least one."""
    return max(1, _size(spec) - history.open)


def is_full(history: History, spec: ModelSpec) -> bool:
    """Whether the open window is to be closed."""
    return history.open >= _size(spec)


def _size(spec: ModelSpec) -> int:
    return min(WINDOW_ROWS, spec.policy.window)


def close(state: Recorded, spec: ModelSpec, threshold: float) -> list[ScorePoint]:
    """Close the open window: its point, and those of higher levels that it completes."""
    history, rows = state.history, state.window[-state.history.open :]
    history.closed, history.open = history.closed + 1, 0
    history.origin = history.origin or state.champion
    point = _point(state, spec, threshold, rows)
    history.trend = [*history.trend, point.score][-TREND:]
    points = [point]
    for level in range(1, LEVELS):
        if len(history.levels) < level:
            history.levels.append(Sums())
        sums = history.levels[level - 1]
        sums.add(points[-1])
        if sums.parts < FAN:
            break
        history.levels[level - 1] = Sums()
        points.append(sums.point(level, points[-1].number // FAN, point))
    return points


def merged(points: Iterable[ScorePoint], level: int = 0, number: int = 0) -> ScorePoint:
    """Points in their order as one, which stands where the last does; there is at least one."""
    sums, last = Sums(), None
    for point in points:
        sums.add(point)
        last = point
    assert last is not None
    return sums.point(level, number, last)


def _point(state: Recorded, spec: ModelSpec, threshold: float, rows: list[Scored]) -> ScorePoint:
    interval = metric_interval(rows, spec.metric or "", spec.task, spec.policy.confidence)
    score = None if interval is None else interval.value
    places = sorted(one.row for one in rows)
    return ScorePoint(
        level=0,
        number=state.history.closed,
        seq=state.cursor,
        at=state.now,
        row=state.rows,
        rows=len(rows),
        first=places[len(places) // 20],
        last=places[-1 - len(places) // 20],
        score=score,
        lower=None if interval is None else _finite(interval.lower),
        upper=None if interval is None else _finite(interval.upper),
        low=score,
        high=score,
        no_change=_no_change(rows, spec),
        threshold=threshold,
        champion=state.champion,
        candidate=candidate_evidence(state),
        bake=bake_evidence(state, spec),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _no_change(rows: list[Scored], spec: ModelSpec) -> float | None:
    """What answering with the newest label would have scored on the same rows."""
    metric = spec.metric or ""
    if metric in UNTOLD or spec.task == "detection":
        return None
    if metric == "accuracy":
        return sum(one.no_change == one.truth for one in rows) / len(rows)
    answered = [
        Scored(s.row, s.version, s.truth, s.no_change, None, None, False, s.no_change, s.majority)
        for s in rows
    ]
    interval = metric_interval(answered, metric, spec.task, spec.policy.confidence)
    return None if interval is None else interval.value


def candidate_evidence(state: Recorded) -> dict[str, Any] | None:
    """The evidence of the version on trial: it is promoted when ``log_e`` reaches ``needed``."""
    if state.candidate is None:
        return None
    trial = state.candidate.trial
    log_e, needed = ev.log_better(trial.overall), -math.log(trial.alpha)
    return {"version": trial.version, "rows": trial.rows, "log_e": log_e, "needed": needed}


def bake_evidence(state: Recorded, spec: ModelSpec) -> dict[str, Any] | None:
    """The evidence that the version before was better: it comes back when ``log_e`` reaches ``needed``."""
    watched = state.bake
    if watched is None:
        return None
    log_e, needed = bake.evidence_of(watched, spec.rollback)
    return {
        "old": watched.old,
        "new": watched.new,
        "rows": watched.rows,
        "of": watched.length,
        "log_e": log_e,
        "needed": needed,
    }
