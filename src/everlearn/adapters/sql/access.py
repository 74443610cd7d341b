"""Keys, users, sessions and the audit log in SQL."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from everlearn.access.audit import AuditEntry
from everlearn.access.keys import KeyRecord
from everlearn.access.sessions import Session
from everlearn.access.users import User
from everlearn.access.words import Role, Scope
from everlearn.adapters import access_rules, rules
from everlearn.adapters.access_rules import plain
from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.tables import api_keys, audit, sessions, users
from everlearn.types import Page


class SqlKeys:
    """:class:`everlearn.access.ports.Keys` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: KeyRecord) -> None:
        """See the port."""
        models = None if record.models is None else to_json(record.models)
        row = {**asdict(record), "scopes": to_json(sorted(record.scopes)), "models": models}
        with self._database.write() as connection:
            connection.execute(insert(api_keys).values(row))

    def find(self, key_id: str) -> KeyRecord | None:
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == plain(key_id))).one_or_none()
        return None if row is None else _key(row)

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[KeyRecord]:
        """See the port."""
        rules.check_limit(limit)
        query = select(api_keys).order_by(api_keys.c.id).limit(limit + 1)
        if cursor is not None:
            query = query.where(api_keys.c.id > plain(cursor))
        with self._database.read() as connection:
            found = [_key(row) for row in connection.execute(query)]
        return rules.page_of(found, limit, lambda record: record.id)

    def revoke(self, key_id: str, at: float) -> KeyRecord:
        """See the port."""
        query = update(api_keys).where(api_keys.c.id == plain(key_id), api_keys.c.revoked_at.is_(None))
        with self._database.write() as connection:
            connection.execute(query.values(revoked_at=at))
            row = connection.execute(select(api_keys).where(api_keys.c.id == plain(key_id))).one_or_none()
        if row is None:
            raise access_rules.unknown_key(key_id)
        return _key(row)

    def used(self, key_id: str, at: float) -> None:
        """See the port."""
        with self._database.write() as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == plain(key_id)).values(used_at=at))


class SqlUsers:
    """:class:`everlearn.access.ports.Users` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User) -> None:
        """See the port."""
        try:
            with self._database.write() as connection:
                connection.execute(insert(users).values(_user_row(user)))
        except IntegrityError:
            raise access_rules.taken_user(user.name) from None

    def find(self, name: str) -> User | None:
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.name == plain(name))).one_or_none()
        return None if row is None else _user(row)

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[User]:
        """See the port."""
        rules.check_limit(limit)
        query = select(users).order_by(users.c.name).limit(limit + 1)
        if cursor is not None:
            query = query.where(users.c.name > plain(cursor))
        with self._database.read() as connection:
            found = [_user(row) for row in connection.execute(query)]
        return rules.page_of(found, limit, lambda user: user.name)

    def replace(self, user: User) -> User:
        """See the port."""
        changed = replace(user, revision=user.revision + 1)
        query = update(users).where(users.c.name == user.name, users.c.revision == user.revision)
        with self._database.write() as connection:
            if connection.execute(query.values(_user_row(changed))).rowcount == 1:
                return changed
        if self.find(user.name) is None:
            raise access_rules.unknown_user(user.name)
        raise access_rules.changed_user(user.name)

    def delete(self, name: str) -> None:
        """See the port."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.user == plain(name)))
            if connection.execute(delete(users).where(users.c.name == plain(name))).rowcount == 0:
                raise access_rules.unknown_user(name)


class SqlSessions:
    """:class:`everlearn.access.ports.Sessions` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, session: Session) -> None:
        """See the port."""
        with self._database.write() as connection:
            connection.execute(insert(sessions).values(asdict(session)))

    def find(self, session_id: str) -> Session | None:
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).one_or_none()
        return None if row is None else Session(*row)

    def rotate(self, session_id: str, old: str, new: str, expires_at: float) -> bool:
        """See the port."""
        query = update(sessions).where(sessions.c.id == session_id, sessions.c.digest == old)
        with self._database.write() as connection:
            return connection.execute(query.values(digest=new, expires_at=expires_at)).rowcount == 1

    def end(self, session_id: str) -> bool:
        """See the port."""
        return self._drop(sessions.c.id == session_id) == 1

    def end_all(self, user: str) -> int:
        """See the port."""
        return self._drop(sessions.c.user == user)

    def forget(self, before: float) -> int:
        """See the port."""
        return self._drop(sessions.c.expires_at < before)

    def _drop(self, which: Any) -> int:
        with self._database.write() as connection:
            return int(connection.execute(delete(sessions).where(which)).rowcount)


class SqlAudit:
    """:class:`everlearn.access.ports.Audit` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entry: AuditEntry) -> None:
        """See the port."""
        row = asdict(entry)
        del row["number"]
        with self._database.write() as connection:
            connection.execute(insert(audit).values(row))

    def list(self, cursor: str | None = None, limit: int = 100, who: str | None = None) -> Page[AuditEntry]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        query = select(audit).order_by(audit.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(audit.c.number < before)
        if who is not None:
            query = query.where(audit.c.who == plain(who))
        with self._database.read() as connection:
            found = [AuditEntry(**row._asdict()) for row in connection.execute(query)]
        return rules.page_of(found, limit, lambda entry: entry.number)


class SqlAccess:
    """:class:`everlearn.access.ports.AccessStore` in SQL."""

    def __init__(self, database: Database) -> None:
        self.keys = SqlKeys(database)
        self.users = SqlUsers(database)
        self.sessions = SqlSessions(database)
        self.audit = SqlAudit(database)


def _key(row: Row[Any]) -> KeyRecord:
    fields = row._asdict()
    fields["scopes"] = frozenset(map(Scope, from_json(row.scopes)))
    fields["models"] = None if row.models is None else tuple(from_json(row.models))
    return KeyRecord(**fields)


def _user(row: Row[Any]) -> User:
    fields = row._asdict()
    fields["role"] = None if row.role is None else Role(row.role)
    fields["grants"] = {model: Role(role) for model, role in from_json(row.grants).items()}
    return User(**fields)


def _user_row(user: User) -> dict[str, Any]:
    return {**asdict(user), "grants": to_json(dict(user.grants))}
