"""Jobs that are asked for together, as what-ifs and backfills are: queued, found, ended and shown as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from everlearn.api.asking import ask_for
from everlearn.api.jobs import shape
from everlearn.api.parts import Door
from everlearn.errors import ConflictError, NotFoundError
from everlearn.ports import all_jobs
from everlearn.types import Job, JobSpec

FEW = 20
"""Jobs that are asked for one by one; more are looked for in the list of all."""

JobId = Callable[[str, str, int], str]
"""The id of a job by model, group and place. The job at place 0 says how many there are (``of``)."""


def ask_all(door: Door, jobs: Sequence[JobSpec]) -> list[Job]:
    """Queue jobs, that at place 0 last: with it the group is there, and whole."""
    others = [ask_for(door, job) for job in jobs[1:]]
    return [ask_for(door, jobs[0]), *others]


def jobs_of(door: Door, model: str, group: str, job_id: JobId, what: str) -> list[Job]:
    """The jobs of a group in their order. Raises NotFoundError where there is none."""
    try:
        first = door.parts.jobs.get(job_id(model, group, 0))
    except NotFoundError:
        raise NotFoundError(f"Model {model!r} has no {what} {group!r}") from None
    wanted = [job_id(model, group, place) for place in range(1, first.spec.arguments["of"])]
    if len(wanted) <= FEW:
        return [first, *map(door.parts.jobs.get, wanted)]
    found = _listed(door, model, wanted)
    return [first, *(found[name] if name in found else door.parts.jobs.get(name) for name in wanted)]


def _listed(door: Door, model: str, wanted: Sequence[str]) -> dict[str, Job]:
    """Jobs by their ids, in as few queries as may be."""
    sought = set(wanted)
    its = (job for job in all_jobs(door.parts.jobs, model) if job.spec.id in sought)
    return {job.spec.id: job for job in islice(its, len(sought))}


def cancel_all(door: Door, jobs: Sequence[Job], why: str) -> None:
    """End those that wait or run."""
    for job in jobs:
        with suppress(ConflictError):  # it has ended
            door.parts.backlog.cancel(job.spec.id, door.parts.clock.now(), why)


def shown(group: str, state: str, jobs: Sequence[Job], report: dict[str, Any] | None) -> dict[str, Any]:
    """The answer: of each job's arguments only its name."""
    return {
        "id": group,
        "state": state,
        "progress": sum(job.progress for job in jobs) / len(jobs),
        "jobs": [{**shape(job), "arguments": {"name": job.spec.arguments["name"]}} for job in jobs],
        "report": report,
    }
