"""The backlog in SQL: what waits over all models, and what an operator does about a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from everlearn.adapters import rules
from everlearn.adapters.sql.database import Database, locked_model_row
from everlearn.adapters.sql.jobs import find_job, find_jobs, insert_job, is_due, served_at, write_job
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.tables import jobs
from everlearn.types import Job, JobSpec, JobState


class SqlBacklog:
    """:class:`everlearn.ports.Backlog` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, spec: JobSpec, now: float) -> Job:
        """See the port."""
        with self._database.write() as connection:
            insert_job(connection, locked_model_row(connection, spec.model).id, spec, now)
            return find_job(connection, spec.id)

    def due(self, queue: str, limit: int, now: float, *, most: int = 0) -> Sequence[str]:
        """See the port."""
        running = (
            select(jobs.c.model_id, func.count().label("jobs"))
            .where(jobs.c.queue == queue, jobs.c.state == JobState.RUNNING.value, jobs.c.lease_until > now)
            .group_by(jobs.c.model_id)
            .subquery()
        )
        turn = func.row_number().over(partition_by=jobs.c.model_id, order_by=jobs.c.number).label("turn")
        due = (
            select(jobs.c.id, jobs.c.number, turn, served_at().label("served"), running.c.jobs)
            .outerjoin(running, running.c.model_id == jobs.c.model_id)
            .where(jobs.c.queue == queue, is_due(now))
            .subquery()
        )
        query = select(due.c.id).order_by(due.c.turn, due.c.served, due.c.number).limit(limit)
        if most:
            query = query.where(due.c.turn + func.coalesce(due.c.jobs, 0) <= most)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def running(self) -> Sequence[Job]:
        """See the port."""
        with self._database.read() as connection:
            return find_jobs(connection, jobs.c.state == JobState.RUNNING.value)

    def depths(self) -> Mapping[str, Mapping[str, int]]:
        """See the port."""
        query = select(jobs.c.queue, jobs.c.state, func.count()).group_by(jobs.c.queue, jobs.c.state)
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for queue, state, count in connection.execute(query):
                found.setdefault(queue, {})[state] = count
        return found

    def cancel(self, id: str, now: float, why: str) -> Job:  # noqa: A002
        """See the port."""
        with self._database.write() as connection:
            model, job = _locked(connection, id)
            cancelled = rules.cancelled_job(job, why, now)
            if (event := rules.failure_of(job.spec, why, now)) is not None:
                append_locked(connection, model, [event])
            write_job(connection, cancelled)
            return cancelled

    def retry(self, id: str, now: float) -> Job:  # noqa: A002
        """See the port."""
        with self._database.write() as connection:
            _, job = _locked(connection, id)
            again = rules.renewed_job(job, now)
            write_job(connection, again)
            return again


def _locked(connection: Connection, id: str) -> tuple[Row[Any], Job]:  # noqa: A002
    """The row of a job's model, locked, and the job as it is then; raises NotFoundError."""
    model = locked_model_row(connection, find_job(connection, id).spec.model)
    connection.execute(select(jobs.c.id).where(jobs.c.id == id).with_for_update())
    return model, find_job(connection, id)
