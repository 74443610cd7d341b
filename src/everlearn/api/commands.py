"""Commands: what an operator asks of the loop, and the loop's answer.

A command is an event like any other. The loop decides about it at its position in the log, so the
answer waits until the loop has read that far.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from starlette.concurrency import run_in_threadpool

from everlearn.api.auth import Caller, Principal
from everlearn.api.decisions import EXAMPLE, DecisionAnswer, shape
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.versions import Number
from everlearn.errors import ConflictError
from everlearn.types import Decision, DecisionKind, EventKind, NewEvent

LOOK_EVERY = 0.03
"""Seconds between looks at how far the loop has read."""

PENDING: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Recorded, but the loop has not read it yet: look at the decisions later",
        "content": {
            "application/json": {"example": {"accepted": 10413, "detail": "The loop has not read it yet"}}
        },
    }
}

router = APIRouter(
    prefix="/v1/models/{model}",
    tags=["commands"],
    route_class=IdempotentRoute,
    responses={**PENDING, **documented(404, 409, 503)},
)

Wait = Annotated[float, Query(ge=0, le=60, description="How many seconds to wait for the loop's decision")]


class CommandBody(BaseModel):
    """Why it is asked for: it stands in the ledger."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "the labels of May were wrong"}}
    )
    why: str | None = Field(default=None, max_length=1000)


class RetrainBody(CommandBody):
    """``force`` retrains even where the performance keeps the threshold."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"force": True}})
    force: StrictBool = False


class CommandAnswer(BaseModel):
    """What the loop decided. ``skipped``: a retrain that was not needed."""

    model_config = ConfigDict(json_schema_extra={"example": {"decision": EXAMPLE}})
    decision: DecisionAnswer
    skipped: bool | None = None


async def command(
    door: Door, caller: Principal, key: str | None, model: str, name: str, arguments: Mapping[str, Any]
) -> int:
    """Record a command; its position in the log."""
    given = {key: value for key, value in arguments.items() if value is not None}
    body = {"name": name, "arguments": {**given, "by": caller.name}}
    event = NewEvent(EventKind.COMMAND, door.parts.clock.now(), f"{name}:{key}" if key else None, body)
    receipts = await door.writer.append(model, [event])
    seq = receipts[0].seq
    assert seq is not None
    return seq


async def decided(door: Door, model: str, seq: int, wait: float) -> Decision | None:
    """The loop's decision about a command, or ``None`` if it has not read that far in time."""
    until = time.monotonic() + wait
    while True:
        decision = await run_in_threadpool(_decision_at, door, model, seq)
        if decision is not None or time.monotonic() >= until:
            return decision
        await asyncio.sleep(LOOK_EVERY)


def _decision_at(door: Door, model: str, seq: int) -> Decision | None:
    """The first decision at a position: that of the event itself, before what it led to."""
    found: Decision | None = None
    cursor: str | None = None
    while True:
        page = door.parts.ledger.decisions(model, cursor, 20)
        for decision in page.items:
            if decision.seq < seq:
                return found
            found = decision if decision.seq == seq else found
        cursor = page.next
        if cursor is None:
            return found


async def told(door: Door, model: str, seq: int, wait: float) -> Response | dict[str, Any]:
    """The answer to a command: decided, or not yet. Raises ConflictError where the loop refused it."""
    decision = await decided(door, model, seq, wait)
    if decision is None:
        detail = "The loop has not read it yet: look at the decisions later, and at whether the worker runs"
        return Response(
            f'{{"accepted":{seq},"detail":"{detail}"}}', status_code=202, media_type="application/json"
        )
    if decision.kind is DecisionKind.REFUSE:
        raise ConflictError(f"Refused: {decision.reason}")
    if decision.kind in (DecisionKind.PROMOTE, DecisionKind.ROLLBACK):
        await run_in_threadpool(door.runtime.refresh, model)
    answer: dict[str, Any] = {"decision": shape(decision)}
    return {**answer, "skipped": True} if decision.kind is DecisionKind.HOLD else answer


@router.post("/versions/{version}/promote", response_model=CommandAnswer, response_model_exclude_unset=True)
async def promote(
    model: str,
    version: Number,
    door: TheDoor,
    caller: Caller,
    body: CommandBody | None = None,
    wait: Wait = 10,
    key: IdempotencyKey = None,
) -> Any:
    """Let a version answer, whatever the gate said."""
    await run_in_threadpool(door.parts.versions.get, model, version)
    arguments = {"version": version, "why": body and body.why}
    return await told(door, model, await command(door, caller, key, model, "promote", arguments), wait)


def _simple(name: str, summary: str) -> None:
    async def ask(
        model: str,
        door: TheDoor,
        caller: Caller,
        body: CommandBody | None = None,
        wait: Wait = 10,
        key: IdempotencyKey = None,
    ) -> Any:
        arguments = {"why": body and body.why}
        return await told(door, model, await command(door, caller, key, model, name, arguments), wait)

    router.add_api_route(
        f"/{name}",
        ask,
        methods=["POST"],
        name=name,
        description=summary,
        response_model=CommandAnswer,
        response_model_exclude_unset=True,
    )


_simple("rollback", "Go back to the champion before this one.")
_simple("freeze", "Decide nothing by itself until it is unfrozen; predictions and labels go on.")
_simple("unfreeze", "Let the loop decide again.")


@router.post("/retrain", response_model=CommandAnswer, response_model_exclude_unset=True)
async def retrain(
    model: str,
    door: TheDoor,
    caller: Caller,
    body: RetrainBody | None = None,
    wait: Wait = 10,
    key: IdempotencyKey = None,
) -> Any:
    """Learn a new candidate, unless the performance keeps the threshold; the gate decides about it later."""
    asked = body or RetrainBody()
    arguments = {"force": asked.force, "why": asked.why}
    return await told(door, model, await command(door, caller, key, model, "retrain", arguments), wait)
