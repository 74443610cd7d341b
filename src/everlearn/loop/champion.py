"""The champion's newest matured rows, summed as they come: its metric with bounds, and its calibration.

All of it can be made again from the stored state (:meth:`ChampionRows.begin`), to the last bit; it is
kept because a look must not cost a pass over the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from everlearn.loop.bounds import Interval
from everlearn.loop.reliability import Bins
from everlearn.loop.scored import Scored
from everlearn.loop.state import LoopState
from everlearn.loop.window import Window
from everlearn.spec import ModelSpec

LOOK = 100
"""Matured rows between two looks at the champion's calibration."""


class ChampionRows:
    """All matured rows enter by :meth:`take`; what is summed is of the champion's.

    >>> spec = ModelSpec(name="m", target="y", features={"x": "numeric"}, metric="accuracy")
    >>> rows = ChampionRows(LoopState(champion=1), spec)
    >>> rows.take([Scored(1, 1, "yes", "yes", None, None, False, None, None)])
    >>> rows.take([Scored(2, 0, "yes", "no", None, None, False, None, None)])
    >>> rows.interval().value, len(rows)
    (1.0, 1)
    """

    def __init__(self, state: LoopState, spec: ModelSpec) -> None:
        self._state, self._spec = state, spec
        self._keep = spec.policy.window
        self.begin()

    def begin(self) -> None:
        """Sum up the rows that the state holds: at first, and when another champion answers."""
        state = self._state
        newest = champion_rows(state, self._spec)
        self._window = Window(self._keep, self._spec.metric or "", newest)
        self._interval: Interval | None = None
        self._looked = False
        self._bins = Bins()
        self._bins.add_all(state.certain)

    def __len__(self) -> int:
        return len(self._window)

    def take(self, scored: Sequence[Scored], calibrates: bool = False) -> None:
        """Take in matured rows, of whichever versions; ``calibrates``: also how sure the champion was."""
        state = self._state
        champion, since = state.champion, state.champion_row
        window, keep = state.window, self._keep
        self._looked = False
        if len(window) + len(scored) < 2 * keep:
            window += scored
            self._window.add_all([s for s in scored if s.version == champion and s.row > since])
        else:
            for one in scored:
                window.append(one)
                if one.version == champion and one.row > since:
                    self._window.add(one)
                if len(window) >= 2 * keep:
                    del window[:-keep]
                    self._window.refill(champion_rows(state, self._spec))
        if calibrates:
            self._answered([s for s in scored if s.version == champion and s.confidence is not None])

    def _answered(self, rows: Sequence[Scored]) -> None:
        """Take in the probabilities that the champion gave to its answers, and whether they were right."""
        answers = [(s.confidence or 0.0, s.value == s.truth) for s in rows]
        certain, keep = self._state.certain, self._keep
        room = 2 * keep - len(certain)  # with so many more, only the newest are kept
        while len(answers) >= room:
            certain += answers[:room]
            del certain[:-keep], answers[:room]
            self._bins = Bins()
            self._bins.add_all(certain)
            room = keep
        certain += answers
        self._bins.add_all(answers)

    def interval(self) -> Interval | None:
        """The champion's metric with its bounds on the newest matured rows that it answered."""
        if not self._looked:
            self._interval = self._window.interval(self._spec.policy.confidence)
            self._looked = True
        return self._interval

    def calibration(self) -> tuple[float, float] | None:
        """The champion's calibration error and what noise alone stays under, looked at now and then."""
        state = self._state
        if state.matured - state.ece_at >= LOOK:
            state.ece_at = state.matured
            state.ece = None
            if self._bins.rows >= self._spec.policy.min_labels:
                chance, spread = self._bins.noise()
                state.ece = (self._bins.ece(), chance + 3.0 * spread)
        return state.ece


def champion_rows(state: LoopState, spec: ModelSpec) -> list[Scored]:
    """The newest matured rows that the champion answered since it became champion."""
    rows = [s for s in state.window if s.version == state.champion and s.row > state.champion_row]
    return rows[-spec.policy.window :]
