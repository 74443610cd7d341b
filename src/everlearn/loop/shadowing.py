"""Which matured rows two versions are compared on: rows are kept as they mature, and paired once answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlearn.loop import gate
from everlearn.loop.pairs import Columns
from everlearn.loop.shadow import MOST_WAITING, Shadow, ShadowRow
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Judge
from everlearn.spec import ModelSpec
from everlearn.types import Label


def note(state: LoopState, spec: ModelSpec, label: Label, matured: int) -> None:
    """A row has matured, the ``matured``-th of all: keep it for those who must answer it too."""
    asked, truth = label.prediction, label.value
    if asked is None or truth is None:
        return
    groups = gate.groups_of(asked.features, spec) if spec.gate.segments else []
    mark = gate.mark(truth, asked.output, spec)
    state.waiting_rows.append(
        ShadowRow(asked.row, asked.seq, asked.id, truth, asked.version, mark, groups, matured, label.source)
    )
    if len(state.waiting_rows) > MOST_WAITING:
        del state.waiting_rows[: -MOST_WAITING // 2]


def columns(
    engine: Judge,
    shadow: Shadow,
    marks: Mapping[int, Sequence[gate.Mark]],
    version: int,
    after: int,
    **how: Any,
) -> Columns:
    """The rows of a batch that neither the champion nor a version has learned from, as both lost on them.

    Only those that matured later than the first ``after``: earlier ones have been counted, or have led to
    the comparison itself.
    """
    state = engine.state
    learned = max(_learned_through(state, number) for number in (version, state.champion))
    champion, theirs = marks.get(state.champion), marks[version]
    old, new, groups = [], [], []
    for i, row in enumerate(shadow.rows):
        if row.matured <= after or row.seq <= learned:
            continue
        if state.champion == row.version:
            old.append(row.mark)
        elif champion is not None:
            old.append(champion[i])
        else:
            continue
        new.append(theirs[i])
        groups.append(row.groups)
    return gate.columns(old, new, groups, engine.spec, **how)


def _learned_through(state: LoopState, number: int) -> int:
    known = state.version(number)
    return known.learned_through if known is not None else 0
