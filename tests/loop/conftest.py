"""Streams and small worlds for the tests of the loop."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.loop.defaults import with_defaults
from everlearn.loop.drive import advance_model, run_job
from everlearn.predictor import Baseline, Predictor
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Event, EventKind, Job, NewEvent, Output

FAST = {
    "first_rows": 60,
    "min_labels": 40,
    "window": 100,
    "cooldown": 40,
    "check_every": 10,
}


def make_spec(**changes: Any) -> ModelSpec:
    """A two-feature classification model with a quick policy."""
    spec: dict[str, Any] = {
        "name": "toy",
        "target": "y",
        "features": {"a": "numeric", "b": "numeric"},
        "learner": {"name": "window", "size": 300, "estimator": "logistic"},
        "threshold": 0.8,
        "label_horizon": {"rows": 5},
        "policy": FAST,
        "gate": {"holdout": 40, "min_rows": 20, "look_every": 20},
    }
    return with_defaults(parse_spec({**spec, **changes}))


def concept(row: dict[str, float], turned: bool) -> str:
    """The truth: which side of a line; the other side once the world has turned."""
    return "yes" if (row["a"] + row["b"] > 0) != turned else "no"


@dataclass
class World:
    """A model in memory with its loop: predict and label as a caller would, then let the loop run."""

    spec: ModelSpec
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(1_000.0))
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.asked: list[tuple[str, dict[str, float]]] = []
        self.store.models.create(self.spec, self.clock.now())

    @property
    def name(self) -> str:
        return self.spec.name

    def row(self) -> dict[str, float]:
        return {"a": self.random.gauss(0, 1), "b": self.random.gauss(0, 1)}

    def champion(self) -> Predictor | Baseline:
        now = self.store.versions.champion(self.name)
        if now.digest is None:
            return Baseline(Output(None))
        return Predictor.from_bundle(self.store.artifacts.get(now.digest))

    def predict(self, rows: list[dict[str, float]]) -> None:
        """Answer rows by the champion and log them."""
        version = self.store.versions.champion(self.name).version
        events = []
        for row, output in zip(rows, self.champion().predict(rows), strict=True):
            name = f"p{len(self.asked)}"
            self.asked.append((name, row))
            body = {"features": row, "value": output.value, "probabilities": output.probabilities}
            events.append(
                NewEvent(EventKind.PREDICTION, self.clock.now(), name, {**body, "version": version})
            )
        self.store.log.append(self.name, events)

    def label(self, ids: list[tuple[str, dict[str, float]]], turned: bool = False) -> None:
        """Send the truth for some predictions."""
        self.store.log.append(
            self.name,
            [
                NewEvent(EventKind.LABEL, self.clock.now(), name, {"value": concept(row, turned)})
                for name, row in ids
            ],
        )

    def stream(self, rows: int, turned: bool = False, batch: int = 10) -> None:
        """Predict and label some rows, batch by batch, with the loop running in between."""
        for _ in range(0, rows, batch):
            self.clock.advance(1.0)
            start = len(self.asked)
            self.predict([self.row() for _ in range(batch)])
            self.label(self.asked[start:], turned)
            self.settle()

    def command(self, name: str, **arguments: Any) -> None:
        body = {"name": name, "arguments": arguments}
        self.store.log.append(self.name, [NewEvent(EventKind.COMMAND, self.clock.now(), None, body)])
        self.settle()

    def advance(self) -> None:
        while advance_model(self.name, self.store.log, self.store.ledger):
            pass

    def lease(self) -> Job | None:
        return self.store.jobs.lease("test", 60.0, self.clock.now())

    def work(self, job: Job) -> None:
        store = self.store
        run_job(
            job,
            log=store.log,
            versions=store.versions,
            jobs=store.jobs,
            artifacts=store.artifacts,
            clock=self.clock,
        )

    def settle(self) -> None:
        """Let the loop take in everything and do its jobs."""
        self.advance()
        while (job := self.lease()) is not None:
            self.work(job)
            self.advance()

    def decisions(self) -> list[Any]:
        """The ledger, oldest first."""
        return list(self.store.ledger.decisions(self.name, limit=1000).items)[::-1]

    def kinds(self) -> list[str]:
        return [str(decision.kind) for decision in self.decisions()]

    def events(self) -> list[Event]:
        return self.store.log.read(self.name, 0, 100_000)


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """A model in memory that nothing has happened to yet; the keywords change its spec."""
    return lambda **changes: World(make_spec(**changes))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A classification model in memory that nothing has happened to yet."""
    return make_world()


@pytest.fixture
def drifted(world: World) -> World:
    """A model that learned a concept, saw it turn, and recovered."""
    world.stream(250)
    world.stream(350, turned=True)
    return world


@pytest.fixture(scope="module")
def drifted_once() -> World:
    """One drifted world for tests that only look at it."""
    world = World(make_spec())
    world.stream(250)
    world.stream(350, turned=True)
    return world
