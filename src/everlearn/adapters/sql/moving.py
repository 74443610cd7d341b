"""Copying an installation's database into another, of either kind, so that nothing has to be believed.

The log is copied in batches in order of its key. Each batch is one transaction of the target, which also
writes down how far it came: a copy that was killed goes on there. The last pass reads one snapshot of the
source: what the log has got since, then every other table, each in one transaction; and then it compares
all tables by the number and the SHA-256 of their rows. Until that is done the target holds a table
``moving``, and no server starts on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from everlearn.adapters.sql import bulk, dialects, digests, migrate, numbering
from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.tables import events, metadata, models
from everlearn.errors import ConflictError, InvalidError, UnavailableError

Report = Callable[[str, int, int], None]
"""Told of the work at hand, how far it is, and how far it has to go."""

moving = Table(
    migrate.MOVING,
    MetaData(),
    Column("source", Text, nullable=False),
    Column("place", Text),
    Column("rows", BigInteger, nullable=False),
)
"""One row in the target: where the copy comes from, the key of the last event copied, and how many were."""

OTHERS = [table for table in metadata.sorted_tables if table not in (models, events)]


@dataclass(frozen=True, slots=True)
class TableCheck:
    """One table on both sides."""

    name: str
    source: digests.Digest
    target: digests.Digest

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows."""
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class Moved:
    """What a copy did: rows of the log copied by this run, those found from runs before, and the proof."""

    copied: int
    resumed: int
    checks: Sequence[TableCheck]

    @property
    def verified(self) -> bool:
        """Whether every table was compared and is equal."""
        return bool(self.checks) and all(check.equal for check in self.checks)


class Mover:
    """Copies ``source`` to ``target``; nobody else may write to either.

    Raises InvalidError where both are one, ConflictError where the target holds something else, and
    UnavailableError where a database does not answer or the source's schema is not the newest.
    """

    def __init__(self, source: Database, target: Database, report: Report, *, batch: int = 10_000) -> None:
        if source.url == target.url:
            raise InvalidError("The source and the target are the same database: name two.")
        self._source, self._target, self._report, self._batch = source, target, report, batch

    def run(self, *, ahead: bool = False) -> Moved:
        """Copy and compare. With ``ahead`` only what the log holds now, beside a server that may run."""
        self._check_source()
        place, resumed = self._begin()
        with self._source.read() as connection:
            _add_models(self._target, connection)
        copied, place = self._copy_log(place, resumed)
        if ahead:
            return Moved(copied, resumed, ())
        with snapshot(self._source) as source:
            more = self._finish(source, place, resumed + copied)
            checks = list(self._compare(source))
        moved = Moved(copied + more, resumed, checks)
        if moved.verified:
            with self._target.write() as connection:
                moving.drop(connection)
                connection.execute(text("ANALYZE"))  # the first queries shall know how long the tables are
        return moved

    def verify(self) -> Moved:
        """Compare both sides, table by table; changes nothing."""
        self._check_source()
        with snapshot(self._source) as source:
            return Moved(0, 0, list(self._compare(source)))

    def _check_source(self) -> None:
        with self._source.read() as connection:
            found, newest = migrate.revisions(connection)
            migrate.refuse_half_moved(connection, self._source.name)
        if found != newest:
            raise UnavailableError(
                f"The database {self._source.name} is at schema {found or 'none'} and not at {newest}: "
                "start the server on it once with this version, which migrates it"
            )

    def _begin(self) -> tuple[list[int] | None, int]:
        """Make the target ready; returns the key of the last event that is there, and how many are."""
        with self._target.write() as connection:
            if inspect(connection).has_table(moving.name):
                row = connection.execute(select(moving)).one()
                if row.source != self._source.name:
                    raise self._occupied(f"a copy of {row.source} that is not finished")
                return None if row.place is None else json.loads(row.place), row.rows
            migrate.upgrade(connection)
            for table in metadata.sorted_tables:
                if connection.execute(select(table).limit(1)).first() is not None:
                    raise self._occupied(f"rows in its table {table.name}")
            moving.create(connection)
            connection.execute(insert(moving).values(source=self._source.name, place=None, rows=0))
        return None, 0

    def _occupied(self, what: str) -> ConflictError:
        return ConflictError(
            f"The target {self._target.name} holds {what}: name an empty database, or empty this one"
        )

    def _copy_log(self, place: list[int] | None, resumed: int) -> tuple[int, list[int] | None]:
        with self._source.read() as connection:
            total = connection.scalar(select(func.coalesce(func.sum(models.c.last_seq), 0))) or 0
        copied = 0
        while True:
            with self._source.read() as connection:  # a short one: the source's writers are not held up
                rows = next(digests.batches(connection, events, place, self._batch), ())
            if not rows:
                return copied, place
            place = self._write(rows, place, resumed + copied)
            copied += len(rows)
            self._report("copying the log", min(resumed + copied, total), total)

    def _write(self, rows: Sequence[Row[Any]], before: list[int] | None, there: int) -> list[int]:
        """Add events and write down how far that is, at once; raises ConflictError if another copy runs."""
        after = [rows[-1].model_id, rows[-1].seq]
        old = None if before is None else json.dumps(before)
        known = {row.model_id for row in rows}
        with self._target.write() as connection:
            step = update(moving).where(moving.c.place.is_not_distinct_from(old), moving.c.rows == there)
            moved = step.values(place=json.dumps(after), rows=there + len(rows))
            if connection.execute(moved).rowcount != 1:
                raise ConflictError(f"Another copy to {self._target.name} is under way: let it finish.")
            there_ids = set(connection.scalars(select(models.c.id).where(models.c.id.in_(known))))
            bulk.load(connection, events, (row for row in rows if row.model_id in there_ids))
        return after

    def _finish(self, source: Connection, place: list[int] | None, there: int) -> int:
        """What came since, and all other tables, as of the snapshot."""
        _add_models(self._target, source)
        copied = 0
        for rows in digests.batches(source, events, place, self._batch):
            place = self._write(rows, place, there + copied)
            copied += len(rows)
        self._catch_up(source)
        with self._target.write() as connection:
            _settle_models(source, connection)
        for i, table in enumerate(OTHERS):
            self._report("copying the rest", i, len(OTHERS))
            self._copy_table(source, table)
        with self._target.write() as connection:
            numbering.settle(source, connection)
        return copied

    def _catch_up(self, source: Connection) -> None:
        """Bring each model's log to the same ends: models behind the place may have grown meanwhile."""
        wanted = _ends(source)
        with self._target.read() as connection:
            found = _ends(connection)
        for model in wanted:
            have, there = found.get(model, (0, 0))
            own = events.c.model_id == model
            older = select(func.count()).select_from(events).where(own, events.c.seq <= have)
            if source.scalar(older) != there:  # some were dropped from the source meanwhile
                have = 0
                with self._target.write() as connection:
                    connection.execute(delete(events).where(own))
            for rows in digests.batches(source, events, [model, have], self._batch, own):
                with self._target.write() as connection:
                    bulk.load(connection, events, rows)

    def _copy_table(self, source: Connection, table: Table) -> None:
        with self._target.read() as connection:
            if digests.table_digest(connection, table) == digests.table_digest(source, table):
                return
        with self._target.write() as connection:
            connection.execute(delete(table))
            for rows in digests.batches(source, table):
                bulk.load(connection, table, rows)

    def _compare(self, source: Connection) -> Iterator[TableCheck]:
        total = 2 * (source.scalar(select(func.coalesce(func.sum(models.c.last_seq), 0))) or 0)
        done = 0

        def more(rows: int) -> None:
            nonlocal done
            done += rows
            self._report("comparing", min(done, total), total)

        with snapshot(self._target) as target:
            for table in metadata.sorted_tables:
                yield TableCheck(
                    table.name,
                    digests.table_digest(source, table, more),
                    digests.table_digest(target, table, more),
                )


def sessions(database: Database) -> int:
    """How many connections of everlearn a PostgreSQL database has beside this one; 0 for SQLite."""
    with database.read() as connection:
        if connection.dialect.name != "postgresql":
            return 0
        query = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = :name AND pid <> pg_backend_pid()"
        )
        return int(connection.scalar(query, {"name": dialects.APPLICATION}) or 0)


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """A transaction that reads one state of the database throughout."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


def _ends(connection: Connection) -> dict[int, tuple[int, int]]:
    """The newest position of each model's log, and how many events it holds."""
    query = select(events.c.model_id, func.max(events.c.seq), func.count()).group_by(events.c.model_id)
    return {model: (last, count) for model, last, count in connection.execute(query)}


def _add_models(target: Database, source: Connection) -> None:
    """Models that the target has not yet: the log's rows refer to them."""
    rows = [row._asdict() for row in source.execute(select(models))]
    with target.write() as connection:
        there = set(connection.scalars(select(models.c.id)))
        if new := [row for row in rows if row["id"] not in there]:
            connection.execute(insert(models), new)


def _settle_models(source: Connection, target: Connection) -> None:
    """The source's models, and no others. Their rows are not removed first: all others refer to them."""
    rows = [row._asdict() for row in source.execute(select(models))]
    target.execute(delete(models).where(models.c.id.not_in([row["id"] for row in rows])))
    make = postgresql.insert if target.dialect.name == "postgresql" else sqlite.insert
    for row in rows:
        target.execute(make(models).values(row).on_conflict_do_update(index_elements=["id"], set_=row))
