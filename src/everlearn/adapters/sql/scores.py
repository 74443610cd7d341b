"""The score over time and the models' cards, in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database, model_id
from everlearn.adapters.sql.tables import cards, decisions, models, score_points
from everlearn.types import Decision, DecisionKind, Head, ScorePoint, Standing, Step

_STANDINGS: Select[Any] = (
    select(
        models.c.name,
        models.c.champion,
        models.c.since,
        models.c.last_seq,
        models.c.last_row,
        models.c.labels,
        models.c.parked,
        models.c.examples,
        models.c.last_at,
        models.c.cursor,
        cards.c.card,
        decisions.c.number,
        decisions.c.seq,
        decisions.c.at,
        decisions.c.kind,
        decisions.c.reason,
        decisions.c.version,
        decisions.c.code,
    )
    .outerjoin(cards, cards.c.model_id == models.c.id)
    .outerjoin(decisions, and_(decisions.c.model_id == models.c.id, decisions.c.number == models.c.decisions))
    .order_by(models.c.name)
)
_FILLED = func.max(score_points.c.number)
# Of a point of a higher level: the mean of the baseline over its parts.
_RAISE = text(
    "UPDATE score_points SET never_updated ="
    " (SELECT SUM(part.rows * part.never_updated) / SUM(part.rows) FROM score_points AS part"
    "  WHERE part.model_id = score_points.model_id AND part.level = :below"
    "  AND part.number > (score_points.number - 1) * :fan AND part.number <= score_points.number * :fan"
    "  AND part.never_updated IS NOT NULL)"
    " WHERE model_id = :model AND level = :level AND number BETWEEN :first AND :last"
)


class SqlScores:
    """:class:`everlearn.ports.Scores` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def standings(self) -> list[Standing]:
        """See the port."""
        with self._database.read() as connection:
            return [_standing(row) for row in connection.execute(_STANDINGS)]

    def span(self, model: str, since: float | None = None, until: float | None = None) -> tuple[int, int]:
        """See the port."""
        number = score_points.c.number
        with self._database.read() as connection:
            own = and_(score_points.c.model_id == model_id(connection, model), score_points.c.level == 0)
            first, last = (
                select(number).where(own).order_by(*order).limit(1)
                for order in (
                    (score_points.c.at, number),
                    (score_points.c.at.desc(), number.desc()),
                )
            )
            if since is not None:
                first = first.where(score_points.c.at >= since)
            if until is not None:
                last = last.where(score_points.c.at <= until)
            begin, end = connection.scalar(first), connection.scalar(last)
        return (1, 0) if begin is None or end is None else (begin, end)

    def points(self, model: str, level: int, first: int, last: int) -> list[ScorePoint]:
        """See the port."""
        number = score_points.c.number
        with self._database.read() as connection:
            own = and_(score_points.c.model_id == model_id(connection, model), score_points.c.level == level)
            query = select(score_points).where(own, number >= first, number <= last).order_by(number)
            return [_point(row) for row in connection.execute(query)]

    def filled(self, model: str) -> int:
        """See the port."""
        with self._database.read() as connection:
            own = and_(score_points.c.model_id == model_id(connection, model), score_points.c.level == 0)
            query = select(_FILLED).where(own, score_points.c.never_updated.is_not(None))
            return int(connection.scalar(query) or 0)

    def fill(self, model: str, scores: Mapping[int, float], fan: int) -> None:
        """See the port."""
        if not scores:
            return
        own, number = score_points.c, score_points.c.number
        with self._database.write() as connection:
            known = model_id(connection, model)
            for place, score in scores.items():
                change = update(score_points).where(own.model_id == known, own.level == 0, number == place)
                connection.execute(change.values(never_updated=score))
            first, last, level = min(scores), max(scores), 1
            while last >= fan:
                first, last = -(-first // fan), last // fan
                where = {"model": known, "level": level, "below": level - 1, "fan": fan}
                connection.execute(_RAISE, {**where, "first": first, "last": last})
                level += 1


def point_row(point: ScorePoint) -> dict[str, Any]:
    """A point as a row of ``score_points``, without the model."""
    row = {name: getattr(point, name) for name in point.__struct_fields__}
    for name in ("candidate", "bake"):
        row[name] = None if row[name] is None else to_json(row[name])
    return row


def write_scores(connection: Connection, model: int, step: Step) -> None:
    """Write the points and the card of a step."""
    if step.points:
        rows = [{"model_id": model, **point_row(point)} for point in step.points]
        connection.execute(insert(score_points), rows)
    if step.card:
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        put = make(cards).values(model_id=model, card=step.card)
        connection.execute(put.on_conflict_do_update(index_elements=["model_id"], set_={"card": step.card}))


def _standing(row: Row[Any]) -> Standing:
    head = Head(row.last_seq, row.last_row, row.labels, row.parked, row.examples, row.last_at)
    decision = None
    if row.number is not None:
        kind = DecisionKind(row.kind)
        decision = Decision(row.number, row.seq, row.at, kind, row.reason, version=row.version, code=row.code)
    card = b"" if row.card is None else bytes(row.card)
    return Standing(row.name, card, row.champion, row.since, head, row.cursor, decision)


_FIELDS = [column.name for column in score_points.columns if column.name != "model_id"]


def _point(row: Row[Any]) -> ScorePoint:
    fields: dict[str, Any] = dict(zip(_FIELDS, row[1:], strict=True))
    for name in ("candidate", "bake"):
        if fields[name] is not None:
            fields[name] = from_json(fields[name])
    return ScorePoint(**fields)
