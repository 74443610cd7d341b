"""An erasure ends the backfills of its model, and removes what they answered.

Those alone that were asked for before it: whoever asks later reads a log without the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from everlearn.errors import ConflictError, IntegrityError, NotFoundError
from everlearn.loop.backfill_columns import KIND, is_answers
from everlearn.loop.backfill_report import answers_of
from everlearn.loop.erasing_jobs import SLACK
from everlearn.ports import Artifacts, Backlog, Jobs, all_jobs
from everlearn.types import ENDED, Erasure, Job, JobState

WHY = "rows that it may have read are erased"


def remove(erasure: Erasure, jobs: Jobs, backlog: Backlog, artifacts: Artifacts, now: float) -> int:
    """End backfills and remove their answers; how many there were. Harmless when repeated.

    What the jobs themselves tell is scrubbed by the store. A part that was at work when it was ended removes
    its own answers; where it died before it could, they are found by the time at which they were put.
    """
    older = list(_earlier(erasure, jobs))
    for job in older:
        if job.state not in ENDED:
            with suppress(ConflictError, NotFoundError):  # it has just ended
                backlog.cancel(job.spec.id, now, WHY)
    ended = [jobs.get(job.spec.id) for job in older]
    removed = sum(artifacts.delete(digest) for job in ended if (digest := answers_of(job)))
    lost = [job for job in ended if job.attempts and job.state is not JobState.DONE]
    if lost:
        removed += _remove_lost(erasure, artifacts, min(job.created_at for job in lost))
    return removed


def _earlier(erasure: Erasure, jobs: Jobs) -> Iterator[Job]:
    """The parts of backfills that were asked for before an erasure."""
    for job in all_jobs(jobs, erasure.model):
        if job.spec.kind == KIND and job.spec.arguments["known"] < erasure.seq:
            yield job


def _remove_lost(erasure: Erasure, artifacts: Artifacts, since: float) -> int:
    """Remove what parts have stored that never came to an end."""
    found = 0
    for one in artifacts.stored():
        if one.at < since - SLACK:
            continue
        with suppress(IntegrityError, NotFoundError):
            bundle = artifacts.get(one.digest)
            told = bundle.manifest
            if is_answers(bundle) and told["model"] == erasure.model and told["known"] < erasure.seq:
                found += artifacts.delete(one.digest)
    return found


def left(erasure: Erasure, jobs: Jobs) -> Iterator[str]:
    """What jobs still tell of backfills that an erasure should have removed."""
    for job in _earlier(erasure, jobs):
        if job.result:
            yield f"the job {job.spec.id} still tells of what it answered before"
