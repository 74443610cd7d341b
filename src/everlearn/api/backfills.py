"""Backfills: a version answers a stretch of its log after the fact, in parts on the workers."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api import formats, job_groups
from everlearn.api.auth import Caller
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.jobs import JobAnswer
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import Time
from everlearn.errors import ConflictError, NotFoundError
from everlearn.loop.backfill_columns import MOST_ROWS, PART_ROWS
from everlearn.types import Job, JobSpec

if TYPE_CHECKING:
    from everlearn.loop.backfill_columns import Columns

router = APIRouter(
    prefix="/v1/models/{model}/backfills",
    tags=["jobs"],
    route_class=IdempotentRoute,
    responses=documented(404),
)

Group = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="Which backfill")]
Position = Annotated[int, Field(ge=0)]

_ROW = (
    '{"id": "mail-17", "at": "2024-05-01T12:00:00.000000Z", "position": 412, "served": {"version": 3, '
    '"value": "ham"}, "version": 7, "value": "spam", "probabilities": {"ham": 0.2, "spam": 0.8}, '
    '"label": "spam"}\n'
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows, in the order of the log",
        "content": {
            formats.NDJSON: {"schema": {"type": "string"}, "example": _ROW},
            formats.CSV: {"schema": {"type": "string"}},
            formats.ARROW: _BINARY,
            formats.PARQUET: _BINARY,
        },
    }
}


class BackfillBody(BaseModel):
    """Which version answers (default: the champion), and what: the predictions at positions of the log after
    ``after`` and up to ``upto``, and of these the ones made from ``since`` to ``until``; all by default.

    A part is a job, of at most ``part_rows`` positions; there may be 1,000 of them.
    """

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"version": 7, "since": "2024-05-01T00:00:00Z"}}
    )
    version: Position | None = None
    after: Position | None = None
    upto: Position | None = None
    since: Time | None = None
    until: Time | None = None
    part_rows: int = Field(default=PART_ROWS, ge=1, le=MOST_ROWS)


class BackfillAnswer(BaseModel):
    """A backfill. ``state`` is ``queued``, ``running``, ``done``, ``failed`` (a part was not done, and its
    job says why), ``cancelled`` or ``erased``; ``progress`` is from 0 to 1.

    ``report``, once all parts are done: ``rows`` and ``labels``, the ``scores`` of the version and of what
    was served on the same labelled rows, their ``agreement`` as a share of all rows, and ``parts`` with the
    model's ``metric`` of both, to be drawn over time.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"id": "3f9a1c2b4d5e", "state": "queued", "progress": 0.0, "jobs": [], "report": None}
        }
    )
    id: str
    state: str
    progress: float
    jobs: list[JobAnswer]
    report: dict[str, Any] | None


@router.post("", status_code=202, response_model=BackfillAnswer, responses=documented(409, 422))
def ask_backfill(
    model: str, body: BackfillBody, door: TheDoor, caller: Caller, key: IdempotencyKey = None
) -> dict[str, Any]:
    """Have a version answer a stretch of the log, a job for each part of it on the queue maintenance.

    Labels are those known now. Nothing is added to the log. Sent again under the same key, it is the same
    backfill.
    """
    fresh = uuid.uuid4().hex[:12]
    group = fresh if key is None else _group_of(caller.name, model, key, body)
    try:
        return _answer(group, _jobs(door, model, group))
    except NotFoundError:
        jobs = _planned(door, model, body, group)
    try:
        return _answer(group, job_groups.ask_all(door, jobs))
    except ConflictError:  # it was asked for a moment ago, and broke off or is not yet all there
        return _answer(fresh, job_groups.ask_all(door, _planned(door, model, body, fresh)))


@router.get("/{group}", response_model=BackfillAnswer)
def get_backfill(model: str, group: Group, door: TheDoor) -> dict[str, Any]:
    """How far a backfill is, and its report once it is done."""
    return _answer(group, _jobs(door, model, group))


@router.post("/{group}/cancel", response_model=BackfillAnswer)
def cancel_backfill(
    model: str,
    group: Group,
    door: TheDoor,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """End those parts of a backfill that wait or run."""
    job_groups.cancel_all(door, _jobs(door, model, group), "the backfill was cancelled")
    return _answer(group, _jobs(door, model, group))


@router.get(
    "/{group}/rows",
    response_class=StreamingResponse,
    responses={**_ROWS, **documented(406, 409, 501)},
)
def get_backfill_rows(model: str, group: Group, door: TheDoor, request: Request) -> StreamingResponse:
    """The rows of a backfill that is done, in the order of the log: each as it was served, as this version
    answers it, and its label. `Accept` names the format: NDJSON (the default), CSV, Arrow or Parquet.
    """
    from everlearn.api.backfill_rows import Shape, writer, written
    from everlearn.loop.backfill_columns import common_kind

    kind = formats.answer_type(request.scope, formats.NDJSON, formats.TABLES)
    jobs = _jobs(door, model, group)
    _check_done(door, model, group, jobs)
    asked, found = jobs[0].spec.arguments, [job.result or {} for job in jobs]
    filled = [job for job, part in zip(jobs, found, strict=True) if part["rows"]]
    keys = next(_columns(door, filled), None)
    types = {name for part in found for name in part["kinds"]}
    made = Shape(asked["version"], keys.keys if keys else (), common_kind(types, asked["task"]))
    chunks = written(writer(kind, made), _columns(door, filled))
    first = next(chunks, b"")  # what cannot be read is told before the answer begins
    return StreamingResponse(chain([first], chunks), media_type=kind)


def _group_of(caller: str, model: str, key: str, body: BackfillBody) -> str:
    said = "\0".join((caller, model, key, body.model_dump_json()))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _planned(door: Door, model: str, body: BackfillBody, group: str) -> list[JobSpec]:
    """The jobs of a backfill, of the log as it is now."""
    from everlearn.loop.backfill_plan import check_task, check_version, plan, stretch_of

    parts, spec = door.parts, door.parts.models.get(model)
    check_task(spec)
    number = parts.versions.champion(model).version if body.version is None else body.version
    version = parts.versions.get(model, number)
    check_version(version)
    head = parts.log.head(model)
    stretch = stretch_of(head, _kept_from(door, model), body.after, body.upto, body.since, body.until)
    return plan(spec, version, stretch, head.seq, body.part_rows, group)


def _kept_from(door: Door, model: str) -> int:
    retention = getattr(door.parts, "retention", None)  # a store in memory drops nothing
    floor = None if retention is None else retention.floor(model)
    return 0 if floor is None else int(floor.kept_from)


def _jobs(door: Door, model: str, group: str) -> list[Job]:
    from everlearn.loop.backfill_plan import job_id

    return job_groups.jobs_of(door, model, group, job_id, "backfill")


def _check_done(door: Door, model: str, group: str, jobs: Sequence[Job]) -> None:
    from everlearn.loop.backfill_report import state_of

    state, known = state_of(jobs), jobs[0].spec.arguments["known"]
    if state == "erased" or any(erasure.seq > known for erasure in door.parts.erasures.list(model)):
        raise NotFoundError(f"Rows of {model!r} were erased since backfill {group!r}: ask for a new one")
    if state != "done":
        done = sum(job.finished_at is not None for job in jobs)
        raise ConflictError(
            f"The backfill is {state} ({done} of {len(jobs)} parts): its rows are not all there"
        )


def _columns(door: Door, jobs: Sequence[Job]) -> Iterator[Columns]:
    """The answers of parts, one at a time, each verified when it is read."""
    from everlearn.loop.backfill_columns import columns_of

    return (columns_of(door.parts.artifacts.get((job.result or {})["digest"])) for job in jobs)


def _answer(group: str, jobs: Sequence[Job]) -> dict[str, Any]:
    from everlearn.loop.backfill_report import gather, state_of

    return job_groups.shown(group, state_of(jobs), jobs, gather(jobs))
