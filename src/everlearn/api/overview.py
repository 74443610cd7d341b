"""All models on one page: a card each, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from everlearn.access.words import Scope
from everlearn.adapters.rules import number_of
from everlearn.api.auth import Caller
from everlearn.api.decisions import NewestDecision, brief
from everlearn.api.pagination import PageWanted
from everlearn.api.parts import Door, TheDoor
from everlearn.api.times import IsoTime, iso, iso_or_none
from everlearn.types import Standing

router = APIRouter(prefix="/v1", tags=["models"])


class TrialBrief(BaseModel):
    """The running evidence of the version on trial: it is promoted when ``log_e`` reaches ``needed``."""

    version: int
    rows: int
    log_e: float
    needed: float


class BakeBrief(BaseModel):
    """The evidence that the ``old`` version was better: it comes back when ``log_e`` reaches ``needed``."""

    old: int
    new: int
    rows: int
    of: int
    log_e: float
    needed: float


class CardAnswer(BaseModel):
    """A model in a few numbers and one word."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "spam",
                "task": "classification",
                "metric": "accuracy",
                "lower_is_better": False,
                "threshold": 0.9,
                "score": 0.912,
                "lower": 0.887,
                "upper": 0.934,
                "score_rows": 500,
                "trend": [0.91, 0.9, 0.93],
                "champion": 3,
                "champion_since": "2024-05-01T12:00:00.000000Z",
                "champion_age_seconds": 86400.0,
                "rows": 9200,
                "matured": 8700,
                "waiting_labels": 12,
                "unlabelled": 207,
                "lag_events": 0,
                "state": "healthy",
                "severity": "ok",
                "reason": "accuracy 0.9120 [0.8870, 0.9340] keeps the threshold 0.9",
                "flags": [],
                "candidate": None,
                "bake": None,
                "last_decision": {
                    "number": 12,
                    "kind": "promote",
                    "at": "2024-05-01T12:00:00.000000Z",
                    "reason": "proven better on 500 rows",
                    "version": 3,
                },
                "last_event": "2024-05-01T12:00:00.000000Z",
            }
        }
    )
    name: str
    task: str
    metric: str
    lower_is_better: bool
    threshold: float
    score: float | None = Field(description="The champion's metric on its newest matured rows")
    lower: float | None
    upper: float | None
    score_rows: int
    trend: list[float | None] = Field(description="Scores of the newest windows of matured rows, 40 at most")
    champion: int
    champion_since: IsoTime
    champion_age_seconds: float
    rows: int
    matured: int
    waiting_labels: int
    unlabelled: int
    lag_events: int
    state: str
    severity: str = Field(description="`ok`, `attention` or `trouble`")
    reason: str
    flags: list[str]
    candidate: TrialBrief | None
    bake: BakeBrief | None
    last_decision: NewestDecision | None
    last_event: IsoTime | None


class OverviewAnswer(BaseModel):
    """One page of cards, the worst first. ``counts`` are of all models that the caller may read."""

    items: list[CardAnswer]
    next: str | None
    total: int
    counts: dict[str, int]


@router.get("/overview", response_model=OverviewAnswer)
def overview(door: TheDoor, page: PageWanted, caller: Caller) -> Response:
    """Where the models stand that the caller may read, those in trouble first."""
    from everlearn.loop.card import read_card

    found = [
        (read_card(standing.card or _made(door, standing.model)), standing)
        for standing in door.parts.scores.standings()
        if caller.allows(Scope.READ, standing.model)
    ]
    found.sort(key=lambda pair: (*pair[0].rank, pair[1].model))
    start = number_of(page.cursor) or 0
    end, now = start + page.limit, door.parts.clock.now()
    return plain_json(
        {
            "items": [_shape(card, standing, now) for card, standing in found[start:end]],
            "next": str(end) if end < len(found) else None,
            "total": len(found),
            "counts": Counter(card.state for card, _ in found),
        }
    )


def plain_json(body: Mapping[str, Any]) -> Response:
    """An answer of our own making as it is: a second look at every field costs more than to make them."""
    return Response(msgspec.json.encode(body), media_type="application/json")


def _made(door: Door, model: str) -> bytes:
    """The card of a model whose loop has not moved since cards are written."""
    from everlearn.loop.card import card_of
    from everlearn.loop.engine import Engine
    from everlearn.loop.state import LoopState, load

    state = load(door.parts.ledger.checkpoint(model).state)
    if not state.spec:
        state = LoopState(spec=door.parts.models.get(model).to_dict())
    return card_of(Engine(state))


def _shape(card: Any, standing: Standing, now: float) -> dict[str, Any]:
    head, decision = standing.head, standing.decision
    lag = max(0, head.seq - standing.cursor)
    return {
        "name": standing.model,
        **{name: getattr(card, name) for name in SAID},
        "champion": standing.champion,
        "champion_since": iso(standing.since),
        "champion_age_seconds": max(0.0, now - standing.since),
        "unlabelled": max(0, head.rows - head.labels),
        "lag_events": lag,
        "flags": [*card.flags, *(["behind"] if lag > MUCH_BEHIND else [])],
        "last_decision": None if decision is None else brief(decision),
        "last_event": iso_or_none(head.at or None),
    }


MUCH_BEHIND = 10_000
"""Events that the loop has not read, from which on a model is said to be behind."""

SAID = (
    "task",
    "metric",
    "lower_is_better",
    "threshold",
    "score",
    "lower",
    "upper",
    "score_rows",
    "trend",
    "rows",
    "matured",
    "waiting_labels",
    "state",
    "severity",
    "reason",
    "candidate",
    "bake",
)
"""What a card says that is passed on as it is."""
