"""Jobs in SQL: rows with leases. A token that grows with every lease fences off late workers.

Transactions lock the model's row before the job's, as all others do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from everlearn.adapters import rules
from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database, locked_model_row, model_id
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.models import add_version
from everlearn.adapters.sql.outbox import tell
from everlearn.adapters.sql.tables import events, jobs, models
from everlearn.errors import NotFoundError
from everlearn.types import (
    QUEUES,
    Job,
    JobSpec,
    JobState,
    NewEvent,
    Outcome,
    Page,
    Receipt,
    Version,
    VersionState,
    queue_of,
)

_JOBS: Select[Any] = select(jobs, models.c.name.label("model")).join(models, models.c.id == jobs.c.model_id)
_NEVER = -1.0


class SqlJobs:
    """:class:`everlearn.ports.Jobs` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """See the port. Asks without a lock first: most of the time there is nothing to do."""
        free = [is_due(now)] if not most else [is_due(now), _running(now) < most]
        due = _in_turn(queues, free) if id is None else _JOBS.where(jobs.c.id == id, *free)
        with self._database.read() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            locked = due.limit(1).with_for_update(skip_locked=True, of=jobs)
            row = connection.execute(locked).one_or_none()
            if row is None:
                return None
            leased = rules.leased_job(job_of(row), owner, seconds, now)
            write_job(connection, leased)
            return leased

    def renew(self, job: Job, seconds: float, now: float, progress: float) -> None:
        """See the port."""
        held = and_(
            jobs.c.id == job.spec.id, jobs.c.token == job.token, jobs.c.state == JobState.RUNNING.value
        )
        change = update(jobs).where(held).values(lease_until=now + seconds, progress=progress)
        with self._database.write() as connection:
            if connection.execute(change).rowcount != 1:
                raise rules.lost_lease(job.spec.id)

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
        with self._database.write() as connection:
            model, held = _held(connection, job)
            receipt = append_locked(connection, model, [outcome])[0] if outcome is not None else None
            if version is not None:
                add_version(connection, model.id, replace(version, state=VersionState.CANDIDATE))
            write_job(connection, rules.done_job(held, now, result))
            if version is not None:
                tell(connection, model.id, rules.version_message(model.name, version.number, job.spec.id))
            return None if receipt is None else _outcome(connection, model.id, receipt)

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
        with self._database.write() as connection:
            model, held = _held(connection, job)
            if retry_at is not None:
                write_job(connection, rules.waiting_job(held, error, traceback, retry_at, spared))
                return
            if (event := rules.failure_of(held.spec, error, now)) is not None:
                append_locked(connection, model, [event])
            state = JobState.DEAD if dead else JobState.FAILED
            write_job(connection, rules.ended_job(held, state, error, traceback, now))

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Job]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._database.read() as connection:
            query = _JOBS.where(jobs.c.model_id == model_id(connection, model))
            if before is not None:
                query = query.where(jobs.c.number < before)
            rows = connection.execute(query.order_by(jobs.c.number.desc()).limit(limit + 1)).all()
        page = rules.page_of(rows, limit, lambda row: row.number)
        return Page([job_of(row) for row in page.items], page.next)

    def get(self, id: str) -> Job:  # noqa: A002
        """See the port."""
        with self._database.read() as connection:
            return find_job(connection, id)


def is_due(now: float) -> Any:
    """Whether a job can be leased."""
    return or_(
        and_(jobs.c.state == JobState.QUEUED.value, jobs.c.not_before <= now),
        and_(jobs.c.state == JobState.RUNNING.value, jobs.c.lease_until <= now),
    )


def _running(now: float) -> Any:
    """How many jobs of a job's model and queue run."""
    other = jobs.alias("running")
    runs = and_(other.c.state == JobState.RUNNING.value, other.c.lease_until > now)
    mine = and_(other.c.model_id == jobs.c.model_id, other.c.queue == jobs.c.queue, runs)
    return select(func.count()).select_from(other).where(mine).scalar_subquery()


def served_at() -> Any:
    """When a job's model had its last turn."""
    other = jobs.alias("served")
    newest = select(func.max(other.c.started_at)).where(other.c.model_id == jobs.c.model_id)
    return func.coalesce(newest.scalar_subquery(), _NEVER)


def _in_turn(queues: Sequence[str], free: Sequence[Any]) -> Select[Any]:
    """The oldest due job of each model: queues in order, in each the model longest without a turn first."""
    due = and_(jobs.c.queue.in_(queues), *free)
    oldest = select(func.min(jobs.c.number).label("number")).where(due)
    heads = oldest.group_by(jobs.c.model_id, jobs.c.queue).subquery()
    query = _JOBS.join(heads, heads.c.number == jobs.c.number).where(due)
    rank = case({queue: place for place, queue in enumerate(QUEUES)}, value=jobs.c.queue, else_=len(QUEUES))
    return query.order_by(rank, served_at(), jobs.c.number)


def _held(connection: Connection, job: Job) -> tuple[Row[Any], Job]:
    """The model's row and the job, both locked; raises FencedError unless the token holds the lease."""
    try:
        model = locked_model_row(connection, job.spec.model)
    except NotFoundError:
        raise rules.lost_lease(job.spec.id) from None
    query = _JOBS.where(jobs.c.id == job.spec.id).with_for_update(of=jobs)
    row = connection.execute(query).one_or_none()
    if row is None or row.state != JobState.RUNNING or row.token != job.token:
        raise rules.lost_lease(job.spec.id)
    return model, job_of(row)


def write_job(connection: Connection, job: Job) -> None:
    """Write the lease of a job."""
    row = {name: getattr(job, name) for name in Job.__slots__ if name != "spec"}
    row |= {"state": job.state.value, "result": None if job.result is None else to_json(job.result)}
    connection.execute(update(jobs).where(jobs.c.id == job.spec.id).values(row))


def insert_job(connection: Connection, model: int, spec: JobSpec, at: float) -> None:
    """Queue a job; raises ConflictError if its id is taken."""
    row = {
        "id": spec.id,
        "model_id": model,
        "kind": spec.kind,
        "version": spec.version,
        "arguments": to_json(spec.arguments),
        "state": JobState.QUEUED.value,
        "created_at": at,
        "queue": queue_of(spec.kind),
    }
    try:
        connection.execute(insert(jobs).values(row))
    except IntegrityError:
        raise rules.known_job(spec.id) from None


def find_job(connection: Connection, id: str) -> Job:  # noqa: A002
    """A job; raises NotFoundError."""
    row = connection.execute(_JOBS.where(jobs.c.id == id)).one_or_none()
    if row is None:
        raise rules.unknown_job(id)
    return job_of(row)


def find_jobs(connection: Connection, condition: Any) -> list[Job]:
    """The jobs for which a condition holds, oldest first."""
    return [job_of(row) for row in connection.execute(_JOBS.where(condition).order_by(jobs.c.number))]


def job_of(row: Row[Any]) -> Job:
    """The job in a row."""
    spec = JobSpec(row.id, row.model, row.kind, row.version, from_json(row.arguments))
    fields = {name: getattr(row, name) for name in Job.__slots__ if name != "spec"}
    return Job(spec, **{**fields, "state": JobState(row.state), "result": from_json(row.result)})


def _outcome(connection: Connection, model: int, receipt: Receipt) -> Outcome:
    query = select(events.c.at, events.c.body).where(events.c.model_id == model, events.c.seq == receipt.seq)
    row = connection.execute(query).one()
    return Outcome(receipt.seq or 0, row.at, **rules.outcome_body(from_json(row.body)))
