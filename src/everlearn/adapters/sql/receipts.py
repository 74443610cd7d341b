"""Answers by ``Idempotency-Key``, in SQL."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, select

from everlearn.adapters.rules import Reply
from everlearn.adapters.sql import dialects
from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.tables import receipts


class SqlReceipts:
    """:class:`everlearn.adapters.rules.Receipts` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scope: str, key: str) -> Reply | None:
        """The answer that was given, or ``None``."""
        columns = (receipts.c.digest, receipts.c.status, receipts.c.body, receipts.c.at)
        query = select(*columns).where(receipts.c.scope == scope, receipts.c.key == key)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Reply(row.digest, row.status, bytes(row.body), row.at)

    def put(self, scope: str, key: str, reply: Reply) -> Reply:
        """Keep an answer; returns the one that was kept first if there is one already."""
        row = {"scope": scope, "key": key, **asdict(reply)}
        with self._database.write() as connection:
            if dialects.insert_if_absent(connection, receipts, row):
                return reply
        return self.get(scope, key) or reply

    def forget(self, before: float) -> int:
        """Remove the answers given before a time; returns how many they were."""
        with self._database.write() as connection:
            return int(connection.execute(delete(receipts).where(receipts.c.at < before)).rowcount)
