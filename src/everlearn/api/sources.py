"""Sources: who gives a model's labels, what speaks against them, and how they are put aside."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api.auth import Caller
from everlearn.api.commands import PENDING, CommandAnswer, CommandBody, Wait, command, told
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented

router = APIRouter(
    prefix="/v1/models/{model}/sources",
    tags=["sources"],
    route_class=IdempotentRoute,
    responses=documented(404),
)

_WRITES: dict[int | str, dict[str, Any]] = {**PENDING, **documented(409, 503)}

Name = Annotated[
    str,
    Path(
        pattern=r"^[!-.0-~]{1,200}$",
        description="Who gave the labels, as they are listed: `key:ID`, `user:NAME`, or `key`",
    ),
]

_SOURCE: dict[str, Any] = {
    "source": "key:3f9a1c2b4d5e",
    "state": "quarantined",
    "labels": 1204,
    "examples": 0,
    "left_out": 902,
    "share": 0.24,
    "disagreement": 0.49,
    "others": 0.11,
    "first": 31,
    "last": 9312,
    "without_from": 0,
}


class SourceAnswer(BaseModel):
    """One source. ``labels`` and ``examples`` that it gave, ``left_out`` of them while it was put aside.

    ``share`` is its part of all labels that were let in lately; ``disagreement`` how often its newest labels
    said that the answer was wrong, ``others`` the same of all other sources (null while there are too few
    labels; for regression the loss, from 0 to 1). ``first`` and ``last`` are positions in the log, and so is
    ``without_from``, from which on nothing of it is learned (null: all is).
    """

    model_config = ConfigDict(json_schema_extra={"example": _SOURCE})
    source: str
    state: str
    labels: int
    examples: int
    left_out: int
    share: float | None
    disagreement: float | None
    others: float | None
    first: int
    last: int
    without_from: int | None


class SourcesAnswer(BaseModel):
    """The sources in the order in which they came, and what the guard does."""

    model_config = ConfigDict(json_schema_extra={"example": {"guard": "quarantine", "items": [_SOURCE]}})
    guard: str
    items: list[SourceAnswer]


class UnlearnBody(CommandBody):
    """``since``: the position from which on what the source gave is taken back (default: all of it)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"since": 0, "why": "its key was stolen"}}
    )
    since: Annotated[int, Field(ge=0, strict=True)] | None = None


@router.get("", response_model=SourcesAnswer)
def list_sources(model: str, door: TheDoor) -> dict[str, Any]:
    """Who gives the labels, as far as the loop has read the log; at most 100 are told apart."""
    from everlearn.loop.sources import table
    from everlearn.loop.state import load

    guard = door.parts.models.get(model).feedback.guard
    return {"guard": guard, "items": table(load(door.parts.ledger.checkpoint(model).state).feedback)}


def _simple(name: str, summary: str) -> None:
    async def ask(
        model: str,
        source: Name,
        door: TheDoor,
        caller: Caller,
        body: CommandBody | None = None,
        wait: Wait = 10,
        key: IdempotencyKey = None,
    ) -> Any:
        arguments = {"source": source, "why": body and body.why}
        return await told(door, model, await command(door, caller, key, model, name, arguments), wait)

    router.add_api_route(
        f"/{{source}}/{name}",
        ask,
        methods=["POST"],
        name=name,
        description=summary,
        response_model=CommandAnswer,
        response_model_exclude_unset=True,
        responses=_WRITES,
    )


_simple("quarantine", "Put a source aside: what it gives is stored, but neither learned nor scored.")
_simple("release", "Let a source in again: what it gave is learned again, and scored from now on.")


@router.post(
    "/{source}/unlearn", response_model=CommandAnswer, response_model_exclude_unset=True, responses=_WRITES
)
async def unlearn(
    model: str,
    source: Name,
    door: TheDoor,
    caller: Caller,
    body: UnlearnBody | None = None,
    wait: Wait = 10,
    key: IdempotencyKey = None,
) -> Any:
    """Take back what a source gave: the versions that learned from it are withdrawn, and one without it is
    asked for."""
    asked = body or UnlearnBody()
    arguments = {"source": source, "since": asked.since, "why": asked.why}
    return await told(door, model, await command(door, caller, key, model, "unlearn", arguments), wait)
