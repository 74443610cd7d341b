"""Decisions: the ledger of what the loop decided, why, and on what evidence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict

from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, Since, Until, iso
from everlearn.errors import NotFoundError
from everlearn.types import Decision, DecisionKind, Version

router = APIRouter(prefix="/v1/models/{model}", tags=["decisions"], responses=documented(404))

HISTORY = 1000
"""How many earlier decisions an explanation looks through for what led to one."""

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


class NewestDecision(BaseModel):
    """A decision without its evidence."""

    number: int
    kind: DecisionKind
    at: IsoTime
    reason: str
    version: int | None


class NumberAnswer(BaseModel):
    """A number behind a decision: its path in the evidence, and what it is."""

    name: str
    value: int | float
    meaning: str


class WhyAnswer(DecisionAnswer):
    """A decision explained. ``why_not``: what would have to be different for it to go the other way."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **EXAMPLE,
                "headline": "Version 3 was promoted (decision 12)",
                "paragraph": "This was decided on 2024-05-01 at 12:00:00 UTC at event 10,412 of the log. "
                "Version 3 took over from version 2.",
                "numbers": [{"name": "rows", "value": 250, "meaning": "rows answered by both, or counted"}],
                "why_not": "It would have stayed out with an e-value under 32.9.",
            }
        }
    )
    headline: str
    paragraph: str
    numbers: list[NumberAnswer]
    why_not: str


Numbered = Annotated[int, Path(ge=1, le=2**53, description="A decision's number")]

Which = Annotated[
    Annotated[int, Path(ge=1, le=2**53)] | Literal["newest"],
    Path(description="A decision's number, or `newest`: the newest promotion, rollback or refusal"),
]


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


def brief(decision: Decision) -> dict[str, Any]:
    """A decision without its evidence, as a part of an answer."""
    return {
        "number": decision.number,
        "kind": decision.kind.value,
        "at": iso(decision.at),
        "reason": decision.reason,
        "version": decision.version,
    }


@router.get("/decisions", response_model=Listing[DecisionAnswer])
def list_decisions(
    model: str,
    door: TheDoor,
    page: PageWanted,
    kind: Annotated[
        list[DecisionKind] | None, Query(description="Only decisions of these kinds", max_length=50)
    ] = None,
    since: Since = None,
    until: Until = None,
) -> dict[str, Any]:
    """What was decided about a model, newest first."""
    wanted = None if kind is None else [one.value for one in kind]
    ledger, (cursor, limit) = door.parts.ledger, (page.cursor, page.limit)
    return listing(ledger.decisions(model, cursor, limit, wanted, since=since, until=until), shape)


@router.get("/decisions/{number}/why", response_model=WhyAnswer)
def why(model: str, number: Which, door: TheDoor) -> dict[str, Any]:
    """Why a decision was made: in words, in numbers, and what would have turned it."""
    from everlearn.loop.explain import explain

    spec = door.parts.models.get(model)
    decision = _newest(door, model) if number == "newest" else decision_of(door, model, number)
    told = explain(decision, _around(door, model, decision), spec, _made(door, model, decision))
    return {**shape(decision), **told.to_dict()}


def decision_of(door: Door, model: str, number: int) -> Decision:
    """One decision; raises NotFoundError."""
    found = door.parts.ledger.decisions(model, str(number + 1), 1).items
    if not found or found[0].number != number:
        raise NotFoundError(f"Model {model!r} has no decision {number}")
    return found[0]


def _newest(door: Door, model: str) -> Decision:
    from everlearn.loop.explain import NEWSWORTHY, newest

    each = [door.parts.ledger.decisions(model, None, 1, kind.value).items for kind in NEWSWORTHY]
    decision = newest([one for found in each for one in found])
    if decision is None:
        raise NotFoundError(f"Model {model!r} has promoted, refused or rolled back nothing yet")
    return decision


def _around(door: Door, model: str, decision: Decision) -> list[Decision]:
    """The decisions before it, and the newest change of the spec."""
    ledger = door.parts.ledger
    earlier = ledger.decisions(model, str(decision.number), HISTORY).items
    return [*earlier, *ledger.decisions(model, None, 1, DecisionKind.CONFIGURE.value).items]


def _made(door: Door, model: str, decision: Decision) -> Version | None:
    if decision.version is None:
        return None
    try:
        return door.parts.versions.get(model, decision.version)
    except NotFoundError:  # refused before it was trained, say
        return None
