"""Messages in SQL, written in the transaction of what they tell of.

One model's messages are numbered in the order of its transactions, since each holds the model's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from everlearn.adapters.rules import REGISTRY
from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database, model_id
from everlearn.adapters.sql.tables import models, outbox
from everlearn.types import Message


def tell(connection: Connection, model: int, body: Mapping[str, Any], destination: str = REGISTRY) -> None:
    """Write a message, for the registry if nothing else is said."""
    row = {"destination": destination, "model_id": model, "body": to_json(body)}
    connection.execute(insert(outbox).values(row))


class SqlOutbox:
    """:class:`everlearn.ports.Outbox` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, destination: str, limit: int, now: float) -> list[Message]:
        """See the port."""
        query = (
            select(outbox, models.c.name)
            .join(models, models.c.id == outbox.c.model_id)
            .where(outbox.c.destination == destination)
            .order_by(outbox.c.id)
            .limit(max(limit, 0))
        )
        taken: list[Message] = []
        with self._database.read() as connection:
            for row in connection.execute(query):
                if row.not_before > now:
                    break
                body = from_json(row.body)
                taken.append(Message(row.id, destination, row.name, body, row.attempts, row.not_before))
        return taken

    def done(self, message: Message) -> None:
        """See the port."""
        with self._database.write() as connection:
            connection.execute(delete(outbox).where(outbox.c.id == message.id))

    def put(self, destination: str, model: str, body: Mapping[str, Any]) -> None:
        """See the port."""
        with self._database.write() as connection:
            tell(connection, model_id(connection, model), body, destination)

    def forward(self, message: Message, destinations: Sequence[str]) -> None:
        """See the port."""
        with self._database.write() as connection:
            gone = delete(outbox).where(outbox.c.id == message.id)
            if connection.execute(gone).rowcount == 1 and destinations:
                number = model_id(connection, message.model)
                for destination in destinations:
                    tell(connection, number, message.body, destination)

    def retry(self, message: Message, error: str, not_before: float) -> None:
        """See the port."""
        query = update(outbox).where(outbox.c.id == message.id)
        query = query.values(attempts=outbox.c.attempts + 1, not_before=not_before, error=error)
        with self._database.write() as connection:
            connection.execute(query)

    def waiting(self, destination: str) -> int:
        """See the port."""
        query = select(func.count()).select_from(outbox).where(outbox.c.destination == destination)
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)
