"""The words of everlearn: small frozen records that every room shares.

Those that come by the million are msgspec structs: a tenth of the time to make, and no work for the
garbage collector (none of them can be part of a cycle).

Times are ``float`` seconds since the Unix epoch (UTC). Positions (``seq``) count the events of one
model from 1 without gaps; rows count its predictions from 1 without gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = bool | int | float | str | None
"""A JSON scalar: one cell of a row, or the value of a label."""

Row: TypeAlias = Mapping[str, Scalar]
"""One row of features by column name; a missing column and ``None`` both mean *missing*."""

T = TypeVar("T")

FloatArray: TypeAlias = NDArray[np.float64]

Task: TypeAlias = Literal["classification", "regression", "detection"]
FeatureKind: TypeAlias = Literal["numeric", "boolean", "categorical", "timestamp", "image"]


class Output(msgspec.Struct, frozen=True, gc=False):
    """What a version answers for one row.

    ``value`` is the most probable class (classification), the estimate (regression), or the text of the boxes
    (detection: see :mod:`everlearn.vision.boxes`); ``None`` while nothing is known. ``probabilities`` maps
    each known class to its probability and is ``None`` for the other tasks.
    """

    value: Scalar
    probabilities: Mapping[str, float] | None = None


class EventKind(StrEnum):
    """The kinds of event in a log."""

    PREDICTION = "prediction"
    LABEL = "label"
    EXAMPLE = "example"
    COMMAND = "command"
    OUTCOME = "outcome"
    TICK = "tick"


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """A prediction that was answered. ``row`` is its number among the model's predictions.

    ``label`` is the label that had arrived, parked, before the prediction itself (else ``None``).
    """

    seq: int
    at: float
    id: str
    row: int
    version: int
    features: Row
    output: Output
    label: Label | None = None


class Label(msgspec.Struct, frozen=True, gc=False):
    """The truth for a prediction id. ``prediction`` is what it labels, or ``None`` while parked.

    ``correction`` is whether it replaced an earlier label of the same id. ``source`` is who gave it, by the
    name of their credential (``key:3f9a…``, ``user:ann``), or ``None`` where nobody knows.
    """

    seq: int
    at: float
    id: str
    value: Scalar
    correction: bool = False
    prediction: Prediction | None = None
    source: str | None = None


class LoadedExample(msgspec.Struct, frozen=True, gc=False):
    """A row of bulk history: features that came together with their target; ``source`` as of a label."""

    seq: int
    at: float
    features: Row
    target: Scalar
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asked for: see :data:`COMMANDS` for the names and their arguments."""

    seq: int
    at: float
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


COMMANDS = (
    "configure",
    "retrain",
    "promote",
    "rollback",
    "freeze",
    "unfreeze",
    "quarantine",
    "release",
    "unlearn",
    "erase",
)
"""An operator's commands: ``configure {spec}``, ``retrain {force}``, ``promote {version}``, ``rollback``,
``freeze`` and ``unfreeze`` without arguments of their own, ``quarantine {source}``, ``release {source}``,
``unlearn {source, since}`` (``since``: a position; what the source gave before it stays learned), and
``erase {erasure, events, known}`` (how many events were erased, and the first position at which one of them
could be learned, if any could).

Every command may carry ``by`` (who asked) and ``why``.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job, at the position where it became known. ``result`` is empty for a failure."""

    seq: int
    at: float
    job: str
    version: int
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The clock, for what happens by time alone (a label horizon in seconds, say)."""

    seq: int
    at: float


Event: TypeAlias = Prediction | Label | LoadedExample | Command | Outcome | Tick


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event on its way into the log, which gives it ``seq`` (and a prediction its ``row``).

    ``key`` is the prediction id for predictions and labels and makes them idempotent; for the other
    kinds it is an idempotency key or ``None``. ``body`` holds the rest as JSON values:

    ============  ==================================================================
    prediction    ``features``, ``value``, ``probabilities``, and ``version``
    label         ``value``, ``correction``, and ``source`` if it is known
    example       ``features``, ``target``, and ``source`` if it is known
    command       ``name`` and ``arguments``
    outcome       ``job``, ``version``, ``result``, ``error``
    tick          nothing
    ============  ==================================================================
    """

    kind: EventKind
    at: float
    key: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


class Status(StrEnum):
    """What the log did with a new event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    PARKED = "parked"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The log's answer for one new event. ``seq`` is the position of the event, or of the one it repeats.

    * prediction: ``accepted``; ``duplicate`` for a known id with the same features (``event`` is the
      recorded prediction, whose output must be answered again); ``conflict`` for a known id with
      other features.
    * label: ``accepted``; ``duplicate`` for the value already known; ``conflict`` for another value
      that is not marked as a correction; ``parked`` for an id that no prediction has yet (recorded,
      and joined when the prediction appears); ``erased`` for that of a prediction that was erased (it is
      not recorded).
    * other kinds: ``accepted``, or ``duplicate`` for a key already known.
    """

    status: Status
    seq: int | None
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a model's log stands: the newest position and counts of what it holds."""

    seq: int = 0
    rows: int = 0
    labels: int = 0
    parked: int = 0
    examples: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Example:
    """Features with a label: what learners learn from.

    ``order`` is the position of the features (examples are learned in this order); ``known`` is the
    position at which the label became known. ``row`` is the prediction's row, or 0 for bulk history.
    ``source`` is who gave the label.
    """

    order: int
    known: int
    row: int
    at: float
    features: Row
    target: Scalar
    version: int | None = None
    output: Output | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """The stored form of a version: JSON, arrays, and files of named formats. Nothing is pickled."""

    manifest: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store of bundles holds under a digest: its bytes, and when it was put last."""

    digest: str
    bytes: int
    at: float


class VersionState(StrEnum):
    """Where a version is in its life."""

    CANDIDATE = "candidate"
    CHAMPION = "champion"
    ARCHIVED = "archived"
    REFUSED = "refused"
    ERASED = "erased"
    """It had learned what was erased since, so its artifact is gone."""


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable learned state of a model.

    ``learned_through`` is the newest example position (``Example.order``) it has learned from;
    ``learned_upto`` is the log position as of which its training set was drawn. ``digest`` addresses
    its artifact and is ``None`` only for version 0, the baseline that knows nothing.
    """

    model: str
    number: int
    parent: int | None
    learner: str
    parameters: Mapping[str, Any]
    learned_from: int
    learned_through: int
    learned_upto: int
    rows: int
    digest: str | None
    metrics: Mapping[str, Any]
    created_at: float
    state: VersionState = VersionState.CANDIDATE


@dataclass(frozen=True, slots=True)
class Champion:
    """Which version answers. ``term`` counts the promotions so far: it is the fencing token of the next."""

    version: int
    term: int
    digest: str | None
    since: float


class DecisionKind(StrEnum):
    """What the loop can decide."""

    CONFIGURE = "configure"
    HOLD = "hold"
    WARN = "warn"
    UPDATE = "update"
    TRIAL = "trial"
    PROMOTE = "promote"
    REFUSE = "refuse"
    ROLLBACK = "rollback"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    REGIME = "regime"
    ABSTAIN = "abstain"
    FAIL = "fail"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    UNLEARN = "unlearn"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the ledger: what was decided at which event, why, and on what evidence.

    ``number`` counts a model's decisions from 1. ``version`` is the version it concerns. ``code`` is
    the version of everlearn that decided.
    """

    number: int
    seq: int
    at: float
    kind: DecisionKind
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a model stands, in numbers: its log, how far the loop has read it, and who answers.

    ``id`` is never that of a model that was deleted; ``decisions`` is the number of the newest decision.
    """

    id: int
    name: str
    head: Head
    cursor: int
    decisions: int
    champion: int
    term: int
    since: float


@dataclass(frozen=True, slots=True)
class Spent:
    """How many jobs have ended, and how many seconds their last attempts took together."""

    jobs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many messages wait, and the ids of the oldest and the newest."""

    messages: int
    oldest: int
    newest: int


class JobState(StrEnum):
    """Where a job is in its life.

    ``failed``: it cannot be done, and says why. ``dead``: it might have been done, but went wrong in every
    attempt; it waits for an operator. ``cancelled``: an operator ended it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.DEAD)
"""The states in which nobody works on a job any more."""

ADVANCE, TRAIN, VISION, MAINTENANCE = "advance", "train", "vision", "maintenance"
QUEUES = (ADVANCE, TRAIN, VISION, MAINTENANCE)
"""The queues. ``advance`` moves the loops on, and has the short jobs that a loop waits for."""

ROUTES: Mapping[str, str] = {
    "shadow": ADVANCE,
    "regime": ADVANCE,
    "train": TRAIN,
    "vision": VISION,
    "what_if": MAINTENANCE,
    "verify": MAINTENANCE,
    "hindsight": MAINTENANCE,
    "backfill": MAINTENANCE,
}
"""Which queue a kind of job goes through."""

ASIDE = frozenset({"what_if", "verify", "hindsight", "backfill"})
"""The kinds that no loop asked for: their end is no event, and their result stays with the job."""


LEASE_RAN_OUT = "the lease of the worker before ran out"
"""The error of a job that is done again because its worker was not heard of any more."""


def queue_of(kind: str) -> str:
    """The queue of a kind of job.

    >>> queue_of("shadow"), queue_of("train")
    ('advance', 'train')
    """
    return ROUTES.get(kind, TRAIN)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Background work that the loop asked for. ``arguments`` fix its inputs, so it can be repeated.

    ``kind`` is ``train`` (makes ``version``), ``shadow`` (scores versions on rows already answered) or
    ``regime`` (tests versions on a known regime).
    """

    id: str
    model: str
    kind: str
    version: int
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its lease. ``token`` is the fencing token: it grows with every lease.

    ``attempts`` are those that were begun, but for those given back by a worker that was stopped;
    ``started_at`` is when the newest began. ``traceback`` is where the last error came from, ``result`` what
    a job that no loop asked for has found.
    """

    spec: JobSpec
    state: JobState = JobState.QUEUED
    token: int = 0
    owner: str | None = None
    lease_until: float = 0.0
    attempts: int = 0
    not_before: float = 0.0
    progress: float = 0.0
    error: str | None = None
    created_at: float = 0.0
    finished_at: float | None = None
    started_at: float | None = None
    traceback: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def queue(self) -> str:
        """The queue that it goes through."""
        return queue_of(self.spec.kind)

    @property
    def taken_over(self) -> bool:
        """Whether this attempt began because the lease of the one before ran out."""
        return self.error == LEASE_RAN_OUT


@dataclass(frozen=True, slots=True)
class Promotion:
    """A change of champion: a compare-and-swap on the expected champion and its term."""

    version: int
    expected: int
    term: int
    at: float
    decision: int


class ScorePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The score of a stretch of matured rows, in the model's metric; see :mod:`everlearn.loop.history`.

    Points of a ``level`` count from 1; a point of level 0 is one window. It became known at the event
    ``seq``, at the time ``at``, when ``row`` predictions had been made; its own rows lie, but for some that
    were late, from the prediction ``first`` to ``last``. ``lower`` and ``upper`` are the
    confidence bounds, ``low`` and ``high`` the lowest and highest window in it. ``no_change`` and
    ``never_updated`` are the baselines' scores; the second is filled in later. ``candidate`` and ``bake``
    are the running evidence at its end.
    """

    level: int
    number: int
    seq: int
    at: float
    row: int
    rows: int
    first: int
    last: int
    score: float | None
    lower: float | None
    upper: float | None
    low: float | None
    high: float | None
    no_change: float | None
    threshold: float
    champion: int
    candidate: Mapping[str, Any] | None = None
    bake: Mapping[str, Any] | None = None
    never_updated: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands, read for many at once. ``card`` is what the loop said of it, as JSON.

    ``card`` is empty for a model whose loop has not moved since cards are written.
    """

    model: str
    card: bytes
    champion: int
    since: float
    head: Head
    cursor: int
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Step:
    """All that one advance of the loop writes, in one transaction. ``card``: what it says of the model."""

    before: int
    cursor: int
    state: bytes
    decisions: Sequence[Decision] = ()
    jobs: Sequence[JobSpec] = ()
    promotions: Sequence[Promotion] = ()
    refused: Sequence[int] = ()
    points: Sequence[ScorePoint] = ()
    card: bytes = b""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest committed step of a model: its cursor in the log and the loop's state there."""

    cursor: int = 0
    state: bytes = b""


class Gone(msgspec.Struct, frozen=True):
    """What an erasure took out of the log: kept only until nothing of it is left anywhere.

    ``ids`` and ``rows`` (numbers) of its predictions, ``seqs`` of all its events. ``truths`` are pairs of the
    position at which a label of it was learned first, and its value; ``known`` is the first position at which
    a row of it could be learned. ``files`` are the digests in its rows: images are stored under them.
    """

    ids: list[str] = []
    rows: list[int] = []
    seqs: list[int] = []
    truths: list[tuple[int, bool | int | float | str]] = []
    known: int | None = None
    files: list[str] = []


class ErasureState(StrEnum):
    """How far an erasure is: the log is clean, the loop's state is, and everything is, with a certificate."""

    LOGGED = "logged"
    FORGOTTEN = "forgotten"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Erasure:
    """The removal of one subject's rows from a model.

    ``subject`` is the salted SHA-256 of their id. ``seq`` is the position of the command, ``deadline`` the
    time by which no version that learned the rows may answer any more. ``gone`` is ``None`` once it is done.
    ``removed`` counts what was removed, by where it lay.
    """

    id: str
    model: str
    subject: str
    state: ErasureState
    seq: int
    at: float
    deadline: float
    by: str
    removed: Mapping[str, int] = field(default_factory=dict)
    gone: Gone | None = None
    certificate: Mapping[str, Any] | None = None
    done_at: float | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """Up to where a model's log has been thinned out.

    ``state`` is the loop's at position ``seq``: the record is proven from there on. Events from ``kept_from``
    on are all there, and from ``known_from`` on (which is no later) all that learning reads.
    """

    seq: int
    kept_from: int
    known_from: int
    at: float
    state: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the fold begins."""
        return Checkpoint(self.seq, self.state)


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell the outside world, delivered at least once and in order per destination."""

    id: int
    destination: str
    model: str
    body: Mapping[str, Any]
    attempts: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. ``next`` is the cursor of the following page, or ``None`` at the end."""

    items: Sequence[T]
    next: str | None = None
