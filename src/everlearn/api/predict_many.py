"""Many rows of one JSON request: answered as a table is, by whole columns and in a thread of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool

from everlearn.adapters.group_commit import conflict
from everlearn.api.answers import FreshIds, Recorder
from everlearn.api.parts import Door
from everlearn.api.runtime import Served
from everlearn.api.table_write import NdjsonWriter
from everlearn.features.columns import check_rows

MANY = 256
"""Rows from which on this is the faster way."""


async def record_many(
    door: Door,
    served: Served,
    rows: Sequence[Mapping[str, Any]],
    ids: Sequence[str] | None,
    times: Sequence[float],
) -> dict[str, Any]:
    """Answer rows, store the answers, and return the body of the answer, as for few rows.

    Raises SchemaError for rows that do not fit, ConflictError for ids that are known with other features,
    with nothing stored, and UnavailableError.
    """
    return await run_in_threadpool(_recorded, door, served, rows, ids, times)


def _recorded(
    door: Door,
    served: Served,
    rows: Sequence[Mapping[str, Any]],
    ids: Sequence[str] | None,
    times: Sequence[float],
) -> dict[str, Any]:
    checked = check_rows(served.schema, rows)
    recorder = Recorder(door, served, fresh=ids is None, clash=lambda found, _: conflict(found))
    named = FreshIds().take(0, len(rows)) if ids is None else list(ids)
    answers = recorder.record(checked.rows, named, times, 0)
    told = "[" + ",".join(NdjsonWriter(served).objects(answers)) + "]"
    body: dict[str, Any] = {"model": served.spec.name, "predictions": msgspec.Raw(told.encode())}
    if checked.ignored:
        body["ignored_columns"] = dict(checked.ignored)
    return body
