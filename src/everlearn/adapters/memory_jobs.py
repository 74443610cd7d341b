"""Jobs and messages in memory."""

from __future__ import annotations

from dataclasses import replace

from everlearn.adapters import rules
from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.errors import ConflictError
from everlearn.types import (
    Job,
    JobState,
    Message,
    NewEvent,
    Outcome,
    Page,
    Version,
    VersionState,
)


class MemoryJobs:
    """:class:`everlearn.ports.Jobs` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def lease(self, owner: str, seconds: float, now: float) -> Job | None:
        """See the port."""
        with self._data.lock:
            for job in self._data.jobs.values():
                if _is_due(job, now):
                    return self._keep(
                        replace(
                            job,
                            state=JobState.RUNNING,
                            token=job.token + 1,
                            owner=owner,
                            lease_until=now + seconds,
                            attempts=job.attempts + 1,
                            progress=0.0,
                        )
                    )
        return None

    def renew(self, job: Job, seconds: float, now: float, progress: float) -> None:
        """See the port."""
        with self._data.lock:
            self._keep(replace(self._held(job), lease_until=now + seconds, progress=progress))

    def finish(self, job: Job, version: Version | None, outcome: NewEvent, now: float) -> Outcome:
        """See the port."""
        rules.check_outcome(outcome)
        with self._data.lock:
            held = self._held(job)
            model = self._data.model(held.spec.model)
            if version is not None and version.number in model.versions:
                raise ConflictError(f"Model {version.model!r} has a version {version.number} already.")
            event = self._log(model, outcome)
            self._keep(replace(held, state=JobState.DONE, progress=1.0, error=None, finished_at=now))
            if version is not None:
                model.versions[version.number] = replace(version, state=VersionState.CANDIDATE)
                told = rules.version_message(version.model, version.number, job.spec.id)
                self._data.tell(version.model, told)
            return event

    def fail(self, job: Job, error: str, now: float, retry_at: float | None) -> None:
        """See the port."""
        with self._data.lock:
            held = self._held(job)
            if retry_at is not None:
                self._keep(replace(held, state=JobState.QUEUED, owner=None, not_before=retry_at, error=error))
                return
            event = rules.failure_event(held.spec.id, held.spec.version, error, now)
            self._log(self._data.model(held.spec.model), event)
            self._keep(replace(held, state=JobState.FAILED, error=error, finished_at=now))

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Job]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._data.lock:
            self._data.model(model)
            mine = [job for job in self._data.jobs.values() if job.spec.model == model]
            numbered = list(enumerate(mine, start=1))[: None if before is None else before - 1]
        page = rules.page_of(numbered[: -limit - 2 : -1], limit, lambda pair: pair[0])
        return Page([job for _, job in page.items], page.next)

    def get(self, id: str) -> Job:  # noqa: A002
        """See the port."""
        with self._data.lock:
            job = self._data.jobs.get(id)
        if job is None:
            raise rules.unknown_job(id)
        return job

    def _keep(self, job: Job) -> Job:
        self._data.jobs[job.spec.id] = job
        return job

    def _held(self, job: Job) -> Job:
        kept = self._data.jobs.get(job.spec.id)
        if kept is None or kept.state is not JobState.RUNNING or kept.token != job.token:
            raise rules.lost_lease(job.spec.id)
        return kept

    def _log(self, model: ModelData, event: NewEvent) -> Outcome:
        receipt = model.log.append(event)
        logged = model.log.events[(receipt.seq or 0) - 1]
        if not isinstance(logged, Outcome):
            raise ConflictError(f"A job ends with an outcome, not with a {event.kind}.")
        return logged


def _is_due(job: Job, now: float) -> bool:
    if job.state is JobState.QUEUED:
        return job.not_before <= now
    return job.state is JobState.RUNNING and job.lease_until <= now


class MemoryOutbox:
    """:class:`everlearn.ports.Outbox` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def take(self, destination: str, limit: int, now: float) -> list[Message]:
        """See the port."""
        taken: list[Message] = []
        with self._data.lock:
            for message in self._data.messages.values():
                if message.destination != destination:
                    continue
                if len(taken) >= limit or message.not_before > now:
                    break
                taken.append(message)
        return taken

    def done(self, message: Message) -> None:
        """See the port."""
        with self._data.lock:
            self._data.messages.pop(message.id, None)

    def retry(self, message: Message, error: str, not_before: float) -> None:  # noqa: ARG002
        """See the port."""
        with self._data.lock:
            kept = self._data.messages.get(message.id)
            if kept is not None:
                again = replace(kept, attempts=kept.attempts + 1, not_before=not_before)
                self._data.messages[message.id] = again

    def waiting(self, destination: str) -> int:
        """See the port."""
        with self._data.lock:
            return sum(m.destination == destination for m in self._data.messages.values())
