"""``Idempotency-Key``: a write that is sent again gets its first answer again, and changes nothing.

Only what succeeded is remembered: an error stored nothing, so doing it again is harmless. What is sent again
while the first is still at work (a caller whose patience was short) waits for it; where another process is at
that work, whoever comes second is refused by what the first has made, and looks for its answer then.
Predictions, labels and examples are idempotent by their ids and keys even where an answer was lost before it
could be remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from weakref import WeakValueDictionary

from fastapi import Header, Request, Response
from starlette.concurrency import run_in_threadpool

from everlearn.adapters.rules import Receipts, Reply
from everlearn.api.auth import Principal
from everlearn.api.body import JsonRequest, JsonRoute
from everlearn.errors import ConflictError, Fault, InvalidError

HEADER = "Idempotency-Key"
MAX_KEY = 200
KEPT = 86_400.0
"""Seconds for which an answer is remembered."""
SWEEP_EVERY = 600.0
_REMEMBERED = (200, 201, 204)
_MEDIA_TYPE = "application/json"


class Idempotency:
    """Remembers the answers to writes that carry a key, for a day."""

    def __init__(self, receipts: Receipts, now: Callable[[], float]) -> None:
        self._receipts = receipts
        self._now = now
        self._swept = now()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def turn(self, request: Request, key: str) -> asyncio.Lock:
        """What only one request of a key holds at a time, in this process."""
        return self._turns.setdefault((scope_of(request), key), asyncio.Lock())

    async def recall(self, request: Request, key: str, digest: str) -> Response | None:
        """The first answer to this key, or ``None``; raises InvalidError if it was for another request."""
        reply = await run_in_threadpool(self._receipts.get, scope_of(request), key)
        return None if reply is None else _again(reply, digest)

    async def remember(self, request: Request, key: str, digest: str, response: Response) -> Response:
        """Keep a good answer; returns the one that was kept first, if there is one already."""
        if response.status_code not in _REMEMBERED:
            return response
        reply = Reply(digest, response.status_code, bytes(response.body), self._now())
        first = await run_in_threadpool(self._keep, scope_of(request), key, reply)
        return response if first == reply else _again(first, digest)

    def _keep(self, scope: str, key: str, reply: Reply) -> Reply:
        if reply.at - self._swept > SWEEP_EVERY:
            self._swept = reply.at
            self._receipts.forget(reply.at - KEPT)
        return self._receipts.put(scope, key, reply)


def _again(reply: Reply, digest: str) -> Response:
    if reply.digest != digest:
        message = "was used for another request: use a new key for each new request"
        raise InvalidError(f"{HEADER} {message}", [Fault(HEADER, message)])
    headers = {"Idempotency-Replayed": "true"}
    return Response(reply.body, reply.status, headers, media_type=_MEDIA_TYPE if reply.body else None)


def scope_of(request: Request) -> str:
    """Whose key it is, and for what: keys of other callers and other paths never meet."""
    principal = request.scope["state"].get("principal")
    name = principal.name if isinstance(principal, Principal) else ""
    return f"{name} {request.method} {request.url.path}"


def key_of(request: Request) -> str | None:
    """The key of a request, or ``None``; raises InvalidError for one that is too long or not plain."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        message = f"must have 1 to {MAX_KEY} printable ASCII characters"
        raise InvalidError(f"{HEADER} {message}", [Fault(HEADER, message)])
    return key


def digest_of(request: Request, body: bytes) -> str:
    """What makes a request the same one: its query, kind of content and body."""
    kind = request.headers.get("content-type", "")
    return hashlib.sha256(b"\0".join([request.url.query.encode(), kind.encode(), body])).hexdigest()


class IdempotentRoute(JsonRoute):
    """A route that honours ``Idempotency-Key`` on its writes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind the memory of answers."""
        handle = super().get_route_handler()

        async def once(given: Request) -> Response:
            request = JsonRequest(given.scope, given.receive)
            key = key_of(request) if request.method != "GET" else None
            if key is None:
                return await handle(request)
            idempotency: Idempotency = request.app.state.door.idempotency
            digest = digest_of(request, await request.body())
            async with idempotency.turn(request, key):
                before = await idempotency.recall(request, key, digest)
                if before is not None:
                    return before
                try:
                    response = await handle(request)
                except ConflictError:
                    first = await idempotency.recall(request, key, digest)
                    if first is None:
                        raise
                    return first
                return await idempotency.remember(request, key, digest, response)

        return once


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=MAX_KEY,
        pattern=r"^[\x20-\x7e]*$",
        description="A key of your own: sent again with the same body, it gets the same answer.",
    ),
]
