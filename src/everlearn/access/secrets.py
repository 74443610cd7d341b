"""Secrets: how they are made, kept as digests, and told from weak ones.

A secret of 256 random bits cannot be guessed from its SHA-256, so no slow hash is needed for it;
passwords, which people choose, get one (:class:`everlearn.access.ports.Hasher`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

SECRET_BYTES: Final = 32
ID_BYTES: Final = 6
MIN_SIGNING: Final = 32
MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 256
_FEW: Final = 8
_PLACEHOLDERS: Final = (
    "changeme", "change-me", "change_me", "password", "passw0rd", "qwerty", "letmein", "secret", "example",
    "12345678", "abcdefgh", "everlearn", "administrator", "placeholder",
)  # fmt: skip


def new_secret() -> str:
    """256 random bits as URL-safe text of 43 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_id() -> str:
    """48 random bits as 12 hex digits: a name, not a secret."""
    return secrets.token_hex(ID_BYTES)


def new_invite() -> str:
    """An invitation's token. Its prefix says what it is, and keeps it from looking like an option."""
    return f"evi_{new_secret()}"


def digest_of(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in 64 hex digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two digests are equal, in constant time."""
    return hmac.compare_digest(one, other)


def weakness(secret: str, least: int) -> str | None:
    """Why a secret is too weak, or ``None`` if it is not; ``least`` is the shortest length.

    >>> weakness("changeme-changeme", 16), weakness("tr0ub4dor&horse-battery", 12)
    ("it is a placeholder or a common word: 'changeme'", None)
    """
    if len(secret) < least:
        return f"it has fewer than {least} characters"
    if len(set(secret)) < min(_FEW, least):
        return f"it has fewer than {min(_FEW, least)} different characters"
    rest = secret.lower()
    found = [word for word in _PLACEHOLDERS if word in rest]
    for word in found:
        rest = rest.replace(word, "")
    # A long secret may hold a common word; one that is little more than that may not.
    if found and len(rest) < _FEW:
        return f"it is a placeholder or a common word: {found[0]!r}"
    return None
