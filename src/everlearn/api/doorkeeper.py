"""What authentication works with, put together once for an app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from everlearn.access.accounts import Accounts
from everlearn.access.limits import Buckets
from everlearn.access.ports import AccessStore, Audit, Hasher, Signer
from everlearn.access.resolving import AccessTokens, KeyRing
from everlearn.api.credentials import Authenticator, Credentials, OneOf
from everlearn.api.throttle import Rates, Throttle

_NOTES_PER_SECOND: Final = 0.2
_NOTES_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Who is known, what they may do how often, and where it is written down."""

    store: AccessStore
    accounts: Accounts
    credentials: Credentials
    throttle: Throttle
    now: Callable[[], float]
    notes: Buckets

    @property
    def audit(self) -> Audit:
        """The audit log."""
        return self.store.audit

    def may_note(self, name: str) -> bool:
        """Whether another refusal of this name is worth a line in the audit log."""
        return self.notes.take(name, self.now()).wait == 0.0


def make_doorkeeper(
    authenticator: Authenticator,
    store: AccessStore,
    hasher: Hasher,
    signer: Signer,
    now: Callable[[], float],
    rates: Rates,
) -> Doorkeeper:
    """A doorkeeper that knows the authenticator's callers, and the keys and users of a store."""
    ring = KeyRing(store, now)
    everyone = OneOf(authenticator, ring, AccessTokens(store, signer, now))
    return Doorkeeper(
        store=store,
        accounts=Accounts(store, hasher, signer, now),
        credentials=Credentials(everyone, now, ring.settle),
        throttle=Throttle(rates),
        now=now,
        notes=Buckets(_NOTES_PER_SECOND, _NOTES_AT_ONCE),
    )


async def _doorkeeper(request: Request) -> Doorkeeper:
    keeper = request.app.state.doorkeeper
    assert isinstance(keeper, Doorkeeper)
    return keeper


TheDoorkeeper = Annotated[Doorkeeper, Depends(_doorkeeper)]
