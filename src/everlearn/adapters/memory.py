"""Every store in memory: for replays, for tests, and as the model that the SQL store is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from everlearn.adapters import rules
from everlearn.adapters.memory_access import MemoryAccess
from everlearn.adapters.memory_artifacts import MemoryArtifacts
from everlearn.adapters.memory_backlog import MemoryBacklog, MemoryLeases
from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.adapters.memory_erasing import MemoryErasures, MemoryFloors, MemoryRemains
from everlearn.adapters.memory_jobs import MemoryJobs, MemoryOutbox
from everlearn.adapters.memory_ledger import MemoryLedger
from everlearn.adapters.memory_scores import MemoryScores
from everlearn.adapters.memory_tallies import MemoryTallies
from everlearn.errors import ConflictError
from everlearn.spec import ModelSpec
from everlearn.types import (
    Champion,
    Event,
    Example,
    Head,
    Label,
    NewEvent,
    Page,
    Prediction,
    Receipt,
    Version,
)

__all__ = [
    "ManualClock",
    "MemoryArtifacts",
    "MemoryBacklog",
    "MemoryJobs",
    "MemoryLeases",
    "MemoryLedger",
    "MemoryLog",
    "MemoryModels",
    "MemoryOutbox",
    "MemoryReceipts",
    "MemoryScores",
    "MemoryStore",
    "MemoryTallies",
    "MemoryVersions",
]


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


class MemoryModels:
    """:class:`everlearn.ports.Models` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def create(self, spec: ModelSpec, at: float) -> None:
        """See the port."""
        with self._data.lock:
            if spec.name in self._data.models:
                raise ConflictError(
                    f"There is a model {spec.name!r} already: choose another name or update it."
                )
            born = rules.baseline_version(spec.name, at)
            model = ModelData(spec, [Champion(0, 0, None, at)], {0: born})
            model.id = next(self._data.ids)
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

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def append(
        self,
        model: str,
        events: Sequence[NewEvent],
        *,
        flush: bool = False,  # noqa: ARG002 - of the port
    ) -> list[Receipt]:
        """See the port. Memory has no disk to flush to."""
        rules.check_events(events)
        with self._data.lock:
            log = self._data.model(model).log
            return [log.append(event) for event in events]

    def read(self, model: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.events[max(after, 0) : max(after, 0) + max(limit, 0)]

    def examples(
        self,
        model: str,
        *,
        upto: int,
        after: int = 0,
        newest: int | None = None,
        without: Mapping[str, int] | None = None,
    ) -> list[Example]:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).log.examples(upto, after, newest, without)

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

    def __init__(self, data: SharedData) -> None:
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

    def scrub(self, named: Callable[[str, bytes], bool]) -> int:
        """Remove the answers that name what is erased, or were given to a path that does; how many."""
        found = [key for key, reply in list(self._replies.items()) if named(key[0], reply.body)]
        return sum(self._replies.pop(key, None) is not None for key in found)

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
        data = SharedData()
        self.models = MemoryModels(data)
        self.log = MemoryLog(data)
        self.versions = MemoryVersions(data)
        self.ledger = MemoryLedger(data)
        self.scores = MemoryScores(data)
        self.jobs = MemoryJobs(data)
        self.backlog = MemoryBacklog(data)
        self.leases = MemoryLeases(data)
        self.outbox = MemoryOutbox(data)
        self.tallies = MemoryTallies(data)
        self.artifacts = MemoryArtifacts()
        self.receipts = MemoryReceipts()
        self.erasures = MemoryErasures(data, self.ledger, self.receipts)
        self.remains = MemoryRemains(data)
        self.retention = MemoryFloors(data)
        self.access = MemoryAccess()
