"""Erasing a person's rows: what the loop remembers of them goes, and so do the versions that learned them.

The rows are gone from the log when the command is read. Here they leave what is kept row by row: anchors,
recent rows, the champion's window, rows that wait to be scored or compared. What sums up values of rows
begins anew: the sketches of features, the estimates, the detectors, the calibration. What counts how versions
did (totals, trials, the bake, the ledger) stays as it was counted: it tells of versions, and of nobody.

What was removed is not in the log, so the fold does not make this step again; a verification of the record
begins after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from everlearn.loop import watching
from everlearn.loop.candidates import MAX_KNOWN, end_candidate
from everlearn.loop.state import Activity, LoopState
from everlearn.loop.steering import Judge
from everlearn.types import Command, DecisionKind, Gone, Row

_HEX = frozenset("0123456789abcdef")
COMMAND = "erase"
GONE = "gone"
"""The argument in which a driver tells the fold what was removed; it is not in the log."""


class Eraser(Judge, Protocol):
    """The part of the engine that erasing steers."""

    def drop_ids(self, ids: Collection[str]) -> None: ...  # noqa: D102
    def begin_anew(self) -> None: ...  # noqa: D102
    def update(  # noqa: D102
        self, mode: str, reason: str, evidence: Mapping[str, Any], *, looked: bool = False
    ) -> None: ...


def erase(engine: Eraser, event: Command, asked: Mapping[str, Any]) -> None:
    """Forget erased rows, withdraw the versions that may have learned them, and ask for a clean one."""
    state, known = engine.state, event.arguments.get("known")
    gone: Gone = event.arguments.get(GONE) or Gone()
    asked = {name: value for name, value in asked.items() if name != GONE}
    words, evidence = f"{event.arguments.get('events', 0)} events of one subject are erased", dict(asked)
    # Versions are numbered as they are asked for: those up to now may have read the rows.
    first, below = below_which(state, known), state.next_version
    if first < below:
        state.erased = joined([*state.erased, (first, below)])
        words += f", and versions {first} to {below - 1}, which may have learned them, are withdrawn"
        evidence["versions"] = [first, below - 1]
    evidence["removed"] = _forget(engine, gone)
    engine.decide(DecisionKind.ERASE, words, evidence, state.champion)
    engine.begin_anew()
    watching.begin(state, engine.spec)
    _ask_again(engine, known is not None, asked)


def below_which(state: LoopState, known: int | None) -> int:
    """The first version that may have learned what was known from a position on (``None``: nothing was)."""
    if known is None:
        return state.next_version
    able = [one for one in state.known if one.number and (not one.made or one.made > known)]
    numbers = [one.number for one in able] + ([state.activity.version] if state.activity else [])
    if len(state.known) >= MAX_KNOWN and able and able[0] is state.known[0]:
        return 1  # older ones are not remembered
    return min(numbers, default=state.next_version)


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges [first, below) in order, those that meet as one.

    >>> joined([(5, 9), (1, 3), (8, 12)])
    [(1, 3), (5, 12)]
    """
    found: list[tuple[int, int]] = []
    for first, below in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(below, found[-1][1]))
        else:
            found.append((first, below))
    return found


def _forget(engine: Eraser, gone: Gone) -> dict[str, int]:
    """Remove rows where they are kept one by one; how many there were."""
    state, ids, rows = engine.state, set(gone.ids), set(gone.rows)
    regression = engine.spec.task == "regression"
    recent, window, waiting = len(state.recent), len(state.window), len(state.waiting_rows)
    engine.drop_ids(ids)
    anchors = state.regimes.forget(ids)
    state.recent = [row for row in state.recent if row.id not in ids]
    state.window = [row for row in state.window if row.row not in rows]
    counted = sum(state.baselines.forget(seq, truth, regression, state.cursor) for seq, truth in gone.truths)
    state.feedback.newest = []
    return {
        "anchors": anchors,
        "recent": recent - len(state.recent),
        "window": window - len(state.window),
        "waiting": waiting - len(state.waiting_rows),
        "labels_uncounted": counted,
    }


def _ask_again(engine: Eraser, learned: bool, asked: Mapping[str, Any]) -> None:
    """End the work that may have read the rows, and ask for it again without them."""
    state = engine.state
    if state.shadow is not None:  # its job names rows; those that stay are asked for again
        state.waiting_rows = [*state.shadow.rows, *state.waiting_rows]
        state.shadow = None
    if state.asking:
        state.asking, state.looks = "", max(0, state.looks - 1)
    if not learned:
        return
    was, state.activity = state.activity, None
    if state.candidate is not None and state.tainted(state.candidate.trial.version):
        end_candidate(engine, "refused: it learned rows that are erased", "erased")
    if state.archived is not None:
        begun = [one for one in state.archived.begun if not state.tainted(one.trial.version)]
        state.archived.begun = begun
        state.archived = state.archived if begun else None
    if state.bake is not None and state.tainted(state.bake.old):
        state.bake = None  # the old champion will not come back
    state.previous = [number for number in state.previous if not state.tainted(number)]
    _update(engine, was, asked)


def _update(engine: Eraser, was: Activity | None, asked: Mapping[str, Any]) -> None:
    state = engine.state
    if state.frozen or state.learnable < 2:
        return
    if state.tainted(state.champion):
        engine.update("fresh", "a version that never saw what is erased", asked)
    elif was is not None:
        engine.update(was.mode, "the update begins again without what is erased", asked)


def strings(value: Any) -> Iterator[str]:
    """Every text in JSON values, keys too.

    >>> sorted(strings({"a": ["b", 1, {"c": None}]}))
    ['a', 'b', 'c']
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one


def image_columns(features: Mapping[str, str]) -> list[str]:
    """The features (by kind) that hold images."""
    return [name for name, kind in features.items() if kind == "image"]


def digests_in(rows: Iterable[Row], columns: Collection[str] = ()) -> set[str]:
    """The SHA-256 digests (64 hex digits) among the cells of rows: what is stored under them may be theirs.

    ``columns``: those that hold images. Without any, all are looked through.

    >>> row = {"image": "0" * 64, "x": 1.0, "person": "1" * 64}
    >>> digests_in([row], ["image"]) == {"0" * 64}, len(digests_in([row]))
    (True, 2)
    """
    return {
        cell
        for row in rows
        for name, cell in row.items()
        if isinstance(cell, str) and len(cell) == 64 and _HEX.issuperset(cell)
        if not columns or name in columns
    }
