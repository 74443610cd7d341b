"""A door over the in-memory store, called in process or, for what no client library sends, by socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from loguru import logger

from everlearn.adapters.memory import ManualClock
from everlearn.adapters.passwords import Argon2
from everlearn.api.app import Api, create_app
from everlearn.api.auth import ApiKey
from everlearn.api.patience import patient
from everlearn.api.throttle import Rates
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec

KEY = "a-key-for-the-tests"
NOUNS = ("models", "log", "versions", "ledger", "jobs", "backlog", "tallies", "artifacts", "erasures")
SPEC: dict[str, Any] = {
    "name": "toy",
    "target": "y",
    "features": {"a": "numeric", "b": "numeric"},
    "learner": {"name": "linear"},
}


class Wire:
    """A server on a socket, spoken to byte by byte."""

    def __init__(self, listening: asyncio.Server) -> None:
        self.port: int = listening.sockets[0].getsockname()[1]
        self._loop = listening.get_loop()

    def stall(self, seconds: float) -> None:
        """Let the server do nothing for so long: what is sent meanwhile comes to it at once."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def connect(self, patience: float = 5.0) -> socket.socket:
        """A new connection, on which reading gives up after ``patience`` seconds."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=patience)

    def ask(self, *parts: bytes, pause: float = 0.0, patience: float = 5.0) -> bytes:
        """All that the server says to these bytes until it closes, or until ``patience`` is over."""
        with self.connect(patience) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
            except ConnectionError:  # the server had enough
                pass
            return heard(connection)


def heard(connection: socket.socket) -> bytes:
    """What comes on a connection until it ends; ``b"..."`` at the end where it stays open instead."""
    found = b""
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except TimeoutError:
        return found + b"..."
    except ConnectionError:
        pass
    return found


@contextmanager
def hosting(app: Api, patience: float, short: bool = True) -> Iterator[Wire]:
    """The app behind a socket, with the protocol that production has; ``short``: and its short way."""
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        access_log=False,
        http=patient(patience, app.short_way if short else None),
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield Wire(server.servers[0])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def host() -> Callable[..., Any]:
    return hosting


@pytest.fixture
def store(any_store: Any) -> Any:
    return any_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def make_app(store: Any, clock: ManualClock) -> Callable[..., FastAPI]:
    """The API over the store, with the model ``toy``."""
    if not store.models.list(None, 1).items:  # an app made twice over one store
        store.models.create(with_defaults(parse_spec(SPEC)), clock.now())
    parts = SimpleNamespace(clock=clock, **{noun: getattr(store, noun) for noun in NOUNS})

    def make(**changes: Any) -> FastAPI:
        given = {
            "authenticator": ApiKey(KEY),
            "receipts": store.receipts,
            "access": store.access,
            "hasher": Argon2(memory=64, passes=1),
            "rates": Rates(wrong=1e6, burst=10**6),
            "poll": 0.02,
        }
        return create_app(parts, **{**given, **changes})

    return make


@asynccontextmanager
async def connected(app: FastAPI, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running app."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client,
    ):
        yield client


@pytest.fixture
def connect() -> Callable[..., Any]:
    return connected


@pytest.fixture
async def api(make_app: Callable[..., FastAPI]) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the installation's key."""
    async with connected(make_app()) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged, as it is written out."""
    found: list[str] = []
    sink = logger.add(found.append, level="DEBUG", format="{message} {extra} {exception}", diagnose=False)
    yield found
    logger.remove(sink)
