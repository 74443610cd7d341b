"""The oracle policy: with every version of a grid and every loss known, the cheapest sequence of updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everlearn.loop import oracle
from everlearn.loop.training import MOST_EXAMPLES
from everlearn.loop.whatif_record import TICK, Recording
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import FloatArray, Row, Scalar

MOST_POINTS = 40
FEWEST_POINTS = 6
MOST_ANSWERS = 3_000_000
"""About how many answers of grid versions are worked out at most: longer recordings have coarser grids."""

BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Oracle:
    """The best sequence: ``losses`` (n,) row by row, rows at which it updates, and what it cost."""

    losses: FloatArray
    updates: tuple[int, ...]
    cost: float
    compute_seconds: float
    labels_used: int
    points: int


def grid_of(recording: Recording, spec: ModelSpec) -> list[int]:
    """Rows at which the oracle may update: evenly spaced, from where a first version can be made."""
    known, rows = np.array(recording.known_at), len(recording.rows)
    first = int(np.searchsorted(known, spec.policy.first_rows))
    if first >= rows:
        return []
    most = max(FEWEST_POINTS, min(MOST_POINTS, 2 * MOST_ANSWERS // rows))
    points = max(1, min(most, (rows - first) // 25))
    return sorted({int(row) for row in np.linspace(first, rows, points, endpoint=False)})


def best(
    recording: Recording,
    spec: ModelSpec,
    before: FloatArray,
    price: float,
    clock: Callable[[], float],
    progress: Callable[[float], None],
) -> Oracle | None:
    """The oracle's sequence; ``before`` (n,) are the losses while there is no version yet.

    ``price`` is that of an update, in the unit of the losses. ``None`` if no version can be made.
    """
    grid = grid_of(recording, spec)
    if not grid:
        return None
    edges, versions = [*grid, len(recording.rows)], _Versions(recording, spec, clock)
    rows, matrix = list[FloatArray](), np.zeros((len(grid), len(grid)))
    for v, start in enumerate(grid):
        own = versions.losses(start)
        rows.append(own)
        for c in range(v, len(grid)):
            matrix[v, c] = np.nansum(own[edges[c] - start : edges[c + 1] - start])
        progress((v + 1) / len(grid))
    found = oracle.best_sequence(matrix, price)
    turns = [0, *found.updates]
    played = before.copy()
    for v in turns:
        played[grid[v] :] = rows[v]
    cost = float(np.nansum(before[: grid[0]])) + found.cost
    seconds = sum(versions.seconds[v] for v in turns)
    labels = len(set().union(*(range(*versions.learned[v]) for v in turns)))
    return Oracle(played, tuple(grid[v] for v in found.updates), cost, seconds, labels, len(grid))


class _Versions:
    """The versions of a grid, each learned from the newest window of what was known (or from all)."""

    def __init__(self, recording: Recording, spec: ModelSpec, clock: Callable[[], float]) -> None:
        self.seconds: list[float] = []
        self.learned: list[tuple[int, int]] = []
        self._recording, self._spec, self._clock = recording, spec, clock
        self._known: list[tuple[Row, Scalar]] = [
            (a.features if a.features is not None else recording.rows[a.row], a.value)
            for a in recording.arrivals
            if a.row != TICK and not a.correction
        ]
        self._counts = np.cumsum([a.row != TICK and not a.correction for a in recording.arrivals])
        self._growing: Predictor | None = None
        self._grown = 0

    def losses(self, start: int) -> FloatArray:
        """(n - start,) what the version made when row ``start`` is asked loses from there on."""
        arrived = self._recording.known_at[start]
        known = int(self._counts[arrived - 1]) if arrived else 0
        began = self._clock()
        predictor = self._learn(known)
        self.seconds.append(self._clock() - began)
        rows, truths = self._recording.rows[start:], self._recording.truths[start:]
        blocks = range(0, len(rows), BLOCK)
        return np.concatenate([_lost(predictor, rows[b : b + BLOCK], truths[b : b + BLOCK]) for b in blocks])

    def _learn(self, known: int) -> Predictor:
        made = self._growing or Predictor.new(self._spec)
        first = self._grown
        if not (made.learner.incremental and made.learner.wants is None):
            made = Predictor.new(self._spec)
            first = max(0, known - (made.learner.wants or MOST_EXAMPLES))
        new = self._known[first:known]
        if new:
            made.learn([row for row, _ in new], [target for _, target in new])
        if made.learner.incremental and made.learner.wants is None:
            self._growing, self._grown, first = made, known, 0
        self.learned.append((first, known))
        return made


def _lost(predictor: Predictor, rows: Sequence[Row], truths: Sequence[Scalar]) -> FloatArray:
    """(n,) losses, NaN without a label: from the learner's own arrays, with no object a row."""
    answers = predictor.learner.predict(predictor.encoder.transform(rows))
    known = np.array([truth is not None for truth in truths])
    if predictor.spec.task == "regression":
        lost: FloatArray = np.abs(answers - np.array([float(t or 0.0) for t in truths]))
    else:
        places: dict[Any, int] = {label: i for i, label in enumerate(predictor.learner.classes)}
        picked = answers.argmax(axis=1)
        lost = (picked != np.array([places.get(truth, -1) for truth in truths])).astype(float)
    return np.where(known, lost, np.nan)
