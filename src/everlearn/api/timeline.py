"""The score of a model over time, and on the same axes what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api.overview import BakeBrief, TrialBrief, plain_json
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, Since, Until, iso, iso_or_none
from everlearn.types import Decision, DecisionKind, ScorePoint

router = APIRouter(prefix="/v1/models/{model}", tags=["models"], responses=documented(404))

MARKED = [kind.value for kind in DecisionKind if kind not in (DecisionKind.HOLD, DecisionKind.CONFIGURE)]
"""The kinds of decision that stand on the timeline."""

MOST_MARKS = 500


class PointAnswer(BaseModel):
    """The score of ``rows`` matured rows, known at ``at``, when ``row`` predictions had been made.

    ``min`` and ``max`` are the lowest and the highest window in it. The baselines are scored on the same
    rows in the same metric: ``never_updated`` is the first version left as it was, on a sample of them, and
    comes a little later.
    """

    at: IsoTime
    row: int
    seq: int
    rows: int
    score: float | None
    lower: float | None
    upper: float | None
    min: float | None
    max: float | None
    no_change: float | None
    never_updated: float | None
    threshold: float
    champion: int
    candidate: TrialBrief | None
    bake: BakeBrief | None


class MarkAnswer(BaseModel):
    """A decision on the timeline; ``row`` is read off the points around it."""

    kind: DecisionKind
    number: int
    at: IsoTime
    row: int | None
    seq: int
    version: int | None
    reason: str


class RegimeSpan(BaseModel):
    """A stretch of the stream under one concept, from its first row to its last (null: it goes on)."""

    model_config = ConfigDict(populate_by_name=True)
    number: int
    name: str
    from_row: int
    to_row: int | None
    from_: IsoTime | None = Field(alias="from")
    to: IsoTime | None
    current: bool
    protected: bool
    obsolete: bool


class TimelineAnswer(BaseModel):
    """The score over time; ``windows_per_point`` is above 1 where windows are shown as their mean."""

    model: str
    task: str
    metric: str
    lower_is_better: bool
    threshold: float
    confidence: float
    rows_per_window: int
    windows: int
    windows_per_point: float
    points: list[PointAnswer]
    marks: list[MarkAnswer]
    marks_left_out: int
    regimes: list[RegimeSpan]


@router.get("/timeline", response_model=TimelineAnswer)
def timeline(
    model: str,
    door: TheDoor,
    points: Annotated[int, Query(ge=1, le=2000, description="How many points at most")] = 200,
    since: Since = None,
    until: Until = None,
) -> Response:
    """The score over time with its bounds and baselines, and on the same axes what was decided."""
    from everlearn.loop.engine import DEFAULT_THRESHOLD
    from everlearn.loop.history import WINDOW_ROWS
    from everlearn.loop.history_read import read_stretch

    spec = door.parts.models.get(model)
    found = read_stretch(door.parts.scores, model, points, since, until)
    marks, left_out = _marks(door, model, since, until)
    told = {
        "model": model,
        "task": spec.task,
        "metric": spec.metric,
        "lower_is_better": spec.lower_is_better,
        "threshold": DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold,
        "confidence": spec.policy.confidence,
        "rows_per_window": min(WINDOW_ROWS, spec.policy.window),
        "windows": found.windows,
        "windows_per_point": found.windows / max(1, len(found.points)),
        "points": [_point(point) for point in found.points],
        "marks": [_mark(decision, found.points) for decision in marks],
        "marks_left_out": left_out,
        "regimes": _regimes(door, model, found.points),
    }
    return plain_json(told)


def _marks(
    door: Door, model: str, since: float | None, until: float | None
) -> tuple[Sequence[Decision], int]:
    """The newest decisions that stand on the timeline, oldest first, and how many there are besides."""
    page = door.parts.ledger.decisions(model, None, MOST_MARKS, MARKED, since=since, until=until)
    return list(reversed(page.items)), 0 if page.next is None else _more(door, model, len(page.items))


def _more(door: Door, model: str, shown: int) -> int:
    counts = door.parts.ledger.counts(model)
    return max(0, sum(counts.get(kind, 0) for kind in MARKED) - shown)


def _point(point: ScorePoint) -> dict[str, Any]:
    return {
        "at": iso(point.at),
        **{name: getattr(point, name) for name in ("row", "seq", "rows", "score", "lower", "upper")},
        "min": point.low,
        "max": point.high,
        **{name: getattr(point, name) for name in ("no_change", "never_updated", "threshold", "champion")},
        "candidate": point.candidate,
        "bake": point.bake,
    }


def _mark(decision: Decision, points: Sequence[ScorePoint]) -> dict[str, Any]:
    from everlearn.loop.history_read import row_at

    return {
        "kind": decision.kind.value,
        "number": decision.number,
        "at": iso(decision.at),
        "row": row_at(points, decision.seq),
        "seq": decision.seq,
        "version": decision.version,
        "reason": decision.reason,
    }


def _regimes(door: Door, model: str, points: Sequence[ScorePoint]) -> list[dict[str, Any]]:
    """The stretches of the remembered regimes, in order of their rows."""
    from everlearn.loop.findings import remembered
    from everlearn.loop.history_read import time_at

    spans = []
    for regime in remembered(door.parts.ledger.checkpoint(model).state):
        for first, last in regime["stretches"]:
            spans.append(
                {
                    **{name: regime[name] for name in ("number", "name", "protected", "obsolete")},
                    "current": last is None,
                    "from_row": first,
                    "to_row": last,
                    "from": iso_or_none(time_at(points, first)),
                    "to": None if last is None else iso_or_none(time_at(points, last)),
                }
            )
    return sorted(spans, key=lambda span: span["from_row"])
