"""What every store agrees on: which events are sound, what is the same, how a model is born, pages.

The in-memory and the SQL store keep their own books, but they share these small rules, so that neither
can drift from the other in what it accepts or says.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from everlearn.errors import ConflictError, Fault, FencedError, InvalidError, NotFoundError
from everlearn.loop.alerts import alert_of, ended_by, severity_of
from everlearn.spec import ModelSpec
from everlearn.types import (
    ASIDE,
    ENDED,
    LEASE_RAN_OUT,
    Champion,
    Decision,
    EventKind,
    Job,
    JobSpec,
    JobState,
    NewEvent,
    Page,
    Promotion,
    Row,
    Scalar,
    Step,
    Version,
    VersionState,
)

MAX_KEY = 400
"""Longest id or idempotency key, in characters."""

REGISTRY = "registry"
ALERTS = "alerts"
"""The outbox's destination for what the registry mirrors."""

_NEEDS = {
    EventKind.PREDICTION: ("features", "version"),
    EventKind.LABEL: ("value",),
    EventKind.EXAMPLE: ("features", "target"),
    EventKind.COMMAND: ("name",),
    EventKind.OUTCOME: ("job", "version"),
    EventKind.TICK: (),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer that was given, kept so that a repeated request gets it again.

    ``digest`` is that of the request's body: the same key with another digest is a client's mistake.
    """

    digest: str
    status: int
    body: bytes
    at: float


class Receipts(Protocol):
    """Answers by ``Idempotency-Key``, in scopes (a caller and a route, say)."""

    def get(self, scope: str, key: str) -> Reply | None:
        """The answer that was given, or ``None``."""
        ...

    def put(self, scope: str, key: str, reply: Reply) -> Reply:
        """Keep an answer; returns the one that was kept first if there is one already."""
        ...

    def forget(self, before: float) -> int:
        """Remove the answers given before a time; returns how many they were."""
        ...


def check_events(events: Sequence[NewEvent]) -> None:
    """Raise InvalidError, naming every fault, unless all events can be stored."""
    faults = [fault for i, event in enumerate(events) for fault in _faults_of(f"events[{i}]", event)]
    if faults:
        listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:5])
        raise InvalidError(f"Events cannot be logged: {listed}", faults)


def _faults_of(name: str, event: NewEvent) -> list[Fault]:
    faults = [
        Fault(f"{name}.body.{field}", f"a {event.kind} needs it")
        for field in _NEEDS[event.kind]
        if field not in event.body
    ]
    if not math.isfinite(event.at):
        faults.append(Fault(f"{name}.at", "must be a finite number of seconds since the epoch"))
    if event.key is None:
        if event.kind in (EventKind.PREDICTION, EventKind.LABEL):
            faults.append(Fault(f"{name}.key", f"a {event.kind} needs the prediction's id"))
    elif not is_storable(event.key):
        message = f"must be 1 to {MAX_KEY} characters of valid Unicode without NUL"
        faults.append(Fault(f"{name}.key", message))
    return faults


def is_storable(key: str) -> bool:
    """Whether an id or idempotency key can be stored by every store."""
    if not 0 < len(key) <= MAX_KEY or "\0" in key:
        return False
    return key.isascii() or not any("\ud800" <= c <= "\udfff" for c in key)


def clean_value(value: Any) -> Scalar:
    """A JSON scalar: NaN and infinities, which JSON has not, become ``None`` (missing)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def clean_row(features: Row) -> dict[str, Scalar]:
    """A copy of a row in which every value is a JSON scalar."""
    return {name: clean_value(value) for name, value in features.items()}


def digest_of(salt: str, text: str) -> str:
    """The salted SHA-256 of a text that is to be known again, and not told: 64 hex digits."""
    return hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def same_features(one: Row, other: Row) -> bool:
    """Whether two rows say the same: a missing column and ``None`` are equal."""
    return one == other or _present(one) == _present(other)


def _present(row: Row) -> dict[str, Scalar]:
    return {name: value for name, value in row.items() if value is not None}


def baseline_version(model: str, at: float) -> Version:
    """Version 0: what every model is born with."""
    return Version(model, 0, None, "majority", {}, 0, 0, 0, 0, None, {}, at, VersionState.CHAMPION)


def configure_event(spec: ModelSpec, at: float) -> NewEvent:
    """The command that puts a spec in force."""
    arguments = {"spec": spec.to_dict()}
    return NewEvent(EventKind.COMMAND, at, None, {"name": "configure", "arguments": arguments})


def failure_event(job: str, version: int, error: str, at: float) -> NewEvent:
    """The outcome of a job that ended without a version."""
    body = {"job": job, "version": version, "result": {}, "error": error}
    return NewEvent(EventKind.OUTCOME, at, None, body)


def failure_of(job: JobSpec, error: str, at: float) -> NewEvent | None:
    """The event that tells a job's loop of its failure; ``None`` where no loop asked for it."""
    return None if job.kind in ASIDE else failure_event(job.id, job.version, error, at)


def leased_job(job: Job, owner: str, seconds: float, now: float) -> Job:
    """A job that somebody begins to work on."""
    return replace(
        job,
        state=JobState.RUNNING,
        token=job.token + 1,
        owner=owner,
        lease_until=now + seconds,
        attempts=job.attempts + 1,
        progress=0.0,
        error=LEASE_RAN_OUT if job.state is JobState.RUNNING else job.error,
        started_at=now,
    )


def done_job(job: Job, now: float, result: Mapping[str, Any] | None) -> Job:
    """A job that is done."""
    ended = replace(job, state=JobState.DONE, progress=1.0, finished_at=now)
    return replace(ended, error=None, traceback=None, result=result)


def waiting_job(job: Job, error: str, traceback: str | None, retry_at: float, spared: bool) -> Job:
    """A job that was given back."""
    attempts = job.attempts - 1 if spared else job.attempts
    again = replace(job, state=JobState.QUEUED, owner=None, not_before=retry_at, attempts=attempts)
    return replace(again, error=error, traceback=traceback)


def ended_job(job: Job, state: JobState, error: str, traceback: str | None, now: float) -> Job:
    """A job that was given up."""
    return replace(job, state=state, error=error, traceback=traceback, finished_at=now)


def cancelled_job(job: Job, why: str, now: float) -> Job:
    """A job that an operator ends; raises ConflictError if it has ended already."""
    if job.state in ENDED:
        raise ConflictError(f"Job {job.spec.id!r} has ended already: it is {job.state}.")
    return replace(ended_job(job, JobState.CANCELLED, why, None, now), token=job.token + 1)


def renewed_job(job: Job, now: float) -> Job:
    """A job that is to be tried again; raises ConflictError unless it ended without success."""
    if job.state not in ENDED or job.state is JobState.DONE:
        raise ConflictError(
            f"Job {job.spec.id!r} is {job.state}: only one that went wrong can be tried again."
        )
    again = replace(job, state=JobState.QUEUED, owner=None, attempts=0, not_before=now, progress=0.0)
    return replace(again, finished_at=None)


_NO_FACTS = frozenset({"digest", "job", "spec"})
"""Evidence that says nothing to people."""


def alert_messages(model: str, decision: Decision) -> list[dict[str, Any]]:
    """What a decision is to people: an alert, or the end of some; mostly neither."""
    alert = alert_of(decision)
    kinds = [(kind, True) for kind in ended_by(decision)]
    if alert is not None:
        kinds.append((alert.kind, False))
    facts = {
        name: value
        for name, value in decision.evidence.items()
        if name not in _NO_FACTS and isinstance(value, (int, float, str)) and not isinstance(value, bool)
    }
    return [
        {
            "id": f"{model}:{decision.number}:{kind}{':over' if recovered else ''}",
            "kind": kind,
            "severity": severity_of(kind),
            "model": model,
            "decision": decision.number,
            "version": decision.version,
            "at": decision.at,
            "text": " ".join(decision.reason.split())[:2000],
            "recovered": recovered,
            "facts": facts,
        }
        for kind, recovered in kinds
    ]


def load_message(model: str, champion: Champion, at: float, text: str, recovered: bool) -> dict[str, Any]:
    """An API process could not load the champion, or now can."""
    return {
        "id": f"{model}:load:{champion.term}:{at:.0f}{':over' if recovered else ''}",
        "kind": "load",
        "severity": severity_of("load"),
        "model": model,
        "version": champion.version,
        "at": at,
        "text": text[:2000],
        "recovered": recovered,
    }


def model_message(model: str) -> dict[str, Any]:
    """A model was created, or its spec replaced."""
    return {"kind": "model", "model": model}


def version_message(model: str, number: int, job: str) -> dict[str, Any]:
    """A version was made by a job."""
    return {"kind": "version", "model": model, "number": number, "job": job}


def champion_message(model: str, promotion: Promotion) -> dict[str, Any]:
    """Another version answers; ``term`` is the term that begins with it."""
    return {
        "kind": "champion",
        "model": model,
        "version": promotion.version,
        "term": promotion.term + 1,
        "decision": promotion.decision,
    }


def unknown_model(model: str) -> NotFoundError:
    """The error for a model that is not there."""
    return NotFoundError(f"There is no model {model!r}: create it, or list the models to see their names.")


def unknown_version(model: str, number: int) -> NotFoundError:
    """The error for a version that is not there."""
    return NotFoundError(f"Model {model!r} has no version {number}: list its versions to see which it has.")


def unknown_job(job: str) -> NotFoundError:
    """The error for a job that is not there."""
    return NotFoundError(f"There is no job {job!r}: list the jobs of its model to see which there are.")


def unknown_subject(model: str, subject: str) -> NotFoundError:
    """The error for a subject of whom there are no rows."""
    shown = subject if len(subject) <= 60 else f"{subject[:60]}…"
    return NotFoundError(f"Model {model!r} has no rows of the subject {shown!r}")


def unknown_erasure(id: str) -> NotFoundError:  # noqa: A002
    """The error for an erasure that is not there."""
    return NotFoundError(f"There is no erasure {id[:60]!r}: list those of its model to see which there are.")


def not_yet(model: str, at: float) -> NotFoundError:
    """The error for asking who answered before the model was born."""
    return NotFoundError(f"Model {model!r} did not exist at {at}: ask for a later time.")


def taken_name(model: str) -> ConflictError:
    """The error for a second model of a name."""
    return ConflictError(f"There is a model {model!r} already: choose another name, or update it.")


def known_job(job: str) -> ConflictError:
    """The error for a second job of an id."""
    return ConflictError(f"There is a job {job!r} already: a step was written twice.")


def lost_lease(job: str) -> FencedError:
    """The error for a worker whose job went to another, was cancelled, or is gone."""
    return FencedError(f"Job {job!r} is no longer this worker's: drop its result and lease another.")


def lost_race(model: str, promotion: Promotion, version: int, term: int) -> FencedError:
    """The error for a promotion whose expectation does not hold."""
    return FencedError(
        f"Model {model!r} is at version {version}, term {term}, and not at version {promotion.expected}, "
        f"term {promotion.term}: read the champion and decide again."
    )


def check_step(model: str, step: Step, last: int) -> None:
    """Raise ConflictError unless the step's decisions are numbered on from the last, its jobs once."""
    numbers = [decision.number for decision in step.decisions]
    if any(number <= before for before, number in pairwise([last, *numbers])):
        raise ConflictError(f"Model {model!r} has decisions up to {last}: number new ones on from there.")
    ids = [job.id for job in step.jobs]
    for job in ids:
        if ids.count(job) > 1:
            raise known_job(job)


def check_outcome(event: NewEvent) -> None:
    """Raise InvalidError unless an event can end a job."""
    check_events([event])
    if event.kind is not EventKind.OUTCOME:
        message = f"must be an outcome, not a {event.kind}"
        raise InvalidError(f"outcome: {message}", [Fault("outcome", message)])


def number_of(cursor: str | None) -> int | None:
    """The number that a page's cursor holds; raises InvalidError if it holds none."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        message = "must be the 'next' of an earlier page"
        raise InvalidError(f"cursor: {message}", [Fault("cursor", message)])
    return int(cursor)


def kinds_of(kind: str | Collection[str]) -> list[str]:
    """One kind or several, as a list."""
    return [str(kind)] if isinstance(kind, str) else [str(one) for one in kind]


def page_of(items: Sequence[T], limit: int, cursor_of: Callable[[T], Any]) -> Page[T]:
    """A page of ``limit`` items, given one more than that if there are more."""
    shown = items[:limit]
    more = len(items) > limit
    return Page(shown, str(cursor_of(shown[-1])) if more else None)


def check_limit(limit: int) -> None:
    """Raise InvalidError unless a page can have that many items."""
    if limit < 1:
        raise InvalidError("limit: must be at least 1", [Fault("limit", "must be at least 1")])


def outcome_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an outcome, with those that may be left out."""
    return {
        "job": body["job"],
        "version": body["version"],
        "result": body.get("result") or {},
        "error": body.get("error"),
    }
