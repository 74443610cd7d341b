"""Jobs and messages in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from everlearn.adapters import rules
from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.errors import ConflictError
from everlearn.types import (
    QUEUES,
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

    def lease(
        self,
        owner: str,
        seconds: float,
        now: float,
        *,
        id: str | None = None,  # noqa: A002
        queues: Sequence[str] = QUEUES,
        most: int = 0,
    ) -> Job | None:
        """See the port."""
        with self._data.lock:
            free = [job for queue in queues for job in in_turn(self._data, queue, now, most)]
            if id is not None:
                free = [job for job in free if job.spec.id == id]
            served = _served(self._data)
            places = {key: place for place, key in enumerate(self._data.jobs)}
            free.sort(
                key=lambda job: (
                    QUEUES.index(job.queue),
                    served.get(job.spec.model, -1.0),
                    places[job.spec.id],
                )
            )
            return self._keep(rules.leased_job(free[0], owner, seconds, now)) if free else None

    def renew(self, job: Job, seconds: float, now: float, progress: float) -> None:
        """See the port."""
        with self._data.lock:
            self._keep(replace(self._held(job), lease_until=now + seconds, progress=progress))

    def finish(
        self,
        job: Job,
        version: Version | None,
        outcome: NewEvent | None,
        now: float,
        result: Mapping[str, Any] | None = None,
    ) -> Outcome | None:
        """See the port."""
        if outcome is not None:
            rules.check_outcome(outcome)
        with self._data.lock:
            held = self._held(job)
            model = self._data.model(held.spec.model)
            if version is not None and version.number in model.versions:
                raise ConflictError(f"Model {version.model!r} has a version {version.number} already.")
            event = None if outcome is None else log_outcome(model, outcome)
            self._keep(rules.done_job(held, now, result))
            if version is not None:
                model.versions[version.number] = replace(version, state=VersionState.CANDIDATE)
                told = rules.version_message(version.model, version.number, job.spec.id)
                self._data.tell(version.model, told)
            return event

    def fail(
        self,
        job: Job,
        error: str,
        now: float,
        retry_at: float | None,
        *,
        traceback: str | None = None,
        dead: bool = False,
        spared: bool = False,
    ) -> None:
        """See the port."""
        with self._data.lock:
            held = self._held(job)
            if retry_at is not None:
                self._keep(rules.waiting_job(held, error, traceback, retry_at, spared))
                return
            if (event := rules.failure_of(held.spec, error, now)) is not None:
                log_outcome(self._data.model(held.spec.model), event)
            state = JobState.DEAD if dead else JobState.FAILED
            self._keep(rules.ended_job(held, state, error, traceback, now))

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


def log_outcome(model: ModelData, event: NewEvent) -> Outcome:
    """Log the end of a job."""
    receipt = model.log.append(event)
    logged = model.log.events[(receipt.seq or 0) - 1]
    if not isinstance(logged, Outcome):
        raise ConflictError(f"A job ends with an outcome, not with a {event.kind}.")
    return logged


def _is_due(job: Job, now: float) -> bool:
    if job.state is JobState.QUEUED:
        return job.not_before <= now
    return job.state is JobState.RUNNING and job.lease_until <= now


def _served(data: SharedData) -> dict[str, float]:
    """When each model had its last turn."""
    served: dict[str, float] = {}
    for job in data.jobs.values():
        if job.started_at is not None:
            served[job.spec.model] = max(served.get(job.spec.model, job.started_at), job.started_at)
    return served


def in_turn(data: SharedData, queue: str, now: float, most: int) -> list[Job]:
    """The jobs of a queue that can be leased, models in turn, but for those that ``most`` forbids."""
    served, turns, found = _served(data), Counter[str](), []
    running = Counter(
        job.spec.model
        for job in data.jobs.values()
        if job.state is JobState.RUNNING and job.lease_until > now and job.queue == queue
    )
    for place, job in enumerate(data.jobs.values()):
        model = job.spec.model
        if job.queue == queue and _is_due(job, now):
            turns[model] += 1
            if not most or turns[model] + running[model] <= most:
                found.append((turns[model], served.get(model, -1.0), place, job))
    return [job for *_, job in sorted(found, key=lambda entry: entry[:3])]


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

    def put(self, destination: str, model: str, body: Mapping[str, Any]) -> None:
        """See the port."""
        with self._data.lock:
            self._data.model(model)
            self._data.tell(model, body, destination)

    def forward(self, message: Message, destinations: Sequence[str]) -> None:
        """See the port."""
        with self._data.lock:
            if self._data.messages.pop(message.id, None) is not None:
                for destination in destinations:
                    self._data.tell(message.model, message.body, destination)

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
