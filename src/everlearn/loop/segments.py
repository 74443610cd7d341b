"""How well the newest labelled predictions went, by the value of a feature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from everlearn.errors import Fault, InvalidError
from everlearn.loop.engine import DEFAULT_THRESHOLD
from everlearn.loop.scored import Scored, score_row
from everlearn.loop.state import load
from everlearn.loop.window import metric_interval
from everlearn.ports import Log
from everlearn.spec import ModelSpec
from everlearn.types import Checkpoint, Label, Scalar

ROWS = 1000
"""Newest labelled predictions that are looked at."""

REACHES = (1.1, 4.0)
"""How many times as many predictions are read: more where few of the newest have their label."""

MOST_SEGMENTS = 20
FEWEST = 2


def by_segment(log: Log, at: Checkpoint, spec: ModelSpec, column: str | None = None) -> dict[str, Any]:
    """Segments of the newest labelled predictions as of a checkpoint, worst first.

    ``column`` names a feature, by default the first that is categorical or boolean, else the first. Numbers
    are cut at their quartiles. Raises InvalidError for a column that is no feature.
    """
    columns = sorted(spec.features, key=lambda name: spec.features[name] == "numeric")
    columns = [name for name in columns if spec.features[name] != "timestamp"]
    if column is not None and column not in columns:
        message = f"is no feature to part rows by: send one of {', '.join(columns[:10])}"
        raise InvalidError(f"column {message}", [Fault("column", message)])
    threshold = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
    told = {"columns": columns, "metric": spec.metric, "threshold": threshold}
    column = column or (columns[0] if columns else None)
    if column is None:
        return {**told, "column": None, "rows": 0, "segments": []}
    rows, labels = _labelled(log, at, spec)
    names = _names([_cell(label, column) for label in labels], spec.features[column] == "numeric")
    parts: dict[str, list[Scored]] = {}
    for name, row in zip(names, rows, strict=True):
        parts.setdefault(name, []).append(row)
    found = [_segment(name, part, len(rows), spec) for name, part in parts.items() if len(part) >= FEWEST]
    sign = -1.0 if spec.lower_is_better else 1.0
    found.sort(key=lambda one: math.inf if one["score"] is None else sign * one["score"])
    return {**told, "column": column, "rows": len(rows), "segments": found[:MOST_SEGMENTS]}


def _labelled(log: Log, at: Checkpoint, spec: ModelSpec) -> tuple[list[Scored], list[Label]]:
    """The newest labelled predictions, scored; the baselines of kappa are those known now."""
    state = load(at.state)
    labels: list[Label] = []
    for reach in REACHES:
        after = max(0, state.rows - round(reach * ROWS))
        known = log.pending(spec.name, after_row=after, upto=at.cursor)
        labels = [label for label in known if label.prediction is not None]
        if len(labels) >= ROWS // 2 or not after:
            break
    newest, scored = labels[-ROWS:], []
    for label in newest:
        asked = label.prediction
        assert asked is not None
        before = state.baselines.before(asked.seq)
        scored.append(score_row(asked.row, asked.version, label.value, asked.output, *before))
    return scored, newest


def _cell(label: Label, column: str) -> Scalar:
    assert label.prediction is not None
    return label.prediction.features.get(column)


def _names(cells: Sequence[Scalar], numeric: bool) -> list[str]:
    if not numeric:
        return ["missing" if cell is None else str(cell) for cell in cells]
    known = sorted(float(cell) for cell in cells if isinstance(cell, int | float))
    if not known:
        return ["missing"] * len(cells)
    cuts = sorted({known[len(known) * k // 4] for k in (1, 2, 3)})
    edges = [f"under {cuts[0]:.4g}", *(f"from {cut:.4g}" for cut in cuts)]
    return [
        "missing" if not isinstance(cell, int | float) else edges[sum(float(cell) >= cut for cut in cuts)]
        for cell in cells
    ]


def _segment(name: str, rows: Sequence[Scored], total: int, spec: ModelSpec) -> Mapping[str, Any]:
    interval = metric_interval(rows, spec.metric or "", spec.task, spec.policy.confidence)
    bounds = (None, None) if interval is None else (interval.lower, interval.upper)
    lower, upper = (None if bound is None or math.isinf(bound) else bound for bound in bounds)
    score = None if interval is None else interval.value
    share = len(rows) / total
    return {"name": name, "rows": len(rows), "share": share, "score": score, "lower": lower, "upper": upper}
