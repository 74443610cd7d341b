"""From a bearer token to a principal: keys and access tokens, checked against what is stored now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from everlearn.access import keys
from everlearn.access.ports import AccessStore, Signer
from everlearn.access.words import Principal

USED_EVERY: Final = 60.0
"""Seconds between two notes of when a key was last used."""


class KeyRing:
    """Principals of API keys."""

    def __init__(self, store: AccessStore, now: Callable[[], float]) -> None:
        self._keys = store.keys
        self._now = now
        self._due: dict[str, float] = {}

    def authenticate(self, token: str) -> Principal | None:
        """The holder of a key that is neither unknown, wrong, revoked nor expired."""
        parts = keys.parts_of(token)
        if parts is None:
            return None
        key_id, secret = parts
        record = self._keys.find(key_id)
        now = self._now()
        if record is None or not keys.proves(secret, record) or record.state(now) != "active":
            return None
        if record.used_at is None or not 0 <= now - record.used_at < USED_EVERY:
            self._due[key_id] = now
        return record.principal()

    def settle(self) -> None:
        """Write down when keys were last used. Slow: for after the answer, never before it."""
        while self._due:
            self._keys.used(*self._due.popitem())


class AccessTokens:
    """Principals of access tokens: the user and the session must be there and allowed now."""

    def __init__(self, store: AccessStore, signer: Signer, now: Callable[[], float]) -> None:
        self._users = store.users
        self._sessions = store.sessions
        self._signer = signer
        self._now = now

    def authenticate(self, token: str) -> Principal | None:
        """The user of a token that is ours and has not expired, whose session has not ended."""
        if token.count(".") != 2:
            return None
        now = self._now()
        claims = self._signer.verify(token, now)
        if claims is None:
            return None
        session = self._sessions.find(claims.session)
        user = self._users.find(claims.user)
        if session is None or session.user != claims.user or session.expires_at <= now:
            return None
        if user is None or user.state != "active":
            return None
        return user.principal(claims.session, claims.expires)
