"""Logging in and out, refreshing, accepting an invitation, changing a password."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from everlearn.access import sessions
from everlearn.access.audit import entry
from everlearn.access.limits import LockOut
from everlearn.access.ports import AccessStore, Hasher, Signer
from everlearn.access.secrets import digest_of, new_invite, same
from everlearn.access.sessions import ACCESS_SECONDS, Claims, Session, Tokens
from everlearn.access.users import INVITE_SECONDS, User, check_password
from everlearn.access.words import Role
from everlearn.errors import ConflictError, EverlearnError, NotFoundError, UnauthorizedError

ACCOUNT_FAILURES: Final = 5
ADDRESS_FAILURES: Final = 20


class LockedOutError(EverlearnError):
    """Too many failures: try again in ``wait`` seconds."""

    status = 429
    title = "Too many requests"

    def __init__(self, wait: float) -> None:
        super().__init__(f"Too many failed logins: try again in {int(wait) + 1} seconds")
        self.wait = wait


class ReusedError(UnauthorizedError):
    """A refresh token was used twice: its session, of ``user``, has ended."""

    def __init__(self, user: str) -> None:
        super().__init__("This refresh token was used before, so its session has ended: log in again")
        self.user = user


class Accounts:
    """What people do with their own accounts. Calls are slow (hashing, storage): keep them off an event loop.

    Every failed login takes the same time and says the same, whether the user is unknown, disabled, invited
    or has another password.
    """

    def __init__(self, store: AccessStore, hasher: Hasher, signer: Signer, now: Callable[[], float]) -> None:
        self._users = store.users
        self._sessions = store.sessions
        self._hasher = hasher
        self._signer = signer
        self._now = now
        self._accounts = LockOut(ACCOUNT_FAILURES)
        self._addresses = LockOut(ADDRESS_FAILURES)

    def login(self, name: str, password: str, address: str) -> Tokens:
        """A new session. Raises UnauthorizedError, or LockedOutError after too many failures."""
        name, now = name.lower()[:200], self._now()
        if wait := max(self._accounts.wait(name, now), self._addresses.wait(address, now)):
            raise LockedOutError(wait)
        user = self._users.find(name)
        usable = user is not None and user.state == "active"
        good = self._hasher.verify(user.password if user and usable else None, password)
        if user is None or not (usable and good):
            self._accounts.failed(name, now)
            self._addresses.failed(address, now)
            raise UnauthorizedError("The user name or the password is wrong")
        self._accounts.succeeded(name)
        if user.password and self._hasher.outdated(user.password):
            self._users.replace(replace(user, password=self._hasher.hash(password)))
        return self._begin(user.name)

    def refresh(self, token: str) -> tuple[str, Tokens]:
        """The user, and new tokens for a refresh token, which is used up by it.

        Raises ReusedError when it was used before, UnauthorizedError when it is wrong or has expired.
        """
        parts = sessions.parts_of(token)
        session = self._sessions.find(parts[1]) if parts else None
        now = self._now()
        if parts is None or session is None or session.expires_at <= now:
            raise UnauthorizedError("The refresh token is wrong or has expired: log in again")
        refresh, digest, until = sessions.next_token(parts[0], session, now)
        if not self._sessions.rotate(session.id, parts[2], digest, until):
            self._sessions.end(session.id)
            raise ReusedError(session.user)
        user = self._users.find(session.user)
        if user is None or user.state != "active":
            self._sessions.end(session.id)
            raise UnauthorizedError("The account is no longer active")
        return user.name, self._tokens(session, refresh, now)

    def logout(self, session: str) -> None:
        """End a session: its access and refresh tokens are worth nothing from now on."""
        self._sessions.end(session)

    def invite(self, name: str) -> tuple[str, User]:
        """A token with which the user sets a password, once; it replaces any before.

        An old password and old sessions end at once. Raises NotFoundError.
        """
        user = self._found(name)
        token = new_invite()
        until = self._now() + INVITE_SECONDS
        user = self._users.replace(replace(user, password=None, invite=digest_of(token), invite_until=until))
        self._sessions.end_all(name)
        return token, user

    def accept(self, name: str, token: str, password: str) -> Tokens:
        """Set the first password by an invitation, and log in.

        Raises UnauthorizedError for a wrong, used or expired one, InvalidError for a weak password.
        """
        user = self._users.find(name.lower())
        now = self._now()
        known = user.invite if user and user.invite else digest_of("")
        good = same(digest_of(token), known) and token != ""
        if user is None or not good or user.disabled or (user.invite_until or 0.0) <= now:
            raise UnauthorizedError("The invitation is wrong, was used, or has expired: ask for a new one")
        self._set(user, password)
        return self._begin(user.name)

    def change_password(self, name: str, old: str, new: str) -> Tokens:
        """Set another password; all sessions end, and a new one begins.

        Raises UnauthorizedError for a wrong old password (which counts as a failed login), InvalidError
        for a weak new one.
        """
        now = self._now()
        if wait := self._accounts.wait(name, now):
            raise LockedOutError(wait)
        user = self._found(name)
        if not self._hasher.verify(user.password, old):
            self._accounts.failed(name, now)
            raise UnauthorizedError("The old password is wrong")
        self._set(user, new)
        self._sessions.end_all(name)
        return self._begin(name)

    def _set(self, user: User, password: str) -> None:
        check_password(password, user.name)
        hashed = self._hasher.hash(password)
        self._users.replace(replace(user, password=hashed, invite=None, invite_until=None))

    def _found(self, name: str) -> User:
        user = self._users.find(name)
        if user is None:
            raise NotFoundError(f"There is no user {name!r}: list the users to see their names")
        return user

    def _begin(self, name: str) -> Tokens:
        now = self._now()
        refresh, session = sessions.make_session(name, now)
        self._sessions.forget(now)
        self._sessions.add(session)
        return self._tokens(session, refresh, now)

    def _tokens(self, session: Session, refresh: str, now: float) -> Tokens:
        claims = Claims(session.user, session.id, now + ACCESS_SECONDS)
        return Tokens(self._signer.sign(claims, now), refresh, ACCESS_SECONDS)


def first_admin(store: AccessStore, hasher: Hasher, password: str | None, now: float) -> str | None:
    """Make the user ``admin`` where there are no users, with a password or else an invitation.

    Returns the invitation's token, or ``None`` where there is none.
    """
    if store.users.list(limit=1).items:
        return None
    token = None if password is not None else new_invite()
    user = User("admin", Role.ADMIN, created_at=now)
    if password is not None:
        user = replace(user, password=hasher.hash(password))
    else:
        user = replace(user, invite=digest_of(token or ""), invite_until=now + INVITE_SECONDS)
    try:
        store.users.add(user)
    except ConflictError:  # another process was first
        return None
    store.audit.add(entry(now, "system", "make the first user", "admin", 201))
    return token
