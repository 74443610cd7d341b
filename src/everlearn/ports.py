"""What the loop needs from the world, one noun a port, at most six methods each.

Adapters make them real: ``everlearn.adapters.memory`` for tests and replays, ``adapters.sql`` for
SQLite and PostgreSQL, ``adapters.artifacts``, ``adapters.mlflow``. Methods that change something
return what the caller must know; methods that ask change nothing. All raise
:class:`~everlearn.errors.NotFoundError` for an unknown model unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

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
    Label,
    Message,
    NewEvent,
    Outcome,
    Page,
    Prediction,
    Receipt,
    Step,
    Version,
)


class Clock(Protocol):
    """Wall time, for drivers only: the loop knows no time but that of the events."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Models(Protocol):
    """The models of an installation and what they should be."""

    def create(self, spec: ModelSpec, at: float) -> None:
        """Add a model with version 0 as its champion, and log its ``configure`` command, at once.

        Raises :class:`~everlearn.errors.ConflictError` if the name is taken.
        """
        ...

    def get(self, name: str) -> ModelSpec:
        """The spec in force."""
        ...

    def update(self, spec: ModelSpec, at: float) -> None:
        """Replace the spec and log the ``configure`` command, at once."""
        ...

    def delete(self, name: str) -> None:
        """Remove the model with all of its log, versions, ledger and jobs."""
        ...

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[ModelSpec]:
        """The models in order of their names."""
        ...


class Log(Protocol):
    """The append-only log of each model: positions are dense and in commit order."""

    def append(self, model: str, events: Sequence[NewEvent], *, flush: bool = False) -> list[Receipt]:
        """Add events in order, all or none; one receipt each (see ``Receipt``).

        When it returns they survive the death of every process, and with ``flush`` a power cut too.
        Duplicates and conflicts add nothing. Order within the call counts: a label may follow its
        prediction in the same call. The first label of an id is never logged as a correction.
        """
        ...

    def read(self, model: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """The events after a position, in order. Labels come with their prediction, and a
        prediction with the label that was parked for it (the newest value if it was corrected)."""
        ...

    def examples(
        self,
        model: str,
        *,
        upto: int,
        after: int = 0,
        newest: int | None = None,
        without: Mapping[str, int] | None = None,
    ) -> list[Example]:
        """What can be learned as of a position: labelled predictions whose label became known at a
        position in ``(after, upto]`` (and which were themselves logged by then), and loaded history
        in the same range; the ``newest`` ones by ``known`` if given, ordered by ``order``. A
        corrected label counts once, with the newest value at ``upto``, at its newest position.
        ``without``: as if what these sources gave, from these positions on, had never come."""
        ...

    def pending(self, model: str, *, after_row: int, upto: int) -> list[Label]:
        """The labels (newest value each, with their predictions) known at ``upto`` of predictions
        with ``row > after_row``, by row: what the loop's maturity buffer holds. Where sources corrected
        each other, the newest of each source, in the order in which they came."""
        ...

    def find(self, model: str, ids: Sequence[str]) -> dict[str, tuple[Prediction | None, Label | None]]:
        """Look up predictions and their newest labels by id; unknown ids are left out."""
        ...

    def head(self, model: str) -> Head:
        """Where the log stands."""
        ...


class Versions(Protocol):
    """The versions of each model, and which one answers."""

    def get(self, model: str, number: int) -> Version:
        """One version; raises NotFoundError."""
        ...

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """Versions, newest first."""
        ...

    def champion(self, model: str, at: float | None = None) -> Champion:
        """The version that answers now, or that answered at a time."""
        ...

    def champions(self) -> Mapping[str, Champion]:
        """The champion of every model, in one cheap query: what API processes poll."""
        ...


class Ledger(Protocol):
    """What was decided, and how far."""

    def checkpoint(self, model: str) -> Checkpoint:
        """The newest committed step."""
        ...

    def commit(self, model: str, step: Step) -> bool:
        """Write a step in one transaction: cursor, state, decisions, jobs, promotions (each a
        compare-and-swap), refused versions, and the outbox messages that tell of them.

        Returns ``False``, and changes nothing, if the cursor is no longer ``step.before`` (another
        worker came first). Raises :class:`~everlearn.errors.FencedError` if a promotion's expected
        champion or term does not hold.
        """
        ...

    def decisions(
        self, model: str, cursor: str | None = None, limit: int = 100, kind: str | None = None
    ) -> Page[Decision]:
        """Decisions, newest first."""
        ...

    def behind(self, limit: int = 100) -> list[str]:
        """Models whose log has events after their cursor, longest-waiting first."""
        ...


class Jobs(Protocol):
    """Background work under leases with fencing tokens."""

    def lease(self, owner: str, seconds: float, now: float) -> Job | None:
        """Take the oldest job that is queued and due, or whose lease has run out."""
        ...

    def renew(self, job: Job, seconds: float, now: float, progress: float) -> None:
        """Keep the lease; raises FencedError when it is another's or the job was cancelled."""
        ...

    def finish(self, job: Job, version: Version | None, outcome: NewEvent, now: float) -> Outcome:
        """End a job: version row (if it made one), outcome event and job state in one transaction.

        Raises FencedError, and writes nothing, unless ``job.token`` holds the lease.
        """
        ...

    def fail(self, job: Job, error: str, now: float, retry_at: float | None) -> None:
        """Give a job back for a retry, or end it as failed with an outcome event that says why."""
        ...

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Job]:
        """Jobs, newest first."""
        ...

    def get(self, id: str) -> Job:  # noqa: A002 (what callers know it by)
        """One job; raises NotFoundError."""
        ...


class Artifacts(Protocol):
    """Content-addressed store of bundles."""

    def put(self, bundle: Bundle) -> str:
        """Store a bundle whole or not at all; returns its SHA-256 digest (64 hex digits)."""
        ...

    def get(self, digest: str) -> Bundle:
        """The bundle, verified before it is parsed; raises NotFoundError or IntegrityError."""
        ...

    def path(self, digest: str) -> str | None:
        """A local folder that holds the bundle, for tools that want files; ``None`` if there is none."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a bundle; unknown digests are ignored."""
        ...


class Outbox(Protocol):
    """Messages written with the facts they tell of, and delivered later."""

    def take(self, destination: str, limit: int, now: float) -> list[Message]:
        """The oldest undelivered messages of a destination, in order. Empty while the first waits
        for its retry: order is kept."""
        ...

    def done(self, message: Message) -> None:
        """It was delivered."""
        ...

    def retry(self, message: Message, error: str, not_before: float) -> None:
        """It was not; try again at a time."""
        ...

    def waiting(self, destination: str) -> int:
        """How many messages wait."""
        ...


class Registry(Protocol):
    """A mirror of versions for other tools (MLflow)."""

    def mirror(self, message: Mapping[str, Any]) -> None:
        """Make the outside agree with a message; harmless when repeated. Raises UnavailableError."""
        ...

    def check(self) -> str:
        """A line that says where it is and that it answers; raises UnavailableError."""
        ...
