"""Keys, users, sessions and the audit log in memory."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock

from everlearn.access.audit import AuditEntry
from everlearn.access.keys import KeyRecord
from everlearn.access.sessions import Session
from everlearn.access.users import User
from everlearn.adapters import access_rules, rules
from everlearn.types import Page


class MemoryKeys:
    """:class:`everlearn.access.ports.Keys` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._records: dict[str, KeyRecord] = {}

    def add(self, record: KeyRecord) -> None:
        """See the port."""
        with self._lock:
            self._records[record.id] = record

    def find(self, key_id: str) -> KeyRecord | None:
        """See the port."""
        return self._records.get(key_id)

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[KeyRecord]:
        """See the port."""
        rules.check_limit(limit)
        with self._lock:
            ids = sorted(i for i in self._records if cursor is None or i > cursor)
            found = [self._records[i] for i in ids[: limit + 1]]
        return rules.page_of(found, limit, lambda record: record.id)

    def revoke(self, key_id: str, at: float) -> KeyRecord:
        """See the port."""
        with self._lock:
            record = self._records.get(key_id)
            if record is None:
                raise access_rules.unknown_key(key_id)
            if record.revoked_at is None:
                record = self._records[key_id] = replace(record, revoked_at=at)
            return record

    def used(self, key_id: str, at: float) -> None:
        """See the port."""
        with self._lock:
            if key_id in self._records:
                self._records[key_id] = replace(self._records[key_id], used_at=at)


class MemorySessions:
    """:class:`everlearn.access.ports.Sessions` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._sessions: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        """See the port."""
        with self._lock:
            self._sessions[session.id] = session

    def find(self, session_id: str) -> Session | None:
        """See the port."""
        return self._sessions.get(session_id)

    def rotate(self, session_id: str, old: str, new: str, expires_at: float) -> bool:
        """See the port."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.digest != old:
                return False
            self._sessions[session_id] = replace(session, digest=new, expires_at=expires_at)
            return True

    def end(self, session_id: str) -> bool:
        """See the port."""
        with self._lock:
            return self._sessions.pop(session_id, None) is not None

    def end_all(self, user: str) -> int:
        """See the port."""
        return self._drop([s.id for s in list(self._sessions.values()) if s.user == user])

    def forget(self, before: float) -> int:
        """See the port."""
        return self._drop([s.id for s in list(self._sessions.values()) if s.expires_at < before])

    def _drop(self, ids: list[str]) -> int:
        return sum(self.end(session_id) for session_id in ids)


class MemoryUsers:
    """:class:`everlearn.access.ports.Users` in memory."""

    def __init__(self, sessions: MemorySessions) -> None:
        self._lock = RLock()
        self._users: dict[str, User] = {}
        self._sessions = sessions

    def add(self, user: User) -> None:
        """See the port."""
        with self._lock:
            if user.name in self._users:
                raise access_rules.taken_user(user.name)
            self._users[user.name] = user

    def find(self, name: str) -> User | None:
        """See the port."""
        return self._users.get(name)

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[User]:
        """See the port."""
        rules.check_limit(limit)
        with self._lock:
            names = sorted(n for n in self._users if cursor is None or n > cursor)
            found = [self._users[name] for name in names[: limit + 1]]
        return rules.page_of(found, limit, lambda user: user.name)

    def replace(self, user: User) -> User:
        """See the port."""
        with self._lock:
            stored = self._users.get(user.name)
            if stored is None:
                raise access_rules.unknown_user(user.name)
            if stored.revision != user.revision:
                raise access_rules.changed_user(user.name)
            self._users[user.name] = replace(user, revision=user.revision + 1)
            return self._users[user.name]

    def delete(self, name: str) -> None:
        """See the port."""
        with self._lock:
            if self._users.pop(name, None) is None:
                raise access_rules.unknown_user(name)
        self._sessions.end_all(name)


class MemoryAudit:
    """:class:`everlearn.access.ports.Audit` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._entries: list[AuditEntry] = []

    def add(self, entry: AuditEntry) -> None:
        """See the port."""
        with self._lock:
            self._entries.append(replace(entry, number=len(self._entries) + 1))

    def list(self, cursor: str | None = None, limit: int = 100, who: str | None = None) -> Page[AuditEntry]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._lock:
            found = [
                entry
                for entry in reversed(self._entries)
                if (before is None or entry.number < before) and (who is None or entry.who == who)
            ]
        return rules.page_of(found[: limit + 1], limit, lambda entry: entry.number)


class MemoryAccess:
    """:class:`everlearn.access.ports.AccessStore` in memory."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.sessions = MemorySessions()
        self.users = MemoryUsers(self.sessions)
        self.audit = MemoryAudit()
