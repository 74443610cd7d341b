"""Jobs: the background work that the loop asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso, iso_or_none
from everlearn.errors import NotFoundError
from everlearn.types import Job

router = APIRouter(prefix="/v1/models/{model}", tags=["jobs"], responses=documented(404))


class JobAnswer(BaseModel):
    """A job. ``arguments`` fix its inputs, so that it can be repeated; ``progress`` is from 0 to 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "spam-12",
                "kind": "train",
                "version": 3,
                "state": "done",
                "progress": 1.0,
                "attempts": 1,
                "error": None,
                "created_at": "2024-05-01T12:00:00.000000Z",
                "finished_at": "2024-05-01T12:00:02.500000Z",
                "arguments": {"mode": "fresh", "upto": 10412},
            }
        }
    )
    id: str
    kind: str
    version: int
    state: str
    progress: float
    attempts: int
    error: str | None
    created_at: IsoTime
    finished_at: IsoTime | None
    arguments: dict[str, Any]


def shape(job: Job) -> dict[str, Any]:
    """A job as the body of an answer."""
    return {
        "id": job.spec.id,
        "kind": job.spec.kind,
        "version": job.spec.version,
        "state": job.state.value,
        "progress": job.progress,
        "attempts": job.attempts,
        "error": job.error,
        "created_at": iso(job.created_at),
        "finished_at": iso_or_none(job.finished_at),
        "arguments": dict(job.spec.arguments),
    }


@router.get("/jobs", response_model=Listing[JobAnswer])
def list_jobs(model: str, door: TheDoor, page: PageWanted) -> dict[str, Any]:
    """The jobs of a model, newest first."""
    return listing(door.parts.jobs.list(model, page.cursor, page.limit), shape)


@router.get("/jobs/{job_id:path}", response_model=JobAnswer)
def get_job(model: str, job_id: str, door: TheDoor) -> dict[str, Any]:
    """One job."""
    job = door.parts.jobs.get(job_id)
    if job.spec.model != model:
        raise NotFoundError(f"Model {model!r} has no job {job_id!r}")
    return shape(job)
