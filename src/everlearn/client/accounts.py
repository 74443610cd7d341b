"""The verbs about who calls: logging in, one's own account, users, keys and the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from everlearn.client.answers import Record
from everlearn.client.binding import Listing, Verb
from everlearn.client.calls import Call, Pages, get, read_record, to_json, to_time, write

if TYPE_CHECKING:
    from datetime import datetime


class AccountVerbs:
    """Who calls, and who may. A client whose ``key`` is an access token calls as the user.

    What is about other people needs the scope ``admin``, and raises ForbiddenError without it.
    """

    # --- one's own account ---

    @Verb
    def login(self, username: str, password: str) -> Call[Record]:
        """Log in: ``{"access_token", "token_type", "expires_in", "refresh_token"}``.

        Use ``access_token`` as the key of another client. Raises UnauthorizedError if it is wrong.
        """
        return _once("/v1/auth/login", {"username": username, "password": password})

    @Verb
    def refresh(self, refresh_token: str) -> Call[Record]:
        """Trade a refresh token for new tokens; it works once."""
        return _once("/v1/auth/refresh", {"refresh_token": refresh_token})

    @Verb
    def accept_invite(self, name: str, invite: str, password: str) -> Call[Record]:
        """Choose a password by an invitation, and log in."""
        return _once("/v1/auth/accept", {"name": name, "invite": invite, "password": password})

    @Verb
    def me(self) -> Call[Record]:
        """Who this client is, and what it may do everywhere and with single models."""
        return get("/v1/auth/me")

    @Verb
    def change_password(self, old: str, new: str) -> Call[Record]:
        """Change one's password: all sessions end, the answer holds the tokens of a new one."""
        return _once("/v1/auth/password", {"old": old, "new": new})

    @Verb
    def logout(self) -> Call[None]:
        """End this login: its tokens are worth nothing from now on."""
        return Call("POST", "/v1/auth/logout", lambda _: None)

    # --- users ---

    @Listing
    def users(self, *, limit: int = 100) -> Pages:
        """Iterate over the users, in order of their names."""
        return Pages(get("/v1/users", limit=limit))

    @Verb
    def user(self, name: str) -> Call[Record]:
        """One user: role, grants and state."""
        return get(_user(name))

    @Verb
    def add_user(
        self, name: str, role: str | None = None, grants: Mapping[str, str] | None = None
    ) -> Call[Record]:
        """Add a user: ``{"user", "invite", "invite_until"}``; the invitation is shown this once.

        ``role`` holds everywhere, ``grants`` give a role with single models. Raises ConflictError if the
        name is taken.
        """
        return _once("/v1/users", {"name": name, "role": role, "grants": dict(grants or {})})

    @Verb
    def update_user(self, name: str, changes: Mapping[str, Any]) -> Call[Record]:
        """Change ``role``, ``grants`` (all of them) or ``disabled``."""
        return write("PATCH", _user(name), dict(changes), read_record)

    @Verb
    def delete_user(self, name: str) -> Call[None]:
        """Remove a user and their sessions; the audit log keeps what they did."""
        return Call("DELETE", _user(name), lambda _: None)

    @Verb
    def invite_user(self, name: str) -> Call[Record]:
        """Invite a user again: the old password, sessions and invitation end at once."""
        return _once(f"{_user(name)}/invite", {})

    # --- keys ---

    @Listing
    def keys(self, *, limit: int = 100) -> Pages:
        """Iterate over the API keys, without their secrets."""
        return Pages(get("/v1/keys", limit=limit))

    @Verb
    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        models: Sequence[str] | None = None,
        expires_at: datetime | float | str | None = None,
        labels_per_day: int | None = None,
    ) -> Call[Record]:
        """Make an API key; the answer's ``key`` is shown this once."""
        body: Record = {"name": name, "scopes": list(scopes), "labels_per_day": labels_per_day}
        body["models"] = None if models is None else list(models)
        body["expires_at"] = None if expires_at is None else to_time(expires_at)
        return _once("/v1/keys", body)

    @Verb
    def revoke_key(self, id: str) -> Call[Record]:  # noqa: A002 - the word of the API
        """Revoke a key; its record stays."""
        return Call("DELETE", f"/v1/keys/{quote(id, safe='')}", read_record)

    # --- the audit log ---

    @Listing
    def audit(self, who: str | None = None, *, limit: int = 100) -> Pages:
        """Iterate over the audit log, newest first; only what one caller did if given."""
        return Pages(get("/v1/audit", who=who, limit=limit))

    @Verb
    def audit_page(
        self, who: str | None = None, *, cursor: str | None = None, limit: int = 50
    ) -> Call[Record]:
        """One page of the audit log, newest first: ``{"items", "next"}``."""
        return get("/v1/audit", who=who, cursor=cursor, limit=limit)


def _user(name: str) -> str:
    return f"/v1/users/{quote(name, safe='')}"


def _once(url: str, body: Record) -> Call[Record]:
    """A request that must not be sent twice: a second one would be another attempt."""
    headers = {"Content-Type": "application/json"}
    return Call("POST", url, read_record, headers=headers, content=to_json(body), again=False)
