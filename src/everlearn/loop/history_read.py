"""Reading the score over time: any stretch of it as a few points, at a cost that does not grow with it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from everlearn.loop.history import FAN, LEVELS, merged
from everlearn.ports import Scores
from everlearn.types import ScorePoint


@dataclass(frozen=True, slots=True)
class Stretch:
    """Points in order, and how many windows are behind them."""

    points: Sequence[ScorePoint]
    windows: int


def read_stretch(
    scores: Scores, model: str, most: int, since: float | None = None, until: float | None = None
) -> Stretch:
    """At most ``most`` points over the windows that closed in a time: neighbours are made one.

    Reads from the level that has at most ``FAN`` times as many, and its end, which no point of that level
    stands for yet, from those below. The first point may begin a little earlier than asked.
    """
    first, last = scores.span(model, since, until)
    count = last - first + 1
    if count < 1:
        return Stretch((), 0)
    level = 0
    while level < LEVELS - 1 and count > FAN ** (level + 1) * most:
        level += 1
    found: list[ScorePoint] = []
    after = (first - 1) // FAN**level  # in points of the level at hand
    for at in range(level, -1, -1):
        end = last // FAN**at
        if end > after:
            found += scores.points(model, at, after + 1, end)
        after = end * FAN
    return Stretch(thinned(found, most), count)


def thinned(points: Sequence[ScorePoint], most: int) -> Sequence[ScorePoint]:
    """At most so many points: neighbours are merged, in runs of about as many rows."""
    if len(points) <= most:
        return points
    total, run, done = sum(point.rows for point in points), list[ScorePoint](), 0
    made: list[ScorePoint] = []
    for point in points:
        run.append(point)
        done += point.rows
        if done * most >= total * (len(made) + 1):
            made.append(merged(run, run[-1].level, run[-1].number))
            run = []
    return [*made, *([merged(run, run[-1].level, run[-1].number)] if run else [])]


def row_at(points: Sequence[ScorePoint], seq: int) -> int | None:
    """About how many predictions had been made at a position: by the points around it.

    ``None`` before the first point; that of the last after it.
    """
    place = bisect_left(points, seq, key=lambda point: point.seq)
    if place == len(points):
        return points[-1].row if points else None
    after = points[place]
    if after.seq == seq:
        return after.row
    if place == 0:
        return None
    before = points[place - 1]
    share = (seq - before.seq) / (after.seq - before.seq)
    return round(before.row + share * (after.row - before.row))


def time_at(points: Sequence[ScorePoint], row: int) -> float | None:
    """About when a prediction was made, by the points around it; ``None`` outside of them."""
    place = bisect_left(points, row, key=lambda point: point.row)
    if place == len(points) or (place == 0 and points[0].row != row):
        return None
    after = points[place]
    if after.row == row:
        return after.at
    before = points[place - 1]
    return before.at + (row - before.row) / (after.row - before.row) * (after.at - before.at)
