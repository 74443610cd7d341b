"""What-ifs over the workers: a job for each setting, and one report."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from everlearn.api import job_groups
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.jobs import JobAnswer
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.errors import InvalidError
from everlearn.types import Job

router = APIRouter(
    prefix="/v1/models/{model}/what-if",
    tags=["jobs"],
    route_class=IdempotentRoute,
    responses=documented(404),
)

Choices = Annotated[list[str | dict[str, Any]], Field(max_length=100)]
Group = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="Which what-if")]


class WhatIfBody(BaseModel):
    """Policies, learners and gates as in a spec, each a name or an object; all combinations are played.

    ``price`` of a training, in rows answered wrongly (default: that of the model's policy).
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"policies": [{"name": "every", "every": 500}], "gates": ["open"]}},
    )
    policies: Choices = []
    learners: Choices = []
    gates: Choices = []
    price: float | None = Field(default=None, ge=0)


class WhatIfAnswer(BaseModel):
    """A what-if: ``state`` is ``queued``, ``running``, ``done`` or ``failed``; ``progress`` from 0 to 1.

    ``report`` is what ``everlearn what-if --json`` prints, once all jobs are done.
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


@router.post("", status_code=202, response_model=WhatIfAnswer, responses=documented(422, 501))
def ask_what_if(
    model: str,
    body: WhatIfBody,
    door: TheDoor,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """Play the recorded log again under other settings, a job for each of them on the queue maintenance."""
    from everlearn.loop.whatif_jobs import plan
    from everlearn.loop.whatif_settings import crossed

    parts, base = door.parts, door.parts.models.get(model)
    head = parts.log.head(model)
    if not head.rows:
        raise InvalidError("The log has no predictions yet: there is nothing to play again")
    settings = crossed(
        base, *(list(map(_choice, given)) for given in (body.policies, body.learners, body.gates))
    )
    group = uuid.uuid4().hex[:12]
    jobs = plan(base, settings, group, head.seq, head.labels, body.price)
    return _answer(group, job_groups.ask_all(door, jobs))


@router.get("/{group}", response_model=WhatIfAnswer)
def get_what_if(model: str, group: Group, door: TheDoor) -> dict[str, Any]:
    """How far a what-if is, and its report once it is done."""
    return _answer(group, _jobs(door, model, group))


@router.post("/{group}/cancel", response_model=WhatIfAnswer)
def cancel_what_if(
    model: str,
    group: Group,
    door: TheDoor,
    key: IdempotencyKey = None,  # noqa: ARG001 - the route's
) -> dict[str, Any]:
    """End those jobs of a what-if that wait or run."""
    job_groups.cancel_all(door, _jobs(door, model, group), "the what-if was cancelled")
    return _answer(group, _jobs(door, model, group))


def _choice(given: str | dict[str, Any]) -> dict[str, Any]:
    return {"name": given} if isinstance(given, str) else given


def _jobs(door: Door, model: str, group: str) -> list[Job]:
    from everlearn.loop.whatif_jobs import job_id

    return job_groups.jobs_of(door, model, group, job_id, "what-if")


def _answer(group: str, jobs: list[Job]) -> dict[str, Any]:
    from everlearn.loop.whatif_jobs import gather, state_of

    report = gather(jobs)
    return job_groups.shown(group, state_of(jobs), jobs, None if report is None else report.to_dict())
