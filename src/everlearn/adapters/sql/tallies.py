"""What monitoring reads of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import case, func, select

from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.tables import jobs, models, outbox
from everlearn.types import ENDED, Head, Spent, Tally, Waiting

_TOOK = jobs.c.finished_at - jobs.c.started_at
_SECONDS = func.sum(case((_TOOK > 0.0, _TOOK), else_=0.0))
_SPENT = (
    select(jobs.c.queue, func.count(), _SECONDS)
    .where(
        jobs.c.state.in_(sorted(state.value for state in ENDED)),
        jobs.c.started_at.is_not(None),
        jobs.c.finished_at.is_not(None),
    )
    .group_by(jobs.c.queue)
)
_WAITING = select(outbox.c.destination, func.count(), func.min(outbox.c.id), func.max(outbox.c.id)).group_by(
    outbox.c.destination
)


class SqlTallies:
    """:class:`everlearn.ports.Tallies` in SQL: a query each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def models(self) -> Sequence[Tally]:
        """See the port."""
        with self._database.read() as connection:
            return [
                Tally(
                    row.id,
                    row.name,
                    Head(row.last_seq, row.last_row, row.labels, row.parked, row.examples, row.last_at),
                    row.cursor,
                    row.decisions,
                    row.champion,
                    row.term,
                    row.since,
                )
                for row in connection.execute(select(models).order_by(models.c.name))
            ]

    def spent(self) -> Mapping[str, Spent]:
        """See the port."""
        with self._database.read() as connection:
            rows = connection.execute(_SPENT)
            return {queue: Spent(count, float(seconds)) for queue, count, seconds in rows}

    def waiting(self) -> Mapping[str, Waiting]:
        """See the port."""
        with self._database.read() as connection:
            return {row[0]: Waiting(*row[1:]) for row in connection.execute(_WAITING)}
