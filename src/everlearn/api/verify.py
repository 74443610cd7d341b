"""The proof of a decision: a worker replays the record up to it, and compares with the ledger."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api.asking import ask_for
from everlearn.api.decisions import Numbered, decision_of
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.errors import NotFoundError
from everlearn.types import Job

router = APIRouter(
    prefix="/v1/models/{model}", tags=["decisions"], route_class=IdempotentRoute, responses=documented(404)
)


class VerifyBody(BaseModel):
    """How thoroughly. ``retrain``: train every version again from the log, and compare the artifacts."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"retrain": False}})
    retrain: bool = False


class Found(BaseModel):
    """What a verification found; ``begins`` is the position that it began after (0: the first event)."""

    identical: bool
    events: int
    decisions: int
    artifacts_checked: int
    differences: list[str]
    begins: int
    unchecked: int
    elsewhere: list[str] = Field(
        default_factory=list, description="Detectors that cannot come out the same on this machine, and why"
    )


class VerificationAnswer(BaseModel):
    """A verification: ``state`` is that of its job, ``found`` is there once it is ``done``."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "spam-verify-3f9a1c2b4d5e",
                "decision": 12,
                "state": "done",
                "progress": 1.0,
                "error": None,
                "found": {
                    "identical": True,
                    "events": 10412,
                    "decisions": 12,
                    "artifacts_checked": 0,
                    "differences": [],
                    "begins": 0,
                    "unchecked": 0,
                    "elsewhere": [],
                },
            }
        }
    )
    id: str
    decision: int
    state: str
    progress: float = Field(description="From 0 to 1")
    error: str | None
    found: Found | None


@router.post("/decisions/{number}/verify", status_code=202, response_model=VerificationAnswer)
def verify_decision(
    model: str,
    number: Numbered,
    door: TheDoor,
    body: VerifyBody | None = None,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """Have a worker replay the record up to a decision and compare every decision with the ledger."""
    from everlearn.loop.verify_jobs import plan

    decision = decision_of(door, model, number)
    retrain = body is not None and body.retrain
    name = f"{model}-verify-{uuid.uuid4().hex[:12]}"
    return _shape(ask_for(door, plan(model, decision, retrain, name)))


@router.get("/verifications/{verification:path}", response_model=VerificationAnswer)
def get_verification(model: str, verification: str, door: TheDoor) -> dict[str, Any]:
    """How far a verification is, and what it found."""
    return _shape(_job(door, model, verification))


def _job(door: Door, model: str, verification: str) -> Job:
    from everlearn.loop.verify_jobs import KIND

    job = door.parts.jobs.get(verification)
    if job.spec.model != model or job.spec.kind != KIND:
        raise NotFoundError(f"Model {model!r} has no verification {verification!r}")
    return job


def _shape(job: Job) -> dict[str, Any]:
    return {
        "id": job.spec.id,
        "decision": job.spec.arguments["decision"],
        "state": job.state.value,
        "progress": job.progress,
        "error": job.error,
        "found": None if job.result is None else dict(job.result),
    }
