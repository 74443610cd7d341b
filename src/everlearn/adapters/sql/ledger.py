"""The ledger in SQL: one transaction a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text, update

from everlearn.adapters import rules
from everlearn.adapters.sql.announcing import announce
from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database, locked_model_row, model_id
from everlearn.adapters.sql.jobs import insert_job
from everlearn.adapters.sql.outbox import tell
from everlearn.adapters.sql.scores import point_row, write_scores
from everlearn.adapters.sql.tables import (
    checkpoints,
    decisions,
    events,
    models,
    promotions,
    versions,
)
from everlearn.types import (
    Checkpoint,
    Decision,
    DecisionKind,
    Page,
    Promotion,
    Step,
    VersionState,
)

_WAITING_SINCE = (
    select(events.c.at)
    .where(events.c.model_id == models.c.id, events.c.seq == models.c.cursor + 1)
    .scalar_subquery()
)
_BEHIND = (
    select(models.c.name).where(models.c.last_seq > models.c.cursor).order_by(_WAITING_SINCE, models.c.name)
)
_CHECKPOINT = select(models.c.cursor, checkpoints.c.state).join(
    checkpoints, checkpoints.c.model_id == models.c.id
)


# One statement, so that the model's row, which appends wait for, is held no longer than a commit takes.
_MOVE = text(
    "WITH moved AS (UPDATE models SET cursor = :cursor WHERE name = :model AND cursor = :before RETURNING id)"
    ", told AS (INSERT INTO cards (model_id, card) SELECT id, :card FROM moved WHERE length(:card) > 0"
    " ON CONFLICT (model_id) DO UPDATE SET card = excluded.card)"
    ", scored AS (INSERT INTO score_points SELECT point.* FROM moved,"
    " jsonb_array_elements(CAST(:points AS jsonb)) AS item,"
    " jsonb_populate_record(CAST(NULL AS score_points), item || jsonb_build_object('model_id', moved.id))"
    " AS point)"
    " UPDATE checkpoints SET state = :state FROM moved WHERE checkpoints.model_id = moved.id"
)


class SqlLedger:
    """:class:`everlearn.ports.Ledger` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def checkpoint(self, model: str) -> Checkpoint:
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(_CHECKPOINT.where(models.c.name == model)).one_or_none()
        if row is None:
            raise rules.unknown_model(model)
        return Checkpoint(row.cursor, bytes(row.state))

    def commit(self, model: str, step: Step) -> bool:
        """See the port."""
        eventful = step.decisions or step.jobs or step.promotions or step.refused
        if not eventful and not self._database.is_sqlite:
            return self._move(model, step)
        with self._database.write() as connection:
            row = locked_model_row(connection, model)
            return write_step(connection, row, step)

    def _move(self, model: str, step: Step) -> bool:
        """A step in which nothing was decided, on PostgreSQL."""
        values = {"model": model, "before": step.before, "cursor": step.cursor, "state": step.state}
        values |= {"card": step.card, "points": to_json([point_row(point) for point in step.points])}
        values |= {"card": step.card, "points": to_json([point_row(point) for point in step.points])}
        values |= {"card": step.card, "points": to_json([point_row(point) for point in step.points])}
        values |= {"card": step.card, "points": to_json([point_row(point) for point in step.points])}
        with self._database.write() as connection:
            if connection.execute(_MOVE, values).rowcount == 1:
                return True
            model_id(connection, model)  # raises NotFoundError
            return False

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
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._database.read() as connection:
            query = select(decisions).where(decisions.c.model_id == model_id(connection, model))
            if before is not None:
                query = query.where(decisions.c.number < before)
            if kind is not None:
                query = query.where(decisions.c.kind.in_(rules.kinds_of(kind)))
            if since is not None:
                query = query.where(decisions.c.at >= since)
            if until is not None:
                query = query.where(decisions.c.at <= until)
            rows = connection.execute(query.order_by(decisions.c.number.desc()).limit(limit + 1))
            found = [_decision(row) for row in rows]
        return rules.page_of(found, limit, lambda decision: decision.number)

    def counts(self, model: str, after: int = 0, upto: int | None = None) -> Mapping[str, int]:
        """See the port."""
        with self._database.read() as connection:
            mine = decisions.c.model_id == model_id(connection, model)
            kinds = select(decisions.c.kind, func.count()).where(mine, decisions.c.number > after)
            if upto is not None:
                kinds = kinds.where(decisions.c.number <= upto)
            return {row[0]: row[1] for row in connection.execute(kinds.group_by(decisions.c.kind))}

    def behind(self, limit: int = 100) -> list[str]:
        """See the port."""
        with self._database.read() as connection:
            return list(connection.scalars(_BEHIND.limit(max(limit, 0))))


def write_step(connection: Connection, model: Row[Any], step: Step) -> bool:
    """Write a step inside a transaction that holds the model's row; ``False`` if its cursor has moved."""
    if model.cursor != step.before:
        return False
    rules.check_step(model.name, step, model.decisions)
    for promotion in step.promotions:
        _promote(connection, model, promotion)
    for number in step.refused:
        _refuse(connection, model, number)
    _write_decisions(connection, model.id, step)
    _write_jobs(connection, model, step)
    _write_cursor(connection, model, step)
    write_scores(connection, model.id, step)
    for decision in step.decisions:
        for message in rules.alert_messages(model.name, decision):
            tell(connection, model.id, message, rules.ALERTS)
    return True


def _promote(connection: Connection, model: Row[Any], promotion: Promotion) -> None:
    swap = (
        update(models)
        .where(
            models.c.id == model.id,
            models.c.champion == promotion.expected,
            models.c.term == promotion.term,
        )
        .values(champion=promotion.version, term=promotion.term + 1, since=promotion.at)
    )
    if connection.execute(swap).rowcount != 1:
        query = select(models.c.champion, models.c.term).where(models.c.id == model.id)
        raise rules.lost_race(model.name, promotion, *connection.execute(query).one())
    _set_state(connection, model, promotion.expected, VersionState.ARCHIVED)
    _set_state(connection, model, promotion.version, VersionState.CHAMPION)
    row = {
        "model_id": model.id,
        "term": promotion.term + 1,
        "version": promotion.version,
        "at": promotion.at,
        "decision": promotion.decision,
    }
    connection.execute(insert(promotions).values(row))
    tell(connection, model.id, rules.champion_message(model.name, promotion))
    announce(connection, model.name)


def _set_state(connection: Connection, model: Row[Any], number: int, state: VersionState) -> None:
    change = update(versions).where(versions.c.model_id == model.id, versions.c.number == number)
    if connection.execute(change.values(state=state.value)).rowcount != 1:
        raise rules.unknown_version(model.name, number)


def _refuse(connection: Connection, model: Row[Any], number: int) -> None:
    query = select(versions.c.state).where(versions.c.model_id == model.id, versions.c.number == number)
    state = connection.scalar(query)
    if state is None:
        raise rules.unknown_version(model.name, number)
    if state == VersionState.CANDIDATE:
        _set_state(connection, model, number, VersionState.REFUSED)


def _write_decisions(connection: Connection, model: int, step: Step) -> None:
    if not step.decisions:
        return
    rows = [
        {
            **{name: getattr(decision, name) for name in Decision.__slots__},
            "model_id": model,
            "kind": decision.kind.value,
            "evidence": to_json(decision.evidence),
        }
        for decision in step.decisions
    ]
    connection.execute(insert(decisions), rows)


def _write_jobs(connection: Connection, model: Row[Any], step: Step) -> None:
    at = step.decisions[-1].at if step.decisions else model.last_at
    for spec in step.jobs:
        insert_job(connection, model.id, spec, at)


def _write_cursor(connection: Connection, model: Row[Any], step: Step) -> None:
    last = step.decisions[-1].number if step.decisions else model.decisions
    moved = update(models).where(models.c.id == model.id).values(cursor=step.cursor, decisions=last)
    kept = update(checkpoints).where(checkpoints.c.model_id == model.id).values(state=step.state)
    connection.execute(moved)
    connection.execute(kept)


def _decision(row: Row[Any]) -> Decision:
    fields = row._asdict()
    del fields["model_id"]
    fields["kind"] = DecisionKind(fields["kind"])
    fields["evidence"] = from_json(fields["evidence"])
    return Decision(**fields)
