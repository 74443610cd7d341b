"""Labels: the truth for predictions, in any order, at any time, repeated or for ids not yet known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from everlearn.api.auth import Caller, Principal
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import Time
from everlearn.api.values import Id, Value
from everlearn.errors import Fault, SchemaError
from everlearn.features.schema import Schema
from everlearn.types import EventKind, NewEvent, Receipt, Scalar, Status

router = APIRouter(prefix="/v1/models/{model}", tags=["labels"], route_class=IdempotentRoute)

MAX_LABELS = 10_000


class LabelBody(BaseModel):
    """The truth for one prediction id. ``correction`` replaces a label that was wrong."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    value: Value
    correction: StrictBool = False
    at: Time | None = Field(default=None, description="When it became known (default: now)")


class LabelsBody(BaseModel):
    """Labels, in the order in which they became known."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"labels": [{"id": "mail-17", "value": "spam"}]}}
    )
    labels: Annotated[list[LabelBody], Field(min_length=1, max_length=MAX_LABELS)]


class LabelsAnswer(BaseModel):
    """What became of the labels.

    ``duplicate``: the same was known already. ``conflict``: another value is known, and this one was
    not marked as a correction; it was not stored. ``parked``: no such prediction yet; kept until it comes.
    ``erased``: the prediction was erased, so the label was not stored.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": {"accepted": 1, "duplicate": 0, "conflict": [], "parked": []}}
    )
    accepted: int
    duplicate: int
    conflict: list[str]
    parked: list[str]
    erased: list[str] | None = Field(default=None, description="Left out where there are none")


@router.post("/labels", response_model=LabelsAnswer, responses=documented(404, 413, 503))
async def add_labels(
    model: str, body: LabelsBody, door: TheDoor, caller: Caller, _: IdempotencyKey = None
) -> Response:
    """Tell the truth for predictions. A label of the wrong type refuses the whole request."""
    now = door.parts.clock.now()
    told, headers = await record_labels(
        door,
        model,
        [label.id for label in body.labels],
        [label.value for label in body.labels],
        [label.correction for label in body.labels],
        [now if label.at is None else label.at for label in body.labels],
        caller,
    )
    return Response(msgspec.json.encode(told), media_type="application/json", headers=headers)


async def record_labels(
    door: Door,
    model: str,
    ids: Sequence[str],
    values: Sequence[Scalar],
    corrections: Sequence[bool],
    times: Sequence[float],
    caller: Principal,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Store labels as the caller's, and return what they are told, with headers. With ``durability: async``
    they are waited for, too.

    Raises SchemaError for values of the wrong type, NotFoundError, QuotaError, and UnavailableError.
    """
    served = await door.runtime.served(model)
    source, values = caller.name, check(served.schema, values)
    headers = door.quotas.take(caller, len(ids), door.parts.clock.now())
    events = label_events(ids, values, corrections, times, source)
    receipts = await door.writer.append(model, events, flush=served.spec.durability == "sync")
    door.instruments.labelled(receipts)
    return tell(ids, receipts), headers


def label_events(
    ids: Sequence[str],
    values: Sequence[Scalar],
    corrections: Sequence[bool],
    times: Sequence[float],
    source: str,
) -> list[NewEvent]:
    """Labels as the log takes them, all of one source."""
    return [
        NewEvent(EventKind.LABEL, at, key, {"value": value, "correction": correction, "source": source})
        for key, value, correction, at in zip(ids, values, corrections, times, strict=True)
    ]


def check(schema: Schema, values: Sequence[Scalar]) -> list[Scalar]:
    """Canonical values; raises SchemaError that names ``labels[i].value``."""
    try:
        return schema.check_target(values)
    except SchemaError as error:
        faults = [Fault(_renamed(fault.field), fault.message) for fault in error.faults]
        raise SchemaError(_renamed(error.detail), faults) from None


def _renamed(text: str) -> str:
    return re.sub(r"targets\[(\d+)\]", r"labels[\1].value", text)


def tell(ids: Sequence[str], receipts: Sequence[Receipt]) -> dict[str, Any]:
    """The receipts as the body of an answer."""
    by_status: dict[Status, list[str]] = {status: [] for status in Status}
    for key, receipt in zip(ids, receipts, strict=True):
        by_status[receipt.status].append(key)
    told: dict[str, Any] = {
        "accepted": len(by_status[Status.ACCEPTED]),
        "duplicate": len(by_status[Status.DUPLICATE]),
        "conflict": by_status[Status.CONFLICT],
        "parked": by_status[Status.PARKED],
    }
    return told | ({"erased": found} if (found := by_status[Status.ERASED]) else {})
