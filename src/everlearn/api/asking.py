"""Jobs that a request asks for: queued with the trace that they belong to."""

from __future__ import annotations

from dataclasses import replace

from everlearn.adapters.tracing import TRACE
from everlearn.api.parts import Door
from everlearn.types import Job, JobSpec


def ask_for(door: Door, job: JobSpec) -> Job:
    """Queue a job; where requests are traced, the worker's span of it is a child of this request's."""
    trace = door.instruments.tracer.traceparent()
    if trace is not None:
        job = replace(job, arguments={**job.arguments, TRACE: trace})
    return door.parts.backlog.add(job, door.parts.clock.now())
