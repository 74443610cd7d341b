"""What jobs had stored when an erasure ended them: versions that nobody knows of.

A job stores a version before it tells of it. Where it is ended between the two, what it has learned, and the
rows and images that it carries to test itself by, lie in the store under a digest that stands nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from everlearn.errors import IntegrityError, NotFoundError
from everlearn.loop.drive import TRAINING
from everlearn.ports import Artifacts, Jobs, all_jobs
from everlearn.types import ENDED, JobState

SLACK = 3600.0
"""Seconds by which the clock of a store may be behind that of the database."""


def remove_lost(
    model: str,
    withdrawn: Callable[[int], bool],
    jobs: Jobs,
    artifacts: Artifacts,
    *,
    named: Callable[[], Collection[str]],
    asked_at: float,
    now: float,
) -> bool:
    """Remove versions of withdrawn numbers that no job told of; whether none is left.

    ``named`` gives the digests that something refers to. While a version is being made, only those go that
    were stored before the erasure was ``asked_at``: a newer one may be told of any moment.
    """
    made = [job for job in all_jobs(jobs, model) if job.spec.kind in TRAINING]
    ended = [job for job in made if withdrawn(job.spec.version) and job.attempts]
    ended = [job for job in ended if job.state is not JobState.DONE]
    if not ended:
        return True
    before = asked_at if any(job.state not in ENDED for job in made) else now
    since, kept, left = min(job.created_at for job in ended) - SLACK, named(), False
    for one in list(artifacts.stored()):
        if one.at >= since and one.digest not in kept and _is_version(artifacts, one.digest, model):
            left |= not artifacts.delete(one.digest, before)
    return not left


def _is_version(artifacts: Artifacts, digest: str, model: str) -> bool:
    with suppress(IntegrityError, NotFoundError):
        manifest = artifacts.get(digest).manifest
        return "learner" in manifest and manifest.get("spec", {}).get("name") == model
    return False
