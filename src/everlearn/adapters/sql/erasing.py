"""Erasures in SQL: a subject's rows leave the log in one transaction, all else in ones that may repeat."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from everlearn.adapters.rules import digest_of, unknown_erasure, unknown_subject
from everlearn.adapters.sql.appending import chunks
from everlearn.adapters.sql.codec import EXAMPLE, LABEL, PREDICTION, TICK, from_json, to_json
from everlearn.adapters.sql.database import Database, locked_model_row, model_id, model_row
from everlearn.adapters.sql.ledger import write_step
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.scrubbing import scrub
from everlearn.adapters.sql.tables import erased_ids, erasures, events, log_floors, models, specs
from everlearn.loop.erasing import digests_in, image_columns
from everlearn.types import Erasure, ErasureState, EventKind, Gone, NewEvent, Step

_BLANK = dict.fromkeys(("key", "ref", "row", "version", "features", "value", "body", "source"))
FOLD_ATTEMPTS, FOLD_PAUSE = 20, 0.05
"""How often SQLite is asked to cut off its write-ahead log while somebody reads, and seconds between."""

_ERASURES: Select[Any] = select(erasures, models.c.name.label("model")).join(
    models, models.c.id == erasures.c.model_id
)


class SqlErasures:
    """:class:`everlearn.ports.Erasures` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, model: str, column: str, subject: str, by: str, now: float, deadline: float) -> Erasure:
        """See the port. The log is searched before its model is locked, and what came since after that."""
        with self._database.read() as connection:
            head = model_row(connection, model)
            found = _rows_of(connection, head.id, column, subject, 0)
        with self._database.write() as connection:
            _overwrite(connection)
            row = locked_model_row(connection, model)
            found = _still(connection, row.id, found)  # another may have been faster
            found += _rows_of(connection, row.id, column, subject, head.last_seq)
            salt = connection.scalar(select(erasures.c.salt).where(erasures.c.model_id == row.id).limit(1))
            digest = digest_of(salt or "", subject)
            if not found:
                return _earlier(connection, row, digest, subject)
            salt = salt or secrets.token_hex(16)
            gone = _take_out(connection, row, found, _images(connection, row.id))
            name = f"erasure-{uuid.uuid4().hex[:16]}"
            ids = [{"model_id": row.id, "digest": digest_of(salt, key), "erasure": name} for key in gone.ids]
            for some in chunks(ids):
                old = erased_ids.c.digest.in_([one["digest"] for one in some])
                connection.execute(delete(erased_ids).where(erased_ids.c.model_id == row.id, old))
                connection.execute(insert(erased_ids), list(some))
            command = {"erasure": name, "events": len(gone.seqs), "known": gone.known, "by": by}
            body = {"name": "erase", "arguments": command}
            row = model_row(connection, model)  # its counts have changed
            receipt = append_locked(connection, row, [NewEvent(EventKind.COMMAND, now, None, body)])[0]
            values = {
                "id": name, "model_id": row.id, "salt": salt, "subject": digest_of(salt, subject),
                "state": ErasureState.LOGGED.value, "seq": receipt.seq, "at": now, "deadline": deadline,
                "by": by[:300], "removed": to_json({"events": len(gone.seqs)}),
                "gone": to_json(msgspec.to_builtins(gone)),
            }  # fmt: skip
            connection.execute(insert(erasures).values(values))
            return _found(connection, name)

    def get(self, id: str) -> Erasure:  # noqa: A002
        """See the port."""
        with self._database.read() as connection:
            return _found(connection, id)

    def list(self, model: str | None = None, *, open_only: bool = False) -> Sequence[Erasure]:
        """See the port."""
        query = _ERASURES.order_by(erasures.c.at.desc(), erasures.c.id)
        if open_only:
            query = query.where(erasures.c.state != ErasureState.DONE.value)
        with self._database.read() as connection:
            if model is not None:
                query = query.where(erasures.c.model_id == model_id(connection, model))
            return [_erasure(row) for row in connection.execute(query)]

    def settle(self, erasure: Erasure, step: Step, removed: Mapping[str, int]) -> bool:
        """See the port."""
        with self._database.write() as connection:
            _overwrite(connection)
            row = locked_model_row(connection, erasure.model)
            if not write_step(connection, row, step):
                return False
            own = log_floors.c.model_id == row.id
            before = connection.execute(select(log_floors).where(own)).one_or_none()
            kept_from, known_from = (before.kept_from, before.known_from) if before else (1, 1)
            connection.execute(delete(log_floors).where(own))
            floor = {"seq": step.cursor, "kept_from": kept_from, "known_from": known_from, "at": erasure.at}
            connection.execute(insert(log_floors).values(model_id=row.id, state=step.state, **floor))
            _change(connection, erasure.id, ErasureState.FORGOTTEN, removed)
        return True

    def scrub(self, erasure: Erasure, versions: Sequence[int], now: float) -> Mapping[str, int]:
        """See the port."""
        with self._database.write() as connection:
            _overwrite(connection)
            row = locked_model_row(connection, erasure.model)
            changed = scrub(connection, row, _found(connection, erasure.id), versions, now)
            _change(connection, erasure.id, None, changed)
            return changed

    def finish(self, erasure: Erasure, certificate: Mapping[str, Any], now: float) -> None:
        """See the port."""
        done = {"state": ErasureState.DONE.value, "certificate": to_json(certificate), "done_at": now}
        with self._database.write() as connection:
            _overwrite(connection)
            own = update(erasures).where(erasures.c.id == erasure.id)
            connection.execute(own.where(erasures.c.state != done["state"]).values(**done, gone=None))
        if self._database.is_sqlite:
            self._fold_in()

    def _fold_in(self) -> None:
        """Have SQLite overwrite the old pages in its file, and cut off the write-ahead log that has them."""
        pooled = self._database.engine.raw_connection()
        try:
            driver: Any = pooled.driver_connection
            for _ in range(FOLD_ATTEMPTS):
                busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return
                time.sleep(FOLD_PAUSE)
        finally:
            pooled.close()


def _overwrite(connection: Connection) -> None:
    """Have SQLite overwrite what is deleted, instead of leaving it in free pages."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _rows_of(connection: Connection, model: int, column: str, subject: str, after: int) -> list[Any]:
    """The predictions and examples of a subject, after a position: those whose JSON has that very cell."""
    cell = to_json({column: subject})[1:-1]
    place = func.instr if connection.dialect.name == "sqlite" else func.strpos
    fields = (events.c.seq, events.c.kind, events.c.key, events.c.row, events.c.features, events.c.value)
    query = select(*fields).where(
        events.c.model_id == model,
        events.c.seq > after,
        events.c.kind.in_((PREDICTION, EXAMPLE)),
        place(events.c.features, cell) > 0,
    )
    rows = connection.execute(query.order_by(events.c.seq)).all()
    return [row for row in rows if from_json(row.features).get(column) == subject]


def _still(connection: Connection, model: int, rows: Sequence[Any]) -> list[Any]:
    """Those of some rows that are there still."""
    there: set[int] = set()
    for some in chunks([row.seq for row in rows]):
        own = events.c.model_id == model, events.c.seq.in_(some), events.c.kind.in_((PREDICTION, EXAMPLE))
        there.update(connection.scalars(select(events.c.seq).where(*own)))
    return [row for row in rows if row.seq in there]


def _images(connection: Connection, model: int) -> list[str]:
    """The columns of a model that hold images."""
    spec = connection.scalar(select(specs.c.spec).where(specs.c.model_id == model))
    return image_columns(from_json(spec)["features"])


def _take_out(connection: Connection, model: Row[Any], rows: Sequence[Any], images: Sequence[str]) -> Gone:
    """Put ticks in the place of events, and of the labels of those that are predictions."""
    predictions = {row.key: row for row in rows if row.kind == PREDICTION}
    examples = [row for row in rows if row.kind == EXAMPLE]
    labels = [one for keys in chunks(sorted(predictions)) for one in _labels(connection, model.id, keys)]
    first: dict[str, Any] = {}
    for label in labels:
        first.setdefault(label.key, label)
    learned = [(max(one.seq, predictions[key].seq), from_json(one.value)) for key, one in first.items()]
    learned += [(row.seq, from_json(row.value)) for row in examples]
    truths = sorted((seq, value) for seq, value in learned if seq <= model.cursor)
    seqs = sorted(row.seq for row in [*rows, *labels])
    for some in chunks(seqs):
        there = update(events).where(events.c.model_id == model.id, events.c.seq.in_(some))
        connection.execute(there.values(kind=TICK, at=0.0, **_BLANK))
    counts = {"labels": model.labels - len(first), "examples": model.examples - len(examples)}
    connection.execute(update(models).where(models.c.id == model.id).values(counts))
    numbers = sorted(row.row for row in predictions.values())
    known = min((seq for seq, _ in learned), default=None)
    files = sorted(digests_in((from_json(row.features) for row in rows), images))
    return Gone(sorted(predictions), numbers, seqs, truths, known, files)


def _labels(connection: Connection, model: int, keys: Sequence[str]) -> Sequence[Any]:
    own = events.c.model_id == model, events.c.kind == LABEL, events.c.key.in_(keys)
    query = select(events.c.seq, events.c.key, events.c.value).where(*own)
    return connection.execute(query.order_by(events.c.seq)).all()


def _earlier(connection: Connection, model: Row[Any], digest: str, subject: str) -> Erasure:
    """The newest erasure of a subject of whom there are no rows; raises NotFoundError."""
    same = erasures.c.model_id == model.id, erasures.c.subject == digest
    query = _ERASURES.where(*same).order_by(erasures.c.at.desc())
    row = connection.execute(query.limit(1)).one_or_none()
    if row is None:
        raise unknown_subject(model.name, subject)
    return _erasure(row)


def _found(connection: Connection, id: str) -> Erasure:  # noqa: A002
    row = connection.execute(_ERASURES.where(erasures.c.id == id)).one_or_none()
    if row is None:
        raise unknown_erasure(id)
    return _erasure(row)


def _change(
    connection: Connection,
    id: str,  # noqa: A002
    state: ErasureState | None,
    removed: Mapping[str, int],
) -> None:
    """Write down how far an erasure is, and what was removed in addition."""
    known = from_json(connection.scalar(select(erasures.c.removed).where(erasures.c.id == id)))
    for name, count in removed.items():
        known[name] = known.get(name, 0) + count
    values = {"removed": to_json(known), **({} if state is None else {"state": state.value})}
    connection.execute(update(erasures).where(erasures.c.id == id).values(values))


def _erasure(row: Row[Any]) -> Erasure:
    fields = {name: getattr(row, name) for name in Erasure.__slots__}
    fields["state"] = ErasureState(row.state)
    fields["removed"] = from_json(row.removed)
    fields["gone"] = None if row.gone is None else msgspec.json.decode(row.gone, type=Gone)
    fields["certificate"] = from_json(row.certificate)
    return Erasure(**fields)
