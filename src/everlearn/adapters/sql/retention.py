"""Which events of a log are old, and how they are dropped: in batches, each under the lock of its model."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, and_, case, delete, distinct, func, insert, or_, select, update

from everlearn.adapters.sql.appending import chunks
from everlearn.adapters.sql.codec import COMMAND, LABEL, OUTCOME, PREDICTION
from everlearn.adapters.sql.database import Database, locked_model_row, model_id, model_row
from everlearn.adapters.sql.tables import events, jobs, log_floors, log_marks, models
from everlearn.types import Floor, JobState

BATCH = 2_000
"""Positions that one transaction clears: appends to the model wait for it."""

_OPEN = (JobState.QUEUED.value, JobState.RUNNING.value)
_LASTING = (COMMAND, OUTCOME)


class SqlRetention:
    """What retention asks of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, now: float, every: float) -> int:
        """Note how long each log is now, unless that was noted less than ``every`` seconds ago."""
        newest = func.coalesce(func.max(log_marks.c.at), 0.0)
        noted = select(newest).where(log_marks.c.model_id == models.c.id).scalar_subquery()
        due = select(models.c.id, models.c.last_seq).where(noted <= now - every)
        with self._database.write() as connection:
            rows = [{"model_id": id_, "at": now, "seq": seq} for id_, seq in connection.execute(due)]
            if rows:
                connection.execute(insert(log_marks), rows)
        return len(rows)

    def logged_by(self, model: str, at: float) -> int:
        """The newest position that is known to have been logged by a time; 0 if none is."""
        query = select(func.coalesce(func.max(log_marks.c.seq), 0)).where(log_marks.c.at <= at)
        with self._database.read() as connection:
            own = log_marks.c.model_id == model_id(connection, model)
            return int(connection.scalar(query.where(own)) or 0)

    def floor(self, model: str) -> Floor | None:
        """How far the log has been thinned out, if it has."""
        with self._database.read() as connection:
            query = select(log_floors).where(log_floors.c.model_id == model_id(connection, model))
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Floor(row.seq, row.kept_from, row.known_from, row.at, bytes(row.state))

    def first_open(self, model: str, waiting: int, mature: tuple[int, float], after: int) -> int | None:
        """The position of the first prediction whose label may still count in its turn, from a position on.

        One past the row ``waiting``, or past both the row and the time up to which all is ``mature``.
        """
        with self._database.read() as connection:
            own = events.c.model_id == model_id(connection, model)
            young = and_(events.c.row > mature[0], events.c.at > mature[1])
            is_open = or_(events.c.row > waiting, young)
            past = and_(own, events.c.seq >= after, events.c.kind == PREDICTION, is_open)
            found = connection.scalar(select(events.c.seq).where(past).order_by(events.c.seq).limit(1))
        return None if found is None else int(found)

    def newest_known(self, model: str, count: int) -> int:
        """The position at which the oldest of so many newest examples became known; 0 if there are fewer."""
        example = case((events.c.kind == PREDICTION, events.c.seq), else_=events.c.ref)
        rows = count
        with self._database.read() as connection:
            own = and_(events.c.model_id == model_id(connection, model), events.c.ref.is_not(None))
            query = select(events.c.seq).where(own).order_by(events.c.seq.desc())
            while first := connection.scalar(query.offset(rows - 1).limit(1)):
                found = connection.scalar(
                    select(func.count(distinct(example))).where(own, events.c.seq >= first)
                )
                if (found or 0) >= count:
                    return int(first)
                rows += count - (found or 0)  # a correction takes the place of the value before it
        return 0

    def raise_floor(self, model: str, before: int, floor: Floor) -> bool:
        """Write a new floor down, in place of the one at ``before`` (0: none), before anything is dropped.

        ``False``, and nothing is written, where another process was faster, or a job of the model has not
        ended: it may yet read what is old.
        """
        with self._database.write() as connection:
            row = locked_model_row(connection, model)
            own = log_floors.c.model_id == row.id
            there = connection.scalar(select(log_floors.c.seq).where(own)) or 0
            busy = select(jobs.c.id).where(jobs.c.model_id == row.id, jobs.c.state.in_(_OPEN)).limit(1)
            if there != before or row.cursor < floor.seq or connection.scalar(busy) is not None:
                return False
            connection.execute(delete(log_floors).where(own))
            values = {name: getattr(floor, name) for name in Floor.__slots__}
            connection.execute(insert(log_floors).values(model_id=row.id, **values))
            old = and_(log_marks.c.model_id == row.id, log_marks.c.seq < min(floor.seq, floor.kept_from))
            connection.execute(delete(log_marks).where(old))
        return True

    def drop(self, model: str, floor: Floor, named: Collection[str]) -> int:
        """Drop what is old and not asked for any more; returns how many events went.

        What stays below ``kept_from``: commands and outcomes; what learning reads; what an event that stays
        refers to; and the predictions of the ids in ``named``, with their labels. Harmless when repeated.
        """
        with self._database.read() as connection:
            row = model_row(connection, model)
            spared, seen = _spared(connection, row.id, floor, named), row.last_seq
        dropped, done = 0, 0
        while done < floor.kept_from - 1:
            with self._database.write() as connection:
                row = locked_model_row(connection, model)
                spared |= _referred(connection, row.id, seen, floor.kept_from)  # what came since
                seen = row.last_seq
                last = _next(connection, row.id, done, floor.kept_from)
                if last is None:
                    return dropped
                dropped += _drop(connection, row.id, floor, (done, last), spared)
                done = last
        return dropped


def _next(connection: Connection, model: int, after: int, below: int) -> int | None:
    """The end of the next batch of positions that are there; ``None`` if there are none."""
    some = (
        select(events.c.seq)
        .where(events.c.model_id == model, events.c.seq > after, events.c.seq < below)
        .order_by(events.c.seq)
        .limit(BATCH)
        .subquery()
    )
    last = connection.scalar(select(func.max(some.c.seq)))
    return None if last is None else int(last)


def _spared(connection: Connection, model: int, floor: Floor, named: Collection[str]) -> set[int]:
    """Positions below the floor that stay, and are not told by their kind or place alone."""
    found = _referred(connection, model, floor.known_from - 1, floor.kept_from)
    for keys in chunks(sorted(named), 500):
        wanted = and_(events.c.model_id == model, events.c.key.in_(keys))
        rows = connection.execute(select(events.c.seq, events.c.ref).where(wanted))
        found.update(seq for row in rows for seq in row if seq is not None)
    return found | _refs_of(connection, model, found)


def _referred(connection: Connection, model: int, after: int, below: int) -> set[int]:
    """What events after a position refer to below another, and what that refers to."""
    query = select(events.c.ref).where(
        events.c.model_id == model, events.c.seq > after, events.c.ref.is_not(None), events.c.ref < below
    )
    found = set(connection.scalars(query))
    return found | _refs_of(connection, model, found)


def _refs_of(connection: Connection, model: int, places: Iterable[int]) -> set[int]:
    found: set[int] = set()
    for some in chunks(sorted(places), 1000):
        own = and_(events.c.model_id == model, events.c.seq.in_(some), events.c.ref.is_not(None))
        found.update(connection.scalars(select(events.c.ref).where(own)))
    return found


def _drop(
    connection: Connection, model: int, floor: Floor, span: tuple[int, int], spared: Collection[int]
) -> int:
    own, (after, last) = events.c.model_id == model, span
    unasked = or_(events.c.seq < floor.known_from, events.c.ref.is_(None))
    old = and_(own, events.c.seq > after, events.c.seq <= last, events.c.kind.not_in(_LASTING), unasked)
    stays = [seq for seq in spared if after < seq <= last]
    gone = and_(old, events.c.seq.not_in(stays)) if stays else old
    waited = and_(gone, events.c.kind == LABEL, events.c.ref.is_(None))
    ids = list(connection.scalars(select(events.c.key).distinct().where(waited)))
    dropped = connection.execute(delete(events).where(gone)).rowcount
    left: set[str | None] = set()
    for keys in chunks(ids):
        left.update(connection.scalars(select(events.c.key).where(own, events.c.key.in_(keys))))
    if parted := len(set(ids) - left):
        parked = models.c.parked - parted
        connection.execute(update(models).where(models.c.id == model).values(parked=parked))
    return int(dropped)
