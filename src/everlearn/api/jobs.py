"""Jobs: the background work that the loop asked for, and what an operator does about it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api.auth import Caller
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso, iso_or_none
from everlearn.errors import NotFoundError
from everlearn.types import Job

router = APIRouter(
    prefix="/v1/models/{model}",
    tags=["jobs"],
    route_class=IdempotentRoute,
    responses=documented(404),
)

_JOB: dict[str, Any] = {
    "id": "spam-12",
    "kind": "train",
    "queue": "train",
    "version": 3,
    "state": "done",
    "progress": 1.0,
    "attempts": 1,
    "error": None,
    "created_at": "2024-05-01T12:00:00.000000Z",
    "started_at": "2024-05-01T12:00:01.200000Z",
    "finished_at": "2024-05-01T12:00:02.500000Z",
    "arguments": {"mode": "fresh", "upto": 10412},
}


class JobAnswer(BaseModel):
    """A job. ``arguments`` fix its inputs, so that it can be repeated; ``progress`` is from 0 to 1.

    ``state``: ``queued``, ``running``, ``done``, ``failed`` (it cannot be done), ``dead`` (it went wrong in
    every attempt) or ``cancelled``.
    """

    model_config = ConfigDict(json_schema_extra={"example": _JOB})
    id: str
    kind: str
    queue: str
    version: int
    state: str
    progress: float
    attempts: int
    error: str | None
    created_at: IsoTime
    started_at: IsoTime | None
    finished_at: IsoTime | None
    arguments: dict[str, Any]


class WholeJobAnswer(JobAnswer):
    """A job with where its last error came from, and what it found if no loop asked for it."""

    model_config = ConfigDict(json_schema_extra={"example": {**_JOB, "traceback": None, "result": None}})
    traceback: str | None
    result: dict[str, Any] | None


class CancelBody(BaseModel):
    """Why it is cancelled: the loop is told."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"why": "the wrong learner"}})
    why: str | None = Field(default=None, max_length=1000)


def shape(job: Job) -> dict[str, Any]:
    """A job as the body of an answer."""
    return {
        "id": job.spec.id,
        "kind": job.spec.kind,
        "queue": job.queue,
        "version": job.spec.version,
        "state": job.state.value,
        "progress": job.progress,
        "attempts": job.attempts,
        "error": job.error,
        "created_at": iso(job.created_at),
        "started_at": iso_or_none(job.started_at),
        "finished_at": iso_or_none(job.finished_at),
        "arguments": dict(job.spec.arguments),
    }


@router.get("/jobs", response_model=Listing[JobAnswer])
def list_jobs(model: str, door: TheDoor, page: PageWanted) -> dict[str, Any]:
    """The jobs of a model, newest first."""
    return listing(door.parts.jobs.list(model, page.cursor, page.limit), shape)


@router.get("/jobs/{job_id:path}", response_model=WholeJobAnswer)
def get_job(model: str, job_id: str, door: TheDoor) -> dict[str, Any]:
    """One job."""
    return whole(_job(door, model, job_id))


@router.post("/jobs/{job_id:path}/cancel", response_model=WholeJobAnswer, responses=documented(409))
def cancel_job(
    model: str,
    job_id: str,
    door: TheDoor,
    caller: Caller,
    body: CancelBody | None = None,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """End a job that waits or runs. Its loop is told, and goes on."""
    _job(door, model, job_id)
    why = f"cancelled by {caller.name}" + (f": {body.why}" if body and body.why else "")
    return whole(door.parts.backlog.cancel(job_id, door.parts.clock.now(), why))


@router.post("/jobs/{job_id:path}/retry", response_model=WholeJobAnswer, responses=documented(409))
def retry_job(
    model: str,
    job_id: str,
    door: TheDoor,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """Queue a job again that is dead, failed or cancelled.

    The loop has gone on since it ended: a version that it makes now is kept, but not put on trial. To have
    the loop learn anew, ask for a retrain.
    """
    _job(door, model, job_id)
    return whole(door.parts.backlog.retry(job_id, door.parts.clock.now()))


def whole(job: Job) -> dict[str, Any]:
    """A job with all that is known of it as the body of an answer."""
    result = None if job.result is None else dict(job.result)
    return {**shape(job), "traceback": job.traceback, "result": result}


def _job(door: Door, model: str, job_id: str) -> Job:
    job = door.parts.jobs.get(job_id)
    if job.spec.model != model:
        raise NotFoundError(f"Model {model!r} has no job {job_id!r}")
    return job
