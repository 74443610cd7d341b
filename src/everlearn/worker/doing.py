"""Doing a job: the same in a process of its own and in the worker's."""

from __future__ import annotations

from typing import Any, Protocol

from everlearn.loop import backfill_columns, backfill_jobs, drive, hindsight, verify_jobs, whatif_jobs
from everlearn.loop.training import Progress
from everlearn.mending import try_to_mend
from everlearn.types import Floor, JobSpec
from everlearn.worker.parts import Parts


class Doer(Protocol):
    """Who does jobs, one at a time."""

    def do(self, job: JobSpec, progress: Progress) -> drive.Done:
        """Do one. ``progress`` is told how far it is, often, and may end it by an error of its own.

        Raises Failure for what went wrong, and Stopped after :meth:`stop`.
        """
        ...

    def stop(self) -> None:
        """Ask it to stop, from any thread or signal handler: what it does is given up."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class InProcess:
    """Does jobs in this process, without limits: for tests, and where there are no other processes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def do(self, job: JobSpec, progress: Progress) -> drive.Done:
        """See :class:`Doer`; errors are those of the job itself."""
        return perform(job, self._parts, progress)

    def stop(self) -> None:
        """What is being done here cannot be stopped."""

    def close(self) -> None:
        """Nothing is held."""


def perform(job: JobSpec, parts: Parts, progress: Progress) -> drive.Done:
    """Do a job from the ports of an installation; nothing but artifacts is written."""
    if job.kind == whatif_jobs.KIND:
        found = whatif_jobs.work(job.model, job.arguments, parts.log, parts.clock.now, progress)
        return drive.Done(result=found)
    if job.kind == hindsight.KIND:
        return drive.Done(result=_in_hindsight(job, parts, progress))
    if job.kind == verify_jobs.KIND:
        return drive.Done(result=_verified(job, parts, progress))
    if job.kind == backfill_columns.KIND:
        return drive.Done(result=_backfilled(job, parts, progress))
    try_to_mend(job.model, job.arguments.get("champion", 0), parts)
    return drive.do_job(
        job,
        log=parts.log,
        versions=parts.versions,
        artifacts=parts.artifacts,
        clock=parts.clock,
        progress=progress,
    )


def _in_hindsight(job: JobSpec, parts: Parts, progress: Progress) -> dict[str, Any]:
    """Fill in what the first version would have scored."""
    return hindsight.work(
        parts.models.get(job.model),
        job.arguments,
        log=parts.log,
        scores=parts.scores,
        versions=parts.versions,
        artifacts=parts.artifacts,
        progress=progress,
    )


def _backfilled(job: JobSpec, parts: Parts, progress: Progress) -> dict[str, Any]:
    """Answer a stretch of the log after the fact."""
    floor = _floor(job.model, parts)
    return backfill_jobs.work(
        job.model,
        job.arguments,
        log=parts.log,
        versions=parts.versions,
        artifacts=parts.artifacts,
        erasures=parts.erasures,
        kept_from=0 if floor is None else floor.kept_from,
        now=parts.clock.now,
        progress=progress,
    )


def _floor(model: str, parts: Parts) -> Floor | None:
    """How far the log has been thinned out, if it has."""
    retention = getattr(parts, "retention", None)  # a store in memory drops nothing
    return None if retention is None else retention.floor(model)


def _verified(job: JobSpec, parts: Parts, progress: Progress) -> dict[str, Any]:
    """Replay a record from where it begins, and compare."""
    floor = _floor(job.model, parts)
    return verify_jobs.work(
        job.model,
        job.arguments,
        log=parts.log,
        ledger=parts.ledger,
        versions=parts.versions,
        artifacts=parts.artifacts,
        floor=None if floor is None else floor.checkpoint,
        kept_from=0 if floor is None else floor.known_from,
        progress=progress,
    )
