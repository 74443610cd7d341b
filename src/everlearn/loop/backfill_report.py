"""Where a backfill is, and the report that is gathered from what its parts tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from everlearn.loop.backfill_columns import KIND
from everlearn.loop.backfill_scores import scores
from everlearn.types import ENDED, Job, JobState


def state_of(jobs: Sequence[Job]) -> str:
    """Where a backfill is: ``queued``, ``running``, ``done``, ``erased``, ``cancelled`` or ``failed``."""
    states = {job.state for job in jobs}
    if states <= {JobState.QUEUED}:
        return "queued"
    if not states <= set(ENDED):
        return "running"
    if any(job.state is JobState.DONE and not answers_of(job) for job in jobs):
        return "erased"
    if states == {JobState.DONE}:
        return "done"
    return "cancelled" if states <= {JobState.DONE, JobState.CANCELLED} else "failed"


def answers_of(job: Job) -> str | None:
    """The digest of what a part answered; ``None`` before, after it was removed, and for other jobs."""
    return (job.result or {}).get("digest") if job.spec.kind == KIND else None


def gather(jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The report, once all parts are done; ``None`` before, and where one ended otherwise."""
    if state_of(jobs) != "done":
        return None
    asked, found = jobs[0].spec.arguments, [job.result or {} for job in jobs]
    task, metric = asked["task"], asked["metric"]
    rows = sum(part["rows"] for part in found)
    empty = [] if rows else ["no prediction lies in this stretch"]
    return {
        "version": asked["version"],
        "after": asked["after"],
        "upto": jobs[-1].spec.arguments["upto"],
        "rows": rows,
        "labels": sum(part["labels"] for part in found),
        "metric": metric,
        "scores": scores(found, task, metric),
        "agreement": sum(part["agreed"] for part in found) / rows if rows else None,
        "parts": [_part(job, task, metric) for job in jobs],
        "seconds": max((job.finished_at or 0.0) - (job.created_at or 0.0) for job in jobs),
        "compute_seconds": sum(part["seconds"] for part in found),
        "notes": [*asked["notes"], *empty],
    }


def _part(job: Job, task: Any, metric: str) -> dict[str, Any]:
    """One point of a plot over time; ``first`` and ``last`` are the times of its rows."""
    asked, found = job.spec.arguments, job.result or {}
    own = scores([found], task, metric)
    told = {name: found[name] for name in ("rows", "labels", "first", "last")}
    ends = {"from": asked["after"] + 1, "upto": asked["upto"]}
    return {**ends, **told, **{side: score[metric] for side, score in own.items()}}
