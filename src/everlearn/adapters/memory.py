"""Every store in memory: for replays, for tests, and as the model that the SQL store is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from threading import RLock
from typing import Any

from everlearn.adapters import rules
from everlearn.adapters.memory_log import ModelLog
from everlearn.errors import ConflictError, IntegrityError, NotFoundError
from everlearn.spec import ModelSpec
from everlearn.types import (
    Bundle,
    Champion,
    Checkpoint,
    Decision,
    Event,
    Example,
    Head,
    Job,
    JobState,
    Label,
    Message,
    NewEvent,
    Outcome,
    Page,
    Prediction,
    Promotion,
    Receipt,
    Step,
    Version,
    VersionState,
)


class ManualClock:
    """A clock that stands still until told: ``sleep`` and ``advance`` move it."""

    def __init__(self, at: float = 0.0) -> None:
        self._at = at

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._at

    def sleep(self, seconds: float) -> None:
        """Move on at once instead of waiting."""
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._at += seconds


@dataclass(slots=True)
class _Model:
    """All that is kept of one model."""

    spec: ModelSpec
    champions: list[Champion]
    versions: dict[int, Version]
    log: ModelLog = field(default_factory=ModelLog)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    decisions: list[Decision] = field(default_factory=list)


class _Data:
    """What the nouns of one store share, under one lock."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.models: dict[str, _Model] = {}
        self.jobs: dict[str, Job] = {}
        self.messages: dict[int, Message] = {}
        self.ids = count(1)

    def model(self, name: str) -> _Model:
        """A model; raises NotFoundError."""
        try:
            return self.models[name]
        except KeyError:
            raise rules.unknown_model(name) from None

    def tell(self, model: str, body: Mapping[str, Any]) -> None:
        """Write a message for the registry."""
        number = next(self.ids)
        self.messages[number] = Message(number, rules.REGISTRY, model, body)


class MemoryModels:
    """:class:`everlearn.ports.Models` in memory."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    def create(self, spec: ModelSpec, at: float) -> None:
        """See the port."""
        with self._data.lock:
            if spec.name in self._data.models:
                raise ConflictError(
                    f"There is a model {spec.name!r} already: choose another name or update it."
                )
            born = rules.baseline_version(spec.name, at)
            model = _Model(spec, [Champion(0, 0, None, at)], {0: born})
            model.log.append(rules.configure_event(spec, at))
            self._data.models[spec.name] = model
            self._data.tell(spec.name, rules.model_message(spec.name))

    def get(self, name: str) -> ModelSpec:
        """See the port."""
        with self._data.lock:
            return self._data.model(name).spec

    def update(self, spec: ModelSpec, at: float) -> None:
        """See the port."""
        with self._data.lock:
            model = self._data.model(spec.name)
            model.log.append(rules.configure_event(spec, at))
            model.spec = spec
            self._data.tell(spec.name, rules.model_message(spec.name))

    def delete(self, name: str) -> None:
        """See the port."""
        data = self._data
        with data.lock:
            data.model(name)
            del data.models[name]
            data.jobs = {key: job for key, job in data.jobs.items() if job.spec.model != name}
            data.messages = {key: m for key, m in data.messages.items() if m.model != name}

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[ModelSpec]:
        """See the port."""
        rules.check_limit(limit)
        with self._data.lock:
            names = sorted(n for n in self._data.models if cursor is None or n > cursor)
            specs = [self._data.models[name].spec for name in names[: limit + 1]]
        return rules.page_of(specs, limit, lambda spec: spec.name)


class MemoryLog:
    """:class:`everlearn.ports.Log` in memory."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    def append(self, model: str, events: Sequence[NewEvent]) -> list[Receipt]:
        """See the port."""
        rules.check_events(events)
        with self._data.lock:
            log = self._data.model(model).log
            return [log.append(event) for event in events]

    def read(self, model: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.events[max(after, 0) : max(after, 0) + max(limit, 0)]

    def examples(self, model: str, *, upto: int, after: int = 0, newest: int | None = None) -> list[Example]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.examples(upto, after, newest)

    def pending(self, model: str, *, after_row: int, upto: int) -> list[Label]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.pending(after_row, upto)

    def find(self, model: str, ids: Sequence[str]) -> dict[str, tuple[Prediction | None, Label | None]]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.find(ids)

    def head(self, model: str) -> Head:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.head()


class MemoryVersions:
    """:class:`everlearn.ports.Versions` in memory."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    def get(self, model: str, number: int) -> Version:
        """See the port."""
        with self._data.lock:
            version = self._data.model(model).versions.get(number)
        if version is None:
            raise rules.unknown_version(model, number)
        return version

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._data.lock:
            versions = self._data.model(model).versions
            numbers = sorted((n for n in versions if before is None or n < before), reverse=True)
            items = [versions[number] for number in numbers[: limit + 1]]
        return rules.page_of(items, limit, lambda version: version.number)

    def champion(self, model: str, at: float | None = None) -> Champion:
        """See the port."""
        with self._data.lock:
            champions = self._data.model(model).champions
            if at is None:
                return champions[-1]
            found = next((c for c in reversed(champions) if c.since <= at), None)
        if found is None:
            raise rules.not_yet(model, at)
        return found

    def champions(self) -> Mapping[str, Champion]:
        """See the port."""
        with self._data.lock:
            return {name: model.champions[-1] for name, model in self._data.models.items()}


class MemoryLedger:
    """:class:`everlearn.ports.Ledger` in memory."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    def checkpoint(self, model: str) -> Checkpoint:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).checkpoint

    def commit(self, model: str, step: Step) -> bool:
        """See the port."""
        with self._data.lock:
            kept = self._data.model(model)
            if kept.checkpoint.cursor != step.before:
                return False
            champions, versions = _promoted(model, kept, step)
            rules.check_step(model, step, kept.decisions[-1].number if kept.decisions else 0)
            for spec in step.jobs:
                if spec.id in self._data.jobs:
                    raise rules.known_job(spec.id)
            kept.champions, kept.versions = champions, versions
            kept.checkpoint = Checkpoint(step.cursor, step.state)
            kept.decisions.extend(step.decisions)
            at = step.decisions[-1].at if step.decisions else kept.log.head().at
            for spec in step.jobs:
                self._data.jobs[spec.id] = Job(spec, created_at=at)
            for promotion in step.promotions:
                self._data.tell(model, rules.champion_message(model, promotion))
            return True

    def decisions(
        self, model: str, cursor: str | None = None, limit: int = 100, kind: str | None = None
    ) -> Page[Decision]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._data.lock:
            newest = reversed(self._data.model(model).decisions)
            fitting = (
                d
                for d in newest
                if (before is None or d.number < before) and (kind is None or d.kind == kind)
            )
            items = list(islice(fitting, limit + 1))
        return rules.page_of(items, limit, lambda decision: decision.number)

    def behind(self, limit: int = 100) -> list[str]:
        """See the port."""
        with self._data.lock:
            waiting = [
                (model.log.events[model.checkpoint.cursor].at, name)
                for name, model in self._data.models.items()
                if model.log.seq > model.checkpoint.cursor
            ]
        return [name for _, name in sorted(waiting)[:limit]]


def _promoted(name: str, model: _Model, step: Step) -> tuple[list[Champion], dict[int, Version]]:
    """The champions and versions after a step; raises, with nothing changed, if it may not be."""
    champions, versions = list(model.champions), dict(model.versions)
    for promotion in step.promotions:
        _promote(name, champions, versions, promotion)
    for number in step.refused:
        if number not in versions:
            raise rules.unknown_version(name, number)
        if versions[number].state is VersionState.CANDIDATE:
            versions[number] = replace(versions[number], state=VersionState.REFUSED)
    return champions, versions


def _promote(
    name: str, champions: list[Champion], versions: dict[int, Version], promotion: Promotion
) -> None:
    now = champions[-1]
    if (now.version, now.term) != (promotion.expected, promotion.term):
        raise rules.lost_race(name, promotion, now.version, now.term)
    if promotion.version not in versions:
        raise rules.unknown_version(name, promotion.version)
    versions[now.version] = replace(versions[now.version], state=VersionState.ARCHIVED)
    versions[promotion.version] = replace(versions[promotion.version], state=VersionState.CHAMPION)
    digest = versions[promotion.version].digest
    champions.append(Champion(promotion.version, now.term + 1, digest, promotion.at))


class MemoryJobs:
    """:class:`everlearn.ports.Jobs` in memory."""

    def __init__(self, data: _Data) -> None:
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

    def finish(self, job: Job, version: Version, outcome: NewEvent, now: float) -> Outcome:
        """See the port."""
        rules.check_outcome(outcome)
        with self._data.lock:
            held = self._held(job)
            model = self._data.model(held.spec.model)
            if version.number in model.versions:
                raise ConflictError(f"Model {version.model!r} has a version {version.number} already.")
            event = self._log(model, outcome)
            model.versions[version.number] = replace(version, state=VersionState.CANDIDATE)
            self._keep(replace(held, state=JobState.DONE, progress=1.0, error=None, finished_at=now))
            self._data.tell(version.model, rules.version_message(version.model, version.number))
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

    def _log(self, model: _Model, event: NewEvent) -> Outcome:
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

    def __init__(self, data: _Data) -> None:
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


class MemoryArtifacts:
    """:class:`everlearn.ports.Artifacts` in memory: the encoded files, so that reading is proven too."""

    def __init__(self) -> None:
        self._bundles: dict[str, dict[str, bytes]] = {}

    def put(self, bundle: Bundle) -> str:
        """See the port."""
        from everlearn.adapters.bundles import digest_of, encode_bundle

        files = dict(encode_bundle(bundle))
        digest = digest_of(files)
        self._bundles.setdefault(digest, files)
        return digest

    def get(self, digest: str) -> Bundle:
        """See the port."""
        from everlearn.adapters.bundles import decode_bundle, digest_of

        files = self._bundles.get(digest)
        if files is None:
            raise NotFoundError(f"There is no artifact {digest}: it was deleted, or is in another store.")
        if digest_of(files) != digest:
            raise IntegrityError(f"Artifact {digest} is not what its digest says: restore it from a backup.")
        return decode_bundle(files)

    def path(self, digest: str) -> str | None:  # noqa: ARG002
        """No folder holds it."""
        return None

    def delete(self, digest: str) -> None:
        """See the port."""
        self._bundles.pop(digest, None)


class MemoryReceipts:
    """:class:`everlearn.adapters.rules.Receipts` in memory."""

    def __init__(self) -> None:
        self._replies: dict[tuple[str, str], rules.Reply] = {}

    def get(self, scope: str, key: str) -> rules.Reply | None:
        """The answer that was given, or ``None``."""
        return self._replies.get((scope, key))

    def put(self, scope: str, key: str, reply: rules.Reply) -> rules.Reply:
        """Keep an answer; returns the one that was kept first if there is one already."""
        return self._replies.setdefault((scope, key), reply)

    def forget(self, before: float) -> int:
        """Remove the answers given before a time; returns how many they were."""
        old = [key for key, reply in list(self._replies.items()) if reply.at < before]
        return sum(self._replies.pop(key, None) is not None for key in old)


class MemoryStore:
    """Every port over one shared memory, safe to use from many threads.

    >>> from everlearn.spec import parse_spec
    >>> store = MemoryStore()
    >>> store.models.create(parse_spec({"name": "m", "target": "y", "features": {"x": "numeric"}}), at=0.0)
    >>> store.log.head("m").seq, store.versions.champion("m").version
    (1, 0)
    """

    def __init__(self) -> None:
        data = _Data()
        self.models = MemoryModels(data)
        self.log = MemoryLog(data)
        self.versions = MemoryVersions(data)
        self.ledger = MemoryLedger(data)
        self.jobs = MemoryJobs(data)
        self.outbox = MemoryOutbox(data)
        self.artifacts = MemoryArtifacts()
        self.receipts = MemoryReceipts()
