"""Sessions: a short access token, and a refresh token that is used once and replaced by the next.

A refresh token is ``evr_<session>_<secret>``. Both parts are random and known to its holder alone, so one
that names a living session with another secret was used before: the session ends, for thief and owner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from everlearn.access.secrets import digest_of, new_secret

ACCESS_SECONDS: Final = 900.0
REFRESH_SECONDS: Final = 86_400.0 * 14
"""How long a session lives without being used."""
SESSION_SECONDS: Final = 86_400.0 * 90
"""How long a session lives at most."""

_REFRESH: Final = re.compile(r"evr_([A-Za-z0-9_-]{43})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Session:
    """One login of a user. ``id`` is the digest of the session's name, ``digest`` of its newest secret."""

    id: str
    user: str
    digest: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says, once its signature was verified."""

    user: str
    session: str
    expires: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives: shown to the user and stored nowhere."""

    access: str
    refresh: str
    expires_in: float


def make_session(user: str, now: float) -> tuple[str, Session]:
    """A new session and its first refresh token."""
    name, secret = new_secret(), new_secret()
    session = Session(digest_of(name), user, digest_of(secret), now, now + REFRESH_SECONDS)
    return f"evr_{name}_{secret}", session


def parts_of(token: str) -> tuple[str, str, str] | None:
    """The session's name, its id and the secret's digest in a refresh token; ``None`` if it is none."""
    match = _REFRESH.fullmatch(token)
    return None if match is None else (match[1], digest_of(match[1]), digest_of(match[2]))


def next_token(name: str, session: Session, now: float) -> tuple[str, str, float]:
    """The refresh token that follows, the digest of its secret, and when it expires."""
    secret = new_secret()
    until = min(now + REFRESH_SECONDS, session.created_at + SESSION_SECONDS)
    return f"evr_{name}_{secret}", digest_of(secret), until
