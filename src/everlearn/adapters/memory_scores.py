"""The score over time and the models' cards, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from everlearn.adapters.memory_data import SharedData
from everlearn.types import ScorePoint, Standing


class MemoryScores:
    """:class:`everlearn.ports.Scores` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def standings(self) -> list[Standing]:
        """See the port."""
        found = []
        with self._data.lock:
            for name, model in sorted(self._data.models.items()):
                champion, cursor = model.champions[-1], model.checkpoint.cursor
                decision = replace(model.decisions[-1], evidence={}) if model.decisions else None
                head = model.log.head()
                found.append(
                    Standing(name, model.card, champion.version, champion.since, head, cursor, decision)
                )
        return found

    def span(self, model: str, since: float | None = None, until: float | None = None) -> tuple[int, int]:
        """See the port."""
        with self._data.lock:
            points = [point for (level, _), point in self._data.model(model).points.items() if level == 0]
        first = next((p.number for p in points if since is None or p.at >= since), None)
        last = next((p.number for p in reversed(points) if until is None or p.at <= until), None)
        return (1, 0) if first is None or last is None else (first, last)

    def points(self, model: str, level: int, first: int, last: int) -> list[ScorePoint]:
        """See the port."""
        with self._data.lock:
            known = self._data.model(model).points
            return [known[level, n] for n in range(first, last + 1) if (level, n) in known]

    def filled(self, model: str) -> int:
        """See the port."""
        with self._data.lock:
            points = self._data.model(model).points.values()
            return max((p.number for p in points if p.level == 0 and p.never_updated is not None), default=0)

    def fill(self, model: str, scores: Mapping[int, float], fan: int) -> None:
        """See the port."""
        with self._data.lock:
            points = self._data.model(model).points
            for number, score in scores.items():
                if (0, number) in points:
                    points[0, number] = msgspec.structs.replace(points[0, number], never_updated=score)
            level, wanted = 1, {-(-number // fan) for number in scores}
            while wanted := {number for number in wanted if (level, number) in points}:
                for number in wanted:
                    _raise(points, level, number, fan)
                level, wanted = level + 1, {-(-number // fan) for number in wanted}


def _raise(points: dict[tuple[int, int], ScorePoint], level: int, number: int, fan: int) -> None:
    """Give a point of a higher level the mean of the baseline over its parts."""
    parts = [points[level - 1, part] for part in range((number - 1) * fan + 1, number * fan + 1)]
    told = [(part.rows, part.never_updated) for part in parts if part.never_updated is not None]
    if told:
        mean = sum(rows * score for rows, score in told) / sum(rows for rows, _ in told)
        points[level, number] = msgspec.structs.replace(points[level, number], never_updated=mean)
