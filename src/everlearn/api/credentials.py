"""Bearer tokens that were checked a moment ago, so that the request path need not check them again."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.concurrency import run_in_threadpool

from everlearn.access.words import Principal

FRESH_SECONDS: Final = 1.0
"""How long an answer of the store counts: so long may a revoked key still work in another process."""

_MOST: Final = 10_000


class Authenticator(Protocol):
    """Turns a bearer token into a principal."""

    def authenticate(self, token: str) -> Principal | None:
        """The caller that a token belongs to, or ``None``. Takes the same time for any wrong token."""
        ...


class OneOf:
    """The first of several authenticators that knows a token."""

    def __init__(self, *authenticators: Authenticator) -> None:
        self._authenticators = authenticators

    def authenticate(self, token: str) -> Principal | None:
        """The caller, by whichever knows them."""
        return next((p for a in self._authenticators if (p := a.authenticate(token)) is not None), None)


@dataclass(slots=True)
class _Known:
    principal: Principal
    checked: float
    renewing: bool = False


class Credentials:
    """A cache before an authenticator: good tokens for a second, wrong ones not at all.

    Tokens are looked up by a keyed hash whose key is made anew in each process, so how long a look-up
    takes tells nothing about any token. In the second half of its time an entry is renewed in the
    background: no request waits for it. Nor does one for ``settle``, which is called after each check.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        now: Callable[[], float],
        settle: Callable[[], None] = lambda: None,
        fresh: float = FRESH_SECONDS,
    ) -> None:
        self._authenticator = authenticator
        self._now = now
        self._settle = settle
        self._fresh = fresh
        self._salt = secrets.token_bytes(32)
        self._known: dict[bytes, _Known] = {}
        self._turn = 0
        self._behind: set[asyncio.Task[Any]] = set()

    def fresh(self, token: str) -> Principal | None:
        """The principal of a token that was checked within the last second, at no cost."""
        known = self._known.get(self._index(token))
        if known is None:
            return None
        now = self._now()
        age = now - known.checked
        if not 0 <= age < self._fresh or self._over(known.principal, now):
            return None
        if age * 2 > self._fresh and not known.renewing:
            known.renewing = True
            self._later(self.check(token))
        return known.principal

    def knows(self, token: str) -> bool:
        """Whether a token was good when it was last checked."""
        return self._index(token) in self._known

    async def check(self, token: str) -> Principal | None:
        """The principal of a token, from the store."""
        turn, checked = self._turn, self._now()
        principal = await run_in_threadpool(self._authenticator.authenticate, token)
        index = self._index(token)
        if turn != self._turn:  # something was revoked meanwhile: this answer may be the old one
            return await run_in_threadpool(self._authenticator.authenticate, token)
        if principal is None:
            self._known.pop(index, None)
        else:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[index] = _Known(principal, checked)
            self._later(run_in_threadpool(self._settle))
        return principal

    def forget(self) -> None:
        """Check every token anew: something was revoked or changed."""
        self._turn += 1
        self._known.clear()

    def _index(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode("latin-1", "replace"), key=self._salt, digest_size=16).digest()

    def _over(self, principal: Principal, now: float) -> bool:
        return principal.expires is not None and principal.expires <= now

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._behind.discard(task)
        if not task.cancelled():
            task.exception()  # a store that is down is told by the next request that must wait for it
