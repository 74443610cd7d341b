"""A store with real versions in it, for the mirror to mirror."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.adapters.mlflow import MlflowRegistry
from everlearn.adapters.outbox import Dispatcher
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec
from everlearn.types import (
    Decision,
    DecisionKind,
    EventKind,
    JobSpec,
    NewEvent,
    Promotion,
    Row,
    Step,
    Version,
)

SPEC = {
    "name": "spam",
    "target": "label",
    "features": {"length": "numeric", "colour": "categorical", "shouts": "boolean", "sent": "timestamp"},
    "learner": {"name": "linear"},
    "description": "Is it spam?",
}
ROWS: list[Row] = [
    {"length": i % 7, "colour": ("red", "blue", "7")[i % 3], "shouts": i % 2 == 0, "sent": 1e9 + 3600 * i}
    for i in range(60)
]
LABELS = ["spam" if row["length"] in (4, 5, 6) or row["colour"] == "red" else "ham" for row in ROWS]


class World:
    """One installation in memory, its artifacts in a folder, and what publishes versions in it."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock(1_700_000_000.0)
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.predictors: dict[tuple[str, int], Predictor] = {}

    def registry(self, uri: str, **options: Any) -> MlflowRegistry:
        """A mirror of this world."""
        parts = {"models": self.store.models, "versions": self.store.versions, "ledger": self.store.ledger}
        return MlflowRegistry(uri, **parts, artifacts=self.artifacts, **options)

    def dispatcher(self, registry: MlflowRegistry) -> Dispatcher:
        """What carries the outbox's messages to a mirror."""
        return Dispatcher(self.store.outbox, "registry", registry.mirror, self.clock)

    def create(self, **changes: Any) -> str:
        """A new model; returns its name."""
        spec = parse_spec({**SPEC, **changes})
        self.store.models.create(spec, self.clock.now())
        return spec.name

    def train(self, number: int, model: str = "spam", rows: list[Row] = ROWS, targets: Any = LABELS) -> None:
        """Make a version as a job does."""
        predictor = Predictor.new(self.store.models.get(model))
        upto = min(len(rows), 20 + 5 * number)
        predictor.learn(rows[:upto], targets[:upto])
        self.predictors[model, number] = predictor
        digest = self.artifacts.put(predictor.bundle(anchors=rows[:5]))
        spec = predictor.spec.learner
        metrics = {
            "holdout": {"accuracy": 0.9, "log loss": 0.3},
            "gain": float("nan"),
            "seconds": 1,
            "ok": True,
        }
        self.clock.advance(1.0)
        now = self.clock.now()
        self._step(model, jobs=[JobSpec(f"{model}-{number}", model, "train", number, {})])
        job = self.store.jobs.lease("me", 10.0, now)
        assert job is not None
        made = Version(
            model, number, 0, spec.name, spec.parameters, 1, upto, upto, upto, digest, metrics, now
        )
        body = {"job": job.spec.id, "version": number, "result": {}, "error": None}
        self.store.jobs.finish(job, made, NewEvent(EventKind.OUTCOME, now, None, body), now)

    def promote(self, number: int, model: str = "spam", kind: DecisionKind = DecisionKind.PROMOTE) -> None:
        """Change the champion as the loop does."""
        champion = self.store.versions.champion(model)
        items = self.store.ledger.decisions(model).items
        decision = len(items) + 1
        self.clock.advance(1.0)
        at = self.clock.now()
        change = Promotion(number, champion.version, champion.term, at, decision)
        why = Decision(decision, 1, at, kind, f"version {number} is better", {}, number)
        self._step(model, promotions=[change], decisions=[why])

    def _step(self, model: str, **parts: Any) -> None:
        before = self.store.ledger.checkpoint(model).cursor
        after = self.store.log.append(model, [NewEvent(EventKind.TICK, self.clock.now())])[0].seq
        assert after is not None
        assert self.store.ledger.commit(model, Step(before, after, b"", **parts))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation with the model ``spam`` and no versions yet."""
    made = World(tmp_path)
    made.create()
    return made


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes the URI of an empty, migrated MLflow store: the migrations run once, copies are cheap."""
    from everlearn.adapters.mlflow_connection import connect

    template = tmp_path_factory.mktemp("mlflow") / "template.db"
    connect(f"sqlite:///{template}").search_registered_models(max_results=1)

    def make(folder: Path) -> str:
        (folder / "mlflow.db").write_bytes(template.read_bytes())
        return f"sqlite:///{folder / 'mlflow.db'}"

    return make


@pytest.fixture
def uri(new_store: Any, tmp_path: Path) -> str:
    """An empty MLflow store."""
    return str(new_store(tmp_path))


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails if what is inside takes longer."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture
def no_longer_than() -> Any:
    """Fails if what is inside takes longer than a number of seconds."""
    return within
