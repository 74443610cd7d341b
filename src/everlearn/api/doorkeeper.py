"""What authentication works with, put together once for an app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from everlearn.access.accounts import Accounts
from everlearn.access.limits import Buckets
from everlearn.access.ports import AccessStore, Audit, Hasher, Signer
from everlearn.access.resolving import AccessTokens, KeyRing
from everlearn.api.credentials import Authenticator, Credentials, OneOf
from everlearn.api.throttle import Rates, Throttle
from everlearn.errors import UnavailableError

_NOTES_PER_SECOND: Final = 0.2
_NOTES_AT_ONCE: Final = 20
_MOST_WAITING: Final = 100

T = TypeVar("T")


class Turns:
    """Lets slow work (password hashes) through one after the other, so that it takes no thread from others.

    ``waiting`` may wait; whoever comes then is refused with UnavailableError.
    """

    def __init__(self, waiting: int = _MOST_WAITING) -> None:
        self._turn = asyncio.Semaphore(1)
        self._room = waiting + 1

    async def take(self, work: Callable[[], T]) -> T:
        """Do this when it is its turn, in a thread."""
        if self._room == 0:
            raise UnavailableError("Too many are logging in at this moment: try again")
        self._room -= 1
        try:
            async with self._turn:
                return await run_in_threadpool(work)
        finally:
            self._room += 1


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Who is known, what they may do how often, and where it is written down."""

    store: AccessStore
    accounts: Accounts
    credentials: Credentials
    throttle: Throttle
    now: Callable[[], float]
    notes: Buckets
    turns: Turns

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
        turns=Turns(),
    )


async def _doorkeeper(request: Request) -> Doorkeeper:
    keeper = request.app.state.doorkeeper
    assert isinstance(keeper, Doorkeeper)
    return keeper


TheDoorkeeper = Annotated[Doorkeeper, Depends(_doorkeeper)]
