"""What access needs of the world: four stores, a hasher and a signer."""

from __future__ import annotations

from typing import Protocol

from everlearn.access.audit import AuditEntry
from everlearn.access.keys import KeyRecord
from everlearn.access.sessions import Claims, Session
from everlearn.access.users import User
from everlearn.types import Page


class Keys(Protocol):
    """The API keys."""

    def add(self, record: KeyRecord) -> None:
        """Store a key's record."""
        ...

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of an id, or ``None``."""
        ...

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[KeyRecord]:
        """The records in order of their ids, revoked ones too."""
        ...

    def revoke(self, key_id: str, at: float) -> KeyRecord:
        """End a key; the first time counts. Raises NotFoundError."""
        ...

    def used(self, key_id: str, at: float) -> None:
        """Note that a key was used; unknown ids are ignored."""
        ...


class Users(Protocol):
    """The users."""

    def add(self, user: User) -> None:
        """Store a user; raises ConflictError if the name is taken."""
        ...

    def find(self, name: str) -> User | None:
        """The user of a name, or ``None``."""
        ...

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[User]:
        """The users in order of their names."""
        ...

    def replace(self, user: User) -> User:
        """Store a changed user; returns it with its new revision.

        Raises ConflictError unless ``user.revision`` is the stored one, NotFoundError if there is none.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a user and their sessions; raises NotFoundError."""
        ...


class Sessions(Protocol):
    """The sessions that are alive."""

    def add(self, session: Session) -> None:
        """Store a session."""
        ...

    def find(self, session_id: str) -> Session | None:
        """The session of an id, or ``None``."""
        ...

    def rotate(self, session_id: str, old: str, new: str, expires_at: float) -> bool:
        """Replace the digest ``old`` by ``new``, if it is still the newest; returns whether it was."""
        ...

    def end(self, session_id: str) -> bool:
        """End a session; returns whether it was alive."""
        ...

    def end_all(self, user: str) -> int:
        """End all sessions of a user; returns how many they were."""
        ...

    def forget(self, before: float) -> int:
        """Remove those that expired before a time; returns how many they were."""
        ...


class Audit(Protocol):
    """The audit log: entries are added and never changed."""

    def add(self, entry: AuditEntry) -> None:
        """Add an entry; its number is the store's."""
        ...

    def list(self, cursor: str | None = None, limit: int = 100, who: str | None = None) -> Page[AuditEntry]:
        """The entries, newest first."""
        ...


class AccessStore(Protocol):
    """The four stores together."""

    @property
    def keys(self) -> Keys:
        """The API keys."""
        ...

    @property
    def users(self) -> Users:
        """The users."""
        ...

    @property
    def sessions(self) -> Sessions:
        """The sessions."""
        ...

    @property
    def audit(self) -> Audit:
        """The audit log."""
        ...


class Hasher(Protocol):
    """Hashes passwords, slowly on purpose."""

    def hash(self, password: str) -> str:
        """The hash to store, with its salt and parameters."""
        ...

    def verify(self, hashed: str | None, password: str) -> bool:
        """Whether a password is the hashed one. Takes as long for ``None`` (no such user)."""
        ...

    def outdated(self, hashed: str) -> bool:
        """Whether a hash was made with other parameters than are used now."""
        ...


class Signer(Protocol):
    """Signs and verifies access tokens."""

    def sign(self, claims: Claims, now: float) -> str:
        """A token that says this."""
        ...

    def verify(self, token: str, now: float) -> Claims | None:
        """What a token says, or ``None`` if it is not ours, was changed, or has expired."""
        ...
