"""API keys: ``evl_<id>_<secret>``. The id finds the record, the secret's digest proves the holder."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from everlearn.access.names import fault, key_label, model_name
from everlearn.access.secrets import digest_of, new_id, new_secret, same
from everlearn.access.words import Principal, Scope, Scopes, widened

PREFIX: Final = "evl_"
MOST_LABELS_PER_DAY: Final = 10**9
_KEY: Final = re.compile(r"evl_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key: never the key.

    ``models`` are the models it is for (``None``: all). Times are in seconds since the epoch;
    ``used_at`` is behind by up to a minute. ``labels_per_day`` is how many labels and examples it may give
    (``None``: as the installation says).
    """

    id: str
    name: str
    digest: str
    scopes: Scopes
    models: tuple[str, ...] | None
    created_at: float
    created_by: str
    expires_at: float | None = None
    used_at: float | None = None
    revoked_at: float | None = None
    labels_per_day: int | None = None

    def state(self, now: float) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def principal(self) -> Principal:
        """What the holder of the key may do."""
        scopes = widened(self.scopes)
        name = f"key:{self.id}"
        if self.models is None:
            return Principal(name, "key", scopes, expires=self.expires_at, labels_per_day=self.labels_per_day)
        granted = dict.fromkeys(self.models, scopes)
        return Principal(
            name, "key", models=granted, expires=self.expires_at, labels_per_day=self.labels_per_day
        )


def make_key(
    name: str,
    scopes: Collection[Scope],
    models: Collection[str] | None,
    expires_at: float | None,
    *,
    by: str,
    now: float,
    labels_per_day: int | None = None,
) -> tuple[str, KeyRecord]:
    """A new key, to be shown once, and its record. Raises InvalidError that names the field at fault."""
    if not scopes:
        raise fault("scopes", f"name at least one of {', '.join(Scope)}")
    if models is not None and not models:
        raise fault("models", "name at least one model, or leave it out for all")
    if models is not None and Scope.ADMIN in scopes:
        raise fault("models", "the scope admin is for everything: leave models out, or admin")
    if expires_at is not None and expires_at <= now:
        raise fault("expires_at", "must lie in the future")
    if labels_per_day is not None and not 1 <= labels_per_day <= MOST_LABELS_PER_DAY:
        raise fault("labels_per_day", f"must be 1 to {MOST_LABELS_PER_DAY}, or left out")
    granted = None if models is None else tuple(sorted({model_name("models", model) for model in models}))
    key_id, secret = new_id(), new_secret()
    key = f"{PREFIX}{key_id}_{secret}"
    record = KeyRecord(
        key_id,
        key_label(name),
        digest_of(secret),
        frozenset(scopes),
        granted,
        now,
        by,
        expires_at,
        labels_per_day=labels_per_day,
    )
    return key, record


def parts_of(token: str) -> tuple[str, str] | None:
    """The id and the secret of a token that has the form of a key."""
    match = _KEY.fullmatch(token)
    return None if match is None else (match[1], match[2])


def proves(secret: str, record: KeyRecord) -> bool:
    """Whether a secret is the record's, in constant time."""
    return same(digest_of(secret), record.digest)
