"""The HTTP door, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from everlearn import __version__
from everlearn.access.ports import AccessStore, Hasher, Signer
from everlearn.adapters.group_commit import GroupCommit
from everlearn.adapters.rules import Receipts
from everlearn.api import (
    accounts,
    audit,
    bulk,
    bulk_labels,
    commands,
    decisions,
    examples,
    health,
    jobs,
    keys,
    labels,
    metrics,
    mlflow_scoring,
    models,
    predict,
    problems,
    shortcuts,
    sources,
    users,
    v2,
    versions,
    warmup,
)
from everlearn.api.auth import Authentication, Authenticator, caller
from everlearn.api.body_limit import BodyLimit
from everlearn.api.doorkeeper import Doorkeeper, make_doorkeeper
from everlearn.api.hot import HotPath
from everlearn.api.idempotency import Idempotency
from everlearn.api.instruments import Instruments
from everlearn.api.middleware import Context, LastResort
from everlearn.api.openapi import describe
from everlearn.api.parts import Door, Parts
from everlearn.api.permissions import Permissions
from everlearn.api.quotas import LabelQuotas
from everlearn.api.runtime import Runtime
from everlearn.api.throttle import Rates

MAX_BODY = 64 * 2**20

KEYED = (
    models.router,
    bulk.router,
    bulk_labels.router,
    predict.router,
    labels.router,
    examples.router,
    versions.router,
    decisions.router,
    jobs.router,
    commands.router,
    sources.router,
    shortcuts.plain,
    shortcuts.writes,
    v2.router,
    mlflow_scoring.router,
    metrics.router,
    accounts.own,
    keys.router,
    users.router,
    audit.router,
)
"""The routers behind a credential: all but health and logging in."""


class Api(FastAPI):
    """The framework's app behind our own front, through which every request comes before the framework runs.

    What the front answers itself has passed none of the framework's layers, which take longer than it does.
    """

    front: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the front, and all else to the framework."""
        if scope["type"] == "lifespan":
            await self.routed(scope, receive, send)
            return
        assert self.front is not None, "create_app has not put the front before the framework"
        scope["app"] = self
        await self.front(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The framework's own way: its layers, and the routes."""
        await super().__call__(scope, receive, send)


def create_app(
    installation: Parts,
    *,
    authenticator: Authenticator,
    receipts: Receipts | None = None,
    access: AccessStore | None = None,
    signer: Signer | None = None,
    hasher: Hasher | None = None,
    rates: Rates | None = None,
    threshold: float = 0.8,
    max_body: int = MAX_BODY,
    poll: float = 0.05,
    warm: bool = False,
) -> FastAPI:
    """The HTTP API of an installation as an ASGI app.

    ``receipts`` keep the answers for ``Idempotency-Key`` (default: in the memory of this process).
    ``authenticator`` knows the installation's own key; ``access`` holds keys, users, sessions and the audit
    log (default: in memory), ``signer`` and ``hasher`` are for logins, ``rates`` for who asks too often.
    ``threshold`` is for specs that name none, ``max_body`` limits request bodies in bytes, and
    ``poll`` is how often new champions are looked for, in seconds. ``warm`` imports in the background what
    the first requests need.

    Raises InvalidError where a route has no permission (see :mod:`everlearn.api.permissions`).
    """
    door = _door(installation, receipts, threshold, poll, rates or Rates())
    doorkeeper = _doorkeeper(authenticator, access, signer, hasher, installation.clock.now, rates)
    app = Api(title="everlearn", version=__version__, lifespan=_lifespan, redoc_url=None)
    app.state.door = door
    app.state.doorkeeper = doorkeeper
    app.state.warm = warm
    problems.install(app)
    app.include_router(health.router)
    app.include_router(accounts.open_)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    for router in KEYED:
        app.include_router(router, dependencies=[Depends(caller)], responses=problems.documented(401, 403))
    describe(app)
    app.add_middleware(LastResort)
    inner = BodyLimit(HotPath(app.routed, door), limit=max_body)
    app.front = Context(Authentication(inner, doorkeeper, Permissions(app)), door.instruments)
    return app


async def _to_docs() -> RedirectResponse:
    """Where a browser lands that opens the address which ``everlearn up`` prints."""
    return RedirectResponse("/docs")


def _doorkeeper(
    authenticator: Authenticator,
    access: AccessStore | None,
    signer: Signer | None,
    hasher: Hasher | None,
    now: Callable[[], float],
    rates: Rates | None,
) -> Doorkeeper:
    from everlearn.access.secrets import new_secret
    from everlearn.adapters.memory_access import MemoryAccess
    from everlearn.adapters.passwords import Argon2
    from everlearn.adapters.tokens import Hs256

    return make_doorkeeper(
        authenticator,
        access or MemoryAccess(),
        hasher or Argon2(),
        signer or Hs256([new_secret()]),
        now,
        rates or Rates(),
    )


def _door(parts: Parts, receipts: Receipts | None, threshold: float, poll: float, rates: Rates) -> Door:
    if receipts is None:
        from everlearn.adapters.memory import MemoryReceipts

        receipts = MemoryReceipts()
    instruments = Instruments(parts)
    return Door(
        parts=parts,
        runtime=Runtime(parts, instruments, poll=poll),
        writer=GroupCommit(parts.log, on_loss=instruments.unwritten),
        idempotency=Idempotency(receipts, parts.clock.now),
        instruments=instruments,
        threshold=threshold,
        quotas=LabelQuotas(rates.labels_per_day),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    door: Door = app.state.door
    door.runtime.start()
    warming = warmup.start(lambda: door.runtime.loading) if app.state.warm else None
    try:
        yield
    finally:
        if warming is not None:
            warming.set()
        await run_in_threadpool(_close, door)


def _close(door: Door) -> Any:
    door.runtime.stop()
    door.writer.close()
