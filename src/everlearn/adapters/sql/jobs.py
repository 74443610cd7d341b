"""Jobs in SQL: rows with leases. A token that grows with every lease fences off late workers.

Transactions lock the model's row before the job's, as all others do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, or_, select, update

from everlearn.adapters import rules
from everlearn.adapters.sql.codec import from_json
from everlearn.adapters.sql.database import Database, locked_model_row, model_id
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.models import add_version
from everlearn.adapters.sql.outbox import tell
from everlearn.adapters.sql.tables import events, jobs, models
from everlearn.errors import NotFoundError
from everlearn.types import (
    Job,
    JobSpec,
    JobState,
    NewEvent,
    Outcome,
    Page,
    Receipt,
    Version,
    VersionState,
)

_JOBS: Select[Any] = select(jobs, models.c.name.label("model")).join(models, models.c.id == jobs.c.model_id)


class SqlJobs:
    """:class:`everlearn.ports.Jobs` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lease(self, owner: str, seconds: float, now: float) -> Job | None:
        """See the port. Asks without a lock first: most of the time there is nothing to do."""
        due = _JOBS.where(_is_due(now)).order_by(jobs.c.number).limit(1)
        with self._database.read() as connection:
            if connection.execute(due).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(due.with_for_update(skip_locked=True, of=jobs)).one_or_none()
            if row is None:
                return None
            leased = replace(
                _job(row),
                state=JobState.RUNNING,
                token=row.token + 1,
                owner=owner,
                lease_until=now + seconds,
                attempts=row.attempts + 1,
                progress=0.0,
            )
            _write(connection, leased)
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

    def finish(self, job: Job, version: Version | None, outcome: NewEvent, now: float) -> Outcome:
        """See the port."""
        rules.check_outcome(outcome)
        with self._database.write() as connection:
            model, held = _held(connection, job)
            (receipt,) = append_locked(connection, model, [outcome])
            if version is not None:
                add_version(connection, model.id, replace(version, state=VersionState.CANDIDATE))
            done = replace(held, state=JobState.DONE, progress=1.0, error=None, finished_at=now)
            _write(connection, done)
            if version is not None:
                tell(connection, model.id, rules.version_message(model.name, version.number, job.spec.id))
            return _outcome(connection, model.id, receipt)

    def fail(self, job: Job, error: str, now: float, retry_at: float | None) -> None:
        """See the port."""
        with self._database.write() as connection:
            model, held = _held(connection, job)
            if retry_at is not None:
                again = replace(held, state=JobState.QUEUED, owner=None, not_before=retry_at, error=error)
                _write(connection, again)
                return
            event = rules.failure_event(held.spec.id, held.spec.version, error, now)
            append_locked(connection, model, [event])
            _write(connection, replace(held, state=JobState.FAILED, error=error, finished_at=now))

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
        return Page([_job(row) for row in page.items], page.next)

    def get(self, id: str) -> Job:  # noqa: A002
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(_JOBS.where(jobs.c.id == id)).one_or_none()
        if row is None:
            raise rules.unknown_job(id)
        return _job(row)


def _is_due(now: float) -> Any:
    return or_(
        and_(jobs.c.state == JobState.QUEUED.value, jobs.c.not_before <= now),
        and_(jobs.c.state == JobState.RUNNING.value, jobs.c.lease_until <= now),
    )


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
    return model, _job(row)


def _write(connection: Connection, job: Job) -> None:
    row = {name: getattr(job, name) for name in Job.__slots__ if name != "spec"}
    row["state"] = job.state.value
    connection.execute(update(jobs).where(jobs.c.id == job.spec.id).values(row))


def _job(row: Row[Any]) -> Job:
    spec = JobSpec(row.id, row.model, row.kind, row.version, from_json(row.arguments))
    fields = {name: getattr(row, name) for name in Job.__slots__ if name != "spec"}
    return Job(spec, **{**fields, "state": JobState(fields["state"])})


def _outcome(connection: Connection, model: int, receipt: Receipt) -> Outcome:
    query = select(events.c.at, events.c.body).where(events.c.model_id == model, events.c.seq == receipt.seq)
    row = connection.execute(query).one()
    return Outcome(receipt.seq or 0, row.at, **rules.outcome_body(from_json(row.body)))
