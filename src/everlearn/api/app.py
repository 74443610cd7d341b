"""The HTTP door, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from everlearn import __version__
from everlearn.access.ports import AccessStore, Hasher, Signer
from everlearn.adapters.group_commit import GroupCommit
from everlearn.adapters.rules import ALERTS, Receipts, load_message
from everlearn.adapters.tracing import Untraced
from everlearn.api import (
    accounts,
    audit,
    backfills,
    bulk,
    bulk_labels,
    commands,
    decisions,
    drilldown,
    erasures,
    examples,
    frame_listing,
    frames,
    freshness,
    health,
    jobs,
    keys,
    labels,
    metrics,
    mlflow_scoring,
    models,
    overview,
    predict,
    problems,
    shortcuts,
    sources,
    stream,
    timeline,
    users,
    v2,
    verify,
    versions,
    warmup,
    what_if,
)
from everlearn.api.auth import Authentication, Authenticator, caller
from everlearn.api.body_limit import BodyLimit
from everlearn.api.busy import Busy, ModelLimit
from everlearn.api.cache import DEFAULT_BYTES
from everlearn.api.doorkeeper import Doorkeeper, make_doorkeeper
from everlearn.api.failures import Tell
from everlearn.api.hot import HotPath
from everlearn.api.idempotency import Idempotency
from everlearn.api.image_fetching import Fetcher
from everlearn.api.instruments import Instruments
from everlearn.api.middleware import Context, LastResort
from everlearn.api.openapi import describe
from everlearn.api.parts import Door, Parts
from everlearn.api.permissions import Permissions
from everlearn.api.quotas import LabelQuotas
from everlearn.api.runtime import Runtime
from everlearn.api.short_way import ShortWay
from everlearn.api.stream import Streams
from everlearn.api.throttle import Rates
from everlearn.ports import Announcements, Clock, Outbox
from everlearn.types import Champion

MAX_BODY = 64 * 2**20

OPEN = (health.router, v2.open_, mlflow_scoring.open_, accounts.open_)
"""The routers that anybody may ask."""

KEYED = (
    overview.router,
    models.router,
    timeline.router,
    drilldown.router,
    bulk.router,
    bulk_labels.router,
    predict.router,
    frames.router,
    frame_listing.router,
    stream.router,
    labels.router,
    examples.router,
    versions.router,
    freshness.router,
    decisions.router,
    verify.router,
    jobs.router,
    what_if.router,
    backfills.router,
    commands.router,
    sources.router,
    erasures.router,
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
    streams: ASGIApp | None = None
    short_way: ShortWay | None = None
    """What a server may ask first, before it runs the app; see :mod:`everlearn.api.patience`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the front, and all else to the framework."""
        if scope["type"] == "lifespan":
            await self.routed(scope, receive, send)
            return
        if scope["type"] == "websocket":
            assert self.streams is not None, "create_app has not said who answers streams"
            await self.streams(scope, receive, send)
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
    memory: int = DEFAULT_BYTES,
    model_requests: int = 0,
    announcements: Announcements | None = None,
    outbox: Outbox | None = None,
    tracer: Untraced | None = None,
    fetcher: Fetcher | None = None,
) -> Api:
    """The HTTP API of an installation as an ASGI app.

    ``receipts`` keep the answers for ``Idempotency-Key`` (default: in the memory of this process).
    ``authenticator`` knows the installation's own key; ``access`` holds keys, users, sessions and the audit
    log (default: in memory), ``signer`` and ``hasher`` are for logins, ``rates`` for who asks too often.
    ``threshold`` is for specs that name none, ``max_body`` limits request bodies in bytes, and
    ``poll`` is how often new champions are looked for, in seconds. ``warm`` imports in the background what
    the first requests need. ``memory`` is how many bytes the models in memory may take, ``model_requests``
    how many requests each of them may have under way (0: any number). ``announcements`` tell of new champions
    sooner than polling does. Through ``outbox`` people are told of versions that do not load. ``tracer``
    takes a span of each request. ``fetcher`` fetches images from URLs (default: from nowhere).

    Raises InvalidError where a route has no permission (see :mod:`everlearn.api.permissions`).
    """
    busy = Busy(model_requests)
    instruments = Instruments(installation, outbox, tracer)
    runtime = Runtime(
        installation,
        instruments,
        poll=poll,
        memory=memory,
        in_use=busy,
        announcements=announcements,
        tell=_teller(outbox, installation.clock),
    )
    door = _door(installation, receipts, threshold, rates or Rates(), runtime, instruments, fetcher)
    doorkeeper = _doorkeeper(authenticator, access, signer, hasher, installation.clock.now, rates)
    app = Api(title="everlearn", version=__version__, lifespan=_lifespan, redoc_url=None)
    app.state.door = door
    app.state.doorkeeper = doorkeeper
    app.state.warm = warm
    app.state.stalls = freshness.Stalls()
    problems.install(app)
    app.router.routes.extend(_routes())
    describe(app)
    app.add_middleware(LastResort)
    inner = ModelLimit(BodyLimit(HotPath(app.routed, door), limit=max_body), busy)
    permissions = Permissions(app)
    app.front = Context(Authentication(inner, doorkeeper, permissions), door.instruments)
    app.streams = Streams(door, doorkeeper, permissions)
    app.short_way = ShortWay(door, doorkeeper, permissions, busy, max_body)
    return app


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """The routes of every app. What the framework derives from them, it derives once in a process."""
    root = APIRouter()
    for router in OPEN:
        root.include_router(router)
    root.add_api_route("/", _to_docs, include_in_schema=False)
    for router in KEYED:
        root.include_router(router, dependencies=[Depends(caller)], responses=problems.documented(401, 403))
    return tuple(root.routes)


async def _to_docs() -> RedirectResponse:
    """Where a browser lands that opens the address which ``everlearn up`` prints."""
    return RedirectResponse("/docs")


def _teller(outbox: Outbox | None, clock: Clock) -> Tell:
    """How people are told that a champion does not load."""

    def tell(model: str, champion: Champion, text: str, recovered: bool) -> None:
        if outbox is not None:
            outbox.put(ALERTS, model, load_message(model, champion, clock.now(), text, recovered))

    return tell


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


def _door(
    parts: Parts,
    receipts: Receipts | None,
    threshold: float,
    rates: Rates,
    runtime: Runtime,
    instruments: Instruments,
    fetcher: Fetcher | None,
) -> Door:
    if receipts is None:
        from everlearn.adapters.memory import MemoryReceipts

        receipts = MemoryReceipts()
    return Door(
        parts=parts,
        runtime=runtime,
        writer=GroupCommit(parts.log, on_loss=instruments.unwritten, on_group=instruments.committed),
        idempotency=Idempotency(receipts, parts.clock.now),
        instruments=instruments,
        threshold=threshold,
        quotas=LabelQuotas(rates.labels_per_day),
        fetcher=fetcher or Fetcher(),
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
