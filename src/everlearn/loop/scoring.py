"""What matured rows are scored into: the champion's metric, the totals, the regimes, and the watch for drift.

Rows mature one at a time, and are settled some at a time: what they are added to is looked at only when
something may be decided. The result is the same, and a row costs fewer calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from everlearn.loop import gate, history, remembering, shadowing, watching
from everlearn.loop.champion import ChampionRows
from everlearn.loop.drift import ErrorDrift, Rise
from everlearn.loop.scores import Scored, loss, score_row, terms_of
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Steered
from everlearn.spec import ModelSpec
from everlearn.types import Label, Scalar, ScorePoint


class Matured(msgspec.Struct, gc=False):
    """A label whose row has matured, what the baselines would have answered, and how the loop stood then."""

    label: Label
    no_change: Scalar
    majority: Scalar
    cursor: int
    now: float
    rows: int
    learnable: int
    matured: int


class Warned(Steered, Protocol):
    """The part of the engine that scoring steers."""

    @property
    def threshold(self) -> float: ...  # noqa: D102
    def warn(self, risen: Rise) -> None: ...  # noqa: D102
    def record(self, points: Iterable[ScorePoint]) -> None: ...  # noqa: D102


class Scoring:
    """Scores matured rows of a model under a spec. ``reports``: also what only people ask for."""

    def __init__(self, state: LoopState, spec: ModelSpec, *, reports: bool) -> None:
        self._state, self._spec, self._reports = state, spec, reports
        self.rows = ChampionRows(state, spec)
        self._drift = ErrorDrift(state.drift, spec.drift)
        names = {spec.policy.name, *(part.name for part in spec.policy.any_of)}
        self.priced = "cost_aware" in names
        self.calibrates = spec.policy.recalibrate and spec.update != "stream" and gate.binary(spec)

    def restart(self) -> None:
        """Another champion answers."""
        self._drift.reset()
        self.rows.begin()

    def settle(self, engine: Warned, due: Sequence[Matured]) -> None:
        """Take in matured rows, in their order; each warning is given as of the row that led to it."""
        # Estimates are held against truths row by row, and may warn themselves.
        size = len(due) if self._state.estimates is None else 1
        start = 0
        while start < len(due):
            most = min(size, history.room(self._state.history, self._spec)) if self._reports else size
            start += self._take(engine, due[start : start + most])

    def _take(self, engine: Warned, due: Sequence[Matured]) -> int:
        """Take in rows up to the first at which the loss has risen; how many."""
        state, champion = self._state, self._state.champion
        scored = self._scored(due)
        losses = [loss(one, self._spec.task) for one in scored if one.version == champion]
        used, risen = self._drift.update_all(losses)
        if risen is not None:
            scored = scored[: _place(scored, champion, used)]
            losses, due = losses[:used], due[: len(scored)]
        since = (state.cursor, state.now, state.rows, state.learnable, state.matured)
        last = due[-1]
        state.cursor, state.now, state.rows = last.cursor, last.now, last.rows
        state.learnable, state.matured = last.learnable, last.matured
        self._add(engine, due, scored, losses)
        if risen is not None:
            engine.warn(risen)
        state.cursor, state.now, state.rows, state.learnable, state.matured = since
        return len(due)

    def _scored(self, due: Sequence[Matured]) -> list[Scored]:
        scored = []
        for row in due:
            label, asked = row.label, row.label.prediction
            assert asked is not None
            before = row.no_change, row.majority
            scored.append(
                score_row(asked.row, asked.version, label.value, asked.output, *before, label.source)
            )
        return scored

    def _add(
        self, engine: Warned, due: Sequence[Matured], scored: Sequence[Scored], losses: Sequence[float]
    ) -> None:
        """Add rows to all that is kept of them."""
        state, spec = self._state, self._spec
        self.rows.take(scored, self.calibrates)
        if self._reports:
            for one in scored:
                state.totals.add(terms_of(one, spec.task))
            state.history.open += len(scored)
        if state.compares:
            for row in due:
                shadowing.note(state, spec, row.label, row.matured)
        if spec.regimes.anchor_every:
            remembering.note(state, spec.regimes, [row.label for row in due])
        if self.priced:
            for value in losses:
                state.cost.saw(value)
        if state.estimates is not None:
            watching.on_truth(engine, due[-1].label)
        if self._reports and history.is_full(state.history, spec):
            engine.record(history.close(state, spec, engine.threshold))


def _place(scored: Sequence[Scored], champion: int, used: int) -> int:
    """How many rows hold so many of the champion's."""
    for place, one in enumerate(scored):
        used -= one.version == champion
        if not used:
            return place + 1
    return len(scored)
