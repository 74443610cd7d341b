"""The backlog and leases in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from everlearn.adapters import rules
from everlearn.adapters.memory_data import SharedData
from everlearn.adapters.memory_jobs import in_turn, log_outcome
from everlearn.types import Job, JobSpec, JobState


class MemoryBacklog:
    """:class:`everlearn.ports.Backlog` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def add(self, spec: JobSpec, now: float) -> Job:
        """See the port."""
        with self._data.lock:
            self._data.model(spec.model)
            if spec.id in self._data.jobs:
                raise rules.known_job(spec.id)
            return self._keep(Job(spec, created_at=now))

    def due(self, queue: str, limit: int, now: float, *, most: int = 0) -> Sequence[str]:
        """See the port."""
        with self._data.lock:
            return [job.spec.id for job in in_turn(self._data, queue, now, most)[:limit]]

    def running(self) -> Sequence[Job]:
        """See the port."""
        with self._data.lock:
            return [job for job in self._data.jobs.values() if job.state is JobState.RUNNING]

    def depths(self) -> Mapping[str, Mapping[str, int]]:
        """See the port."""
        found: dict[str, dict[str, int]] = {}
        with self._data.lock:
            for job in self._data.jobs.values():
                states = found.setdefault(job.queue, {})
                states[job.state.value] = states.get(job.state.value, 0) + 1
        return found

    def cancel(self, id: str, now: float, why: str) -> Job:  # noqa: A002
        """See the port."""
        with self._data.lock:
            job = self._job(id)
            cancelled = rules.cancelled_job(job, why, now)
            if (event := rules.failure_of(job.spec, why, now)) is not None:
                log_outcome(self._data.model(job.spec.model), event)
            return self._keep(cancelled)

    def retry(self, id: str, now: float) -> Job:  # noqa: A002
        """See the port."""
        with self._data.lock:
            return self._keep(rules.renewed_job(self._job(id), now))

    def _job(self, id: str) -> Job:  # noqa: A002
        job = self._data.jobs.get(id)
        if job is None:
            raise rules.unknown_job(id)
        return job

    def _keep(self, job: Job) -> Job:
        self._data.jobs[job.spec.id] = job
        return job


class MemoryLeases:
    """:class:`everlearn.ports.Leases` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def take(self, name: str, owner: str, seconds: float, now: float, over: str | None = None) -> bool:
        """See the port."""
        with self._data.lock:
            held = self._data.leases.get(name)
            if held is not None and held[1] > now and held[0] not in (owner, over):
                return False
            self._data.leases[name] = (owner, now + seconds)
            return True

    def release(self, name: str, owner: str) -> None:
        """See the port."""
        with self._data.lock:
            if self._data.leases.get(name, ("", 0.0))[0] == owner:
                del self._data.leases[name]

    def holder(self, name: str, now: float) -> str | None:
        """See the port."""
        with self._data.lock:
            owner, until = self._data.leases.get(name, ("", 0.0))
        return owner if until > now else None
