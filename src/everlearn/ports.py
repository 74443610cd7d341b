"""What the loop needs from the world, one noun a port, at most six methods each.

Adapters make them real: ``everlearn.adapters.memory`` for tests and replays, ``adapters.sql`` for
SQLite and PostgreSQL, ``adapters.artifacts``, ``adapters.mlflow``. Methods that change something
return what the caller must know; methods that ask change nothing. All raise
:class:`~everlearn.errors.NotFoundError` for an unknown model unless said otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from everlearn.spec import ModelSpec
from everlearn.types import (
    QUEUES,
    Bundle,
    Champion,
    Checkpoint,
    Decision,
    Erasure,
    Event,
    Example,
    Head,
    Job,
    JobSpec,
    Label,
    Message,
    NewEvent,
    Outcome,
    Page,
    Prediction,
    Receipt,
    ScorePoint,
    Spent,
    Standing,
    Step,
    Stored,
    Tally,
    Version,
    Waiting,
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


def all_specs(models: Models) -> Iterator[ModelSpec]:
    """The specs of all models in order of their names, read page by page."""
    cursor: str | None = None
    while True:
        page = models.list(cursor, 1000)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


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


class Announcements(Protocol):
    """New champions, told as they are promoted: where a database can."""

    @property
    def connected(self) -> bool:
        """Whether what is announced now is heard. Whoever follows polls all the same, but less often."""
        ...

    def follow(self, heard: Callable[[], None], stop: threading.Event) -> None:
        """Call ``heard`` at every announcement, and whenever some may have been missed, until ``stop``."""
        ...


class Ledger(Protocol):
    """What was decided, and how far."""

    def checkpoint(self, model: str) -> Checkpoint:
        """The newest committed step."""
        ...

    def commit(self, model: str, step: Step) -> bool:
        """Write a step in one transaction: cursor, state, decisions, jobs, promotions (each a
        compare-and-swap), refused versions, scores, and the outbox messages that tell of them.

        Returns ``False``, and changes nothing, if the cursor is no longer ``step.before`` (another
        worker came first). Raises :class:`~everlearn.errors.FencedError` if a promotion's expected
        champion or term does not hold.
        """
        ...

    def decisions(
        self,
        model: str,
        cursor: str | None = None,
        limit: int = 100,
        kind: str | Collection[str] | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
    ) -> Page[Decision]:
        """Decisions, newest first; of some kinds, and decided in a time (both ends are in it), if given."""
        ...

    def counts(self, model: str, after: int = 0, upto: int | None = None) -> Mapping[str, int]:
        """How many decisions of each kind there are, of those numbered ``after`` one and up to another."""
        ...

    def behind(self, limit: int = 100) -> list[str]:
        """Models whose log has events after their cursor, longest-waiting first."""
        ...


class Erasures(Protocol):
    """The removal of people's rows, step by step; each step may be done again and changes nothing then."""

    def begin(self, model: str, column: str, subject: str, by: str, now: float, deadline: float) -> Erasure:
        """Take the rows whose ``column`` holds ``subject`` out of the log, with their labels, at once.

        Their positions hold ticks from then on, later labels for them are refused, and the log has an
        ``erase`` command. Without such rows: the newest erasure of the same subject, or NotFoundError.
        """
        ...

    def get(self, id: str) -> Erasure:  # noqa: A002
        """One erasure; raises NotFoundError."""
        ...

    def list(self, model: str | None = None, *, open_only: bool = False) -> Sequence[Erasure]:
        """Those of a model, or of all; the newest first."""
        ...

    def settle(self, erasure: Erasure, step: Step, removed: Mapping[str, int]) -> bool:
        """Commit the step that took the ``erase`` command in. A verification begins at its state from now on.

        ``False``, with nothing changed, if the cursor is no longer ``step.before``.
        """
        ...

    def scrub(self, erasure: Erasure, versions: Sequence[int], now: float) -> Mapping[str, int]:
        """Take its rows out of jobs, outcomes and remembered answers, and retire versions that do not answer.

        Open jobs that name such rows are cancelled. Returns how many of each were changed.
        """
        ...

    def finish(self, erasure: Erasure, certificate: Mapping[str, Any], now: float) -> None:
        """Keep the certificate, and forget what was looked for."""
        ...


class Scores(Protocol):
    """The score over time, as :meth:`Ledger.commit` wrote it, and where all models stand."""

    def standings(self) -> Sequence[Standing]:
        """Every model, in order of their names, in one query whatever their logs hold.

        Decisions come without their evidence.
        """
        ...

    def span(self, model: str, since: float | None = None, until: float | None = None) -> tuple[int, int]:
        """The first and the last number of level 0's points that lie in a time; ``last < first`` for none."""
        ...

    def points(self, model: str, level: int, first: int, last: int) -> Sequence[ScorePoint]:
        """The points of a level with these numbers, in order."""
        ...

    def filled(self, model: str) -> int:
        """The number of the newest point of level 0 whose never-updated baseline is known; 0 for none."""
        ...

    def fill(self, model: str, scores: Mapping[int, float], fan: int) -> None:
        """Put down the never-updated baseline of points of level 0, by number.

        Points of higher levels, of ``fan`` points each, get the mean of theirs by rows.
        """
        ...


class Search(Protocol):
    """What a search for leftovers found: each in words, and how many rows of each table were read."""

    @property
    def leftovers(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def read(self) -> Mapping[str, int]: ...  # noqa: D102


class Remains(Protocol):
    """What an erasure should have removed, wherever it may be."""

    def search(
        self,
        erasure: Erasure,
        column: str | None,
        positions: list[tuple[int, int]],
        images: Collection[str] = (),
    ) -> Search:
        """Look through everything for what was removed; ``positions`` are ranges (first, last) of the log,
        ``images`` salted digests of the digests under which images were stored."""
        ...

    def salted(self, erasure: Erasure, texts: Iterable[str]) -> list[str]:
        """The salted digests of some texts, as an erasure tells of what it removed."""
        ...


class Jobs(Protocol):
    """Background work under leases with fencing tokens."""

    def lease(
        self,
        owner: str,
        seconds: float,
        now: float,
        *,
        id: str | None = None,  # noqa: A002 (what callers know it by)
        queues: Sequence[str] = QUEUES,
        most: int = 0,
    ) -> Job | None:
        """Take a job of these queues that is queued and due, or whose lease has run out; ``None`` for none.

        Queues come in the order of ``QUEUES``. In each, models take turns, the one whose turn is longest ago
        first; of one model the oldest job comes first. A model with ``most`` jobs of a queue running gets no
        other there (0: any number). With ``id``: that job or none.
        """
        ...

    def renew(self, job: Job, seconds: float, now: float, progress: float) -> None:
        """Keep the lease; raises FencedError when it is another's or the job was cancelled."""
        ...

    def finish(
        self,
        job: Job,
        version: Version | None,
        outcome: NewEvent | None,
        now: float,
        result: Mapping[str, Any] | None = None,
    ) -> Outcome | None:
        """End a job: version row (if it made one), outcome event and job state in one transaction.

        Without an outcome for jobs that no loop asked for: their ``result`` stays with the job.
        Raises FencedError, and writes nothing, unless ``job.token`` holds the lease.
        """
        ...

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
        """Give a job back for a retry (``spared``: this attempt does not count), or end it.

        It ends as failed, or ``dead`` after its last attempt, with an outcome event that says why.
        """
        ...

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Job]:
        """Jobs, newest first."""
        ...

    def get(self, id: str) -> Job:  # noqa: A002 (what callers know it by)
        """One job; raises NotFoundError."""
        ...


def all_jobs(jobs: Jobs, model: str) -> Iterator[Job]:
    """The jobs of a model, the newest first, read page by page."""
    cursor: str | None = None
    while True:
        page = jobs.list(model, cursor, 1000)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


class Backlog(Protocol):
    """The work that waits, over all models, and what an operator does about it."""

    def add(self, spec: JobSpec, now: float) -> Job:
        """Queue a job that no loop asked for; raises ConflictError if its id is taken."""
        ...

    def due(self, queue: str, limit: int, now: float, *, most: int = 0) -> Sequence[str]:
        """The ids of jobs that can be leased now, models in turn as :meth:`Jobs.lease` takes them."""
        ...

    def running(self) -> Sequence[Job]:
        """The jobs that somebody works on, or did when it died."""
        ...

    def depths(self) -> Mapping[str, Mapping[str, int]]:
        """How many jobs of each queue are in each state."""
        ...

    def cancel(self, id: str, now: float, why: str) -> Job:  # noqa: A002
        """End a job that has not ended: its loop is told, and who runs it is fenced off.

        Raises NotFoundError, and ConflictError if it has ended.
        """
        ...

    def retry(self, id: str, now: float) -> Job:  # noqa: A002
        """Queue a job again that is dead, failed or cancelled, as if it were new.

        Raises NotFoundError, and ConflictError if it has not ended or is done.
        """
        ...


class Tallies(Protocol):
    """What all models together hold, in a query or two however many they are: what monitoring reads."""

    def models(self) -> Sequence[Tally]:
        """Where each model stands, in the order of their names."""
        ...

    def spent(self) -> Mapping[str, Spent]:
        """The jobs of each queue that somebody did or tried to do and that have ended."""
        ...

    def waiting(self) -> Mapping[str, Waiting]:
        """The outbox by destination; destinations for which nothing waits are left out."""
        ...


class Broker(Protocol):
    """Tells workers that there is work. A message is only a hint: the rows say what is to be done."""

    def tell(self, queue: str, task: str, about: str) -> None:
        """Tell of a ``job`` (its id) or of a model to ``advance``. Raises UnavailableError."""
        ...

    def waiting(self, queue: str) -> int:
        """How many messages of a queue nobody has taken yet. Raises UnavailableError."""
        ...


class Leases(Protocol):
    """Who does a thing of which one process is enough. Work twice is waste, never harm."""

    def take(self, name: str, owner: str, seconds: float, now: float, over: str | None = None) -> bool:
        """Take a lease that is free, has run out, or is ``owner``'s or ``over``'s (known to be dead)."""
        ...

    def release(self, name: str, owner: str) -> None:
        """Give it back, if it is ``owner``'s."""
        ...

    def holder(self, name: str, now: float) -> str | None:
        """Who holds it."""
        ...


class Artifacts(Protocol):
    """Content-addressed store of bundles. All methods raise UnavailableError where it cannot be reached."""

    def put(self, bundle: Bundle) -> str:
        """Store a bundle whole or not at all; returns its SHA-256 digest (64 hex digits).

        One that is there already counts as put now: see :meth:`delete`.
        """
        ...

    def get(self, digest: str) -> Bundle:
        """The bundle, verified before it is parsed; raises NotFoundError or IntegrityError."""
        ...

    def path(self, digest: str) -> str | None:
        """A local folder that holds the bundle, for tools that want files; ``None`` if there is none."""
        ...

    def sound(self, digest: str) -> bool:
        """Whether the store itself, and not only a copy of it, holds the bundle whole."""
        ...

    def delete(self, digest: str, before: float | None = None) -> bool:
        """Remove a bundle; returns whether it was. With ``before``, only one that nobody has put since
        then, however close a ``put`` comes to this call. Unknown digests are ignored."""
        ...

    def stored(self) -> Iterator[Stored]:
        """What lies in the store, what an upload left that died included."""
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

    def put(self, destination: str, model: str, body: Mapping[str, Any]) -> None:
        """Write a message of a model that belongs to no transaction of another port."""
        ...

    def forward(self, message: Message, destinations: Sequence[str]) -> None:
        """Put it in the place of one message to each of some destinations (none: drop it), at once.

        Does nothing if the message is gone."""
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
