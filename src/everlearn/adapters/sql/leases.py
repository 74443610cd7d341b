"""Leases in SQL: a row a name."""

from __future__ import annotations

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.tables import leases


class SqlLeases:
    """:class:`everlearn.ports.Leases` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, name: str, owner: str, seconds: float, now: float, over: str | None = None) -> bool:
        """See the port."""
        mine = or_(leases.c.owner == owner, leases.c.until <= now, leases.c.owner == (over or owner))
        change = update(leases).where(leases.c.name == name, mine).values(owner=owner, until=now + seconds)
        with self._database.read() as connection:
            held = select(leases.c.owner).where(leases.c.name == name, ~mine)
            if connection.execute(held).first() is not None:
                return False
        try:
            with self._database.write() as connection:
                if connection.execute(change).rowcount == 1:
                    return True
                row = {"name": name, "owner": owner, "until": now + seconds}
                connection.execute(insert(leases).values(row))
                return True
        except IntegrityError:  # another was first
            return False

    def release(self, name: str, owner: str) -> None:
        """See the port."""
        with self._database.write() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))

    def holder(self, name: str, now: float) -> str | None:
        """See the port."""
        query = select(leases.c.owner).where(leases.c.name == name, leases.c.until > now)
        with self._database.read() as connection:
            return connection.scalar(query)
