"""A whole door over a store, with the loop run by hand or in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from everlearn.adapters.memory import ManualClock
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.loop.drive import advance_model, run_job

KEY = "a-key-for-the-tests"
START = 1_700_000_000.0
SPEC: dict[str, Any] = {
    "name": "toy",
    "target": "y",
    "features": {"a": "numeric", "b": "numeric"},
    "learner": {"name": "linear"},
    "update": "triggered",
    "threshold": 0.8,
    "label_horizon": {"rows": 5},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20},
}


@dataclass
class Place:
    """An installation whose artifacts are in memory."""

    store: Any
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))

    @property
    def parts(self) -> SimpleNamespace:
        store = self.store
        nouns = ("models", "log", "versions", "ledger", "scores", "jobs", "backlog", "tallies", "artifacts")
        nouns += ("erasures", "remains", "retention")
        return SimpleNamespace(clock=self.clock, **{noun: getattr(store, noun) for noun in nouns})

    def advance(self) -> None:
        """Let the loop and its jobs run until there is nothing to do."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Let each model's loop take one step and one job be done; whether there was anything to do."""
        busy = False
        for model in self.store.ledger.behind():
            busy |= advance_model(model, self.store.log, self.store.ledger, erasures=self.store.erasures) > 0
        if job := self.store.jobs.lease("test", 60, self.clock.now()):
            busy = True
            run_job(
                job,
                log=self.store.log,
                versions=self.store.versions,
                jobs=self.store.jobs,
                artifacts=self.store.artifacts,
                clock=self.clock,
            )
        return busy


@pytest.fixture
def place(any_store: Any) -> Place:
    return Place(any_store)


@pytest.fixture
def make_app(place: Place) -> Callable[..., FastAPI]:
    def make(**changes: Any) -> FastAPI:
        given = {"authenticator": ApiKey(KEY), "receipts": place.store.receipts, "poll": 0.02}
        return create_app(place.parts, **{**given, **changes})

    return make


@asynccontextmanager
async def connected(app: FastAPI, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running app."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test", headers=headers
        ) as client,
    ):
        yield client


@pytest.fixture
def connect() -> Callable[..., Any]:
    return connected


@pytest.fixture
async def api(make_app: Callable[..., FastAPI]) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(make_app()) as client:
        yield client


@pytest.fixture
def spec() -> dict[str, Any]:
    return dict(SPEC)


@pytest.fixture
async def toy(api: httpx.AsyncClient, spec: dict[str, Any]) -> httpx.AsyncClient:
    """A client where the model ``toy`` exists."""
    assert (await api.post("/v1/models", json=spec)).status_code == 201
    return api


@pytest.fixture
def history() -> Callable[..., dict[str, Any]]:
    """Rows with targets: ``y`` is whether ``a`` is positive."""

    def make(rows: int = 150) -> dict[str, Any]:
        features = [{"a": (i * 37 % 101) / 50 - 1, "b": (i * 13 % 7) / 7} for i in range(rows)]
        return {"rows": features, "targets": ["yes" if row["a"] > 0 else "no" for row in features]}

    return make


@pytest.fixture
async def trained(
    toy: httpx.AsyncClient, place: Place, history: Callable[..., dict[str, Any]]
) -> httpx.AsyncClient:
    """A client where version 1 of ``toy`` answers."""
    assert (await toy.post("/v1/models/toy/examples", json=history())).status_code == 200
    await asyncio.to_thread(place.advance)
    assert place.store.versions.champion("toy").version == 1
    await until_served(toy, 1)
    return toy


async def until_served(client: httpx.AsyncClient, version: int) -> None:
    """Wait until a version answers."""
    for _ in range(250):
        answer = await client.post("/v1/models/toy/predict", json={"row": {"a": 0.5, "b": 0.5}})
        if answer.json()["predictions"][0]["version"] == version:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"version {version} does not answer")


@pytest.fixture
def served() -> Callable[[httpx.AsyncClient, int], Awaitable[None]]:
    return until_served


@pytest.fixture
async def worker(place: Place) -> AsyncIterator[None]:
    """The loop in the background."""

    async def run() -> None:
        while True:
            await asyncio.to_thread(place.advance)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
