"""Decisions: the ledger of what the loop decided, why, and on what evidence."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso
from everlearn.types import Decision, DecisionKind

router = APIRouter(prefix="/v1/models/{model}", tags=["decisions"], responses=documented(404))

EXAMPLE: dict[str, Any] = {
    "number": 12,
    "seq": 10412,
    "at": "2024-05-01T12:00:00.000000Z",
    "kind": "promote",
    "reason": "accuracy 0.9120 against 0.8480 on 250 unseen rows, p = 0.0007",
    "evidence": {"rows": 250, "p": 0.0007},
    "version": 3,
    "code": "0.1.0",
}


class DecisionAnswer(BaseModel):
    """A row of the ledger. ``seq`` is the event at which it was decided, ``code`` what decided."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})
    number: int
    seq: int
    at: IsoTime
    kind: DecisionKind
    reason: str
    evidence: dict[str, Any]
    version: int | None
    code: str


def shape(decision: Decision) -> dict[str, Any]:
    """A decision as the body of an answer."""
    return {
        "number": decision.number,
        "seq": decision.seq,
        "at": iso(decision.at),
        "kind": decision.kind.value,
        "reason": decision.reason,
        "evidence": dict(decision.evidence),
        "version": decision.version,
        "code": decision.code,
    }


@router.get("/decisions", response_model=Listing[DecisionAnswer])
def list_decisions(
    model: str,
    door: TheDoor,
    page: PageWanted,
    kind: Annotated[DecisionKind | None, Query(description="Only decisions of this kind")] = None,
) -> dict[str, Any]:
    """What was decided about a model, newest first."""
    wanted = None if kind is None else kind.value
    return listing(door.parts.ledger.decisions(model, page.cursor, page.limit, wanted), shape)
