"""Labels as tables: the columns ``id``, ``value``, and if wanted ``correction`` and ``at``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from everlearn.adapters.batches import LabelBatch
from everlearn.api.answers import recorded_rows
from everlearn.api.auth import Caller, Principal
from everlearn.api.bulk_columns import Named, checked_flags, checked_ids, checked_times, checked_values
from everlearn.api.idempotency import IdempotencyKey, key_of
from everlearn.api.labels import tell
from everlearn.api.parts import Door, TheDoor
from everlearn.api.runtime import Served
from everlearn.api.table_parts import Kinds, Part
from everlearn.api.uploads import TableRoute, Upload, checked_first, received
from everlearn.errors import UnavailableError
from everlearn.features.schema import Schema

router = APIRouter(prefix="/v1/models/{model}", tags=["labels"], route_class=TableRoute)

_KINDS: Kinds = {"id": "text", "value": "value", "correction": "boolean", "at": "timestamp"}
_ID, _VALUE = Named("id", required=True), Named("value", required=True)
_CORRECTION, _AT = Named("correction"), Named("at")


@router.post("/labels", include_in_schema=False)
async def label_table(
    model: str, request: Request, door: TheDoor, caller: Caller, _: IdempotencyKey = None
) -> Response:
    """Tell the truth by a table; told in full with the JSON route of this path."""
    served = await door.runtime.served(model)
    key = key_of(request)
    upload = await received(request)
    try:
        before = await door.idempotency.recall(request, key, upload.digest) if key else None
        if before is not None:
            return before
        told, headers = await run_in_threadpool(_store, door, served, upload, caller)
    finally:
        upload.close()
    response = Response(msgspec.json.encode(told), media_type="application/json", headers=headers)
    return await door.idempotency.remember(request, key, upload.digest, response) if key else response


def _store(
    door: Door, served: Served, upload: Upload, caller: Principal
) -> tuple[dict[str, Any], dict[str, str]]:
    """Check all labels, then record them chunk by chunk; what became of them, and headers."""
    now, seen = door.parts.clock.now(), 0

    def batches() -> Iterator[tuple[int, LabelBatch]]:
        parts = upload.parts(_KINDS)
        return ((part.start, _batch(part, served.schema, now, caller.name)) for part in parts)

    def counted(found: tuple[int, LabelBatch]) -> tuple[int, LabelBatch]:
        nonlocal seen
        seen = found[0] + len(found[1])  # where it ends in the table: the same when it is read again
        return found

    told: dict[str, Any] = {"accepted": 0, "duplicate": 0, "conflict": [], "parked": []}
    checked = checked_first(lambda: map(counted, batches()))
    headers = door.quotas.take(caller, seen, now)
    for start, batch in checked:
        try:
            receipts = door.parts.log.append(served.spec.name, batch, flush=served.spec.durability == "sync")
        except UnavailableError as error:
            raise UnavailableError(f"{error.detail}. {recorded_rows(start)}") from None
        door.instruments.labelled(receipts)
        for name, found in tell(batch.ids, receipts).items():
            told[name] = told[name] + found if name in told else found
    return told, headers


def _batch(part: Part, schema: Schema, now: float, source: str) -> LabelBatch:
    ids = checked_ids(part, _ID)
    assert ids is not None  # the column is required
    values = checked_values(part, _VALUE, schema)
    times, corrections = checked_times(part, _AT, now), checked_flags(part, _CORRECTION)
    return LabelBatch(ids, times, values, corrections, source)
