"""A running server in this process, and a way to run commands as a shell would."""

from __future__ import annotations

import csv
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import MemoryArtifacts, MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.config import Settings
from everlearn.loop.defaults import with_defaults
from everlearn.running import record_server
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.wiring import Installation
from everlearn.worker import Worker

KEY = "a-key-for-the-tests-alone"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process."""
    from everlearn.cli import main

    def invoke(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["everlearn", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert isinstance(code, int)
        return Ended(code, said.out, said.err)

    return invoke


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, on_postgres: bool) -> Iterator[Any]:
    """What the one server of all tests stores in."""
    if not on_postgres:
        yield MemoryStore()
        return
    postgres = request.getfixturevalue("postgres")
    store = SqlStore(postgres.url(postgres.take()))
    yield store
    store.close()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory, store: Any) -> Iterator[Path]:
    """A server, with a worker; the data folder that leads to it."""
    import uvicorn

    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    data = tmp_path_factory.mktemp("data")
    (data / "key").write_text(KEY + "\n")
    parts = SimpleNamespace(
        clock=SystemClock(), models=store.models, log=store.log, versions=store.versions,
        ledger=store.ledger, jobs=store.jobs, backlog=store.backlog,
        leases=store.leases, outbox=store.outbox, artifacts=MemoryArtifacts(), erasures=store.erasures,
    )  # fmt: skip
    worker = Worker(parts, poll_seconds=0.01)
    app = create_app(parts, authenticator=ApiKey(KEY), poll=0.05)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        record_server(data, f"http://127.0.0.1:{listener.getsockname()[1]}")
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True),
            threading.Thread(target=worker.run, daemon=True),
        ]
        for thread in threads:
            thread.start()
        while not server.started:
            time.sleep(0.01)
        yield data
        server.should_exit = True
        worker.stop()
        for thread in threads:
            thread.join(10)


@pytest.fixture
def data(serving: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data folder of the running server, set as the environment of every command."""
    monkeypatch.setenv("EVERLEARN_DATA", str(serving))
    monkeypatch.chdir(tmp_path)
    return serving


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """A table of 400 rows whose target follows from one of its columns."""
    return write_flowers(tmp_path / "my flowers.csv", 400)


def write_flowers(path: Path, rows: int, seed: int = 0) -> Path:
    rng = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["height", "colour", "wild", "kind"])
        for _ in range(rows):
            height = round(rng.uniform(1, 99), 2)
            kind = "tall" if height > 50 else "small"
            colour, wild = rng.choice(["red", "blue", ""]), rng.choice(["true", "false"])
            writer.writerow([height, colour, wild, kind])
    return path


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for something to become true."""
    return until


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A data folder with the record of a model that was promoted."""
    data = tmp_path / "installation"
    installation = Installation(Settings.load(data=data, mlflow_tracking_uri="off"))
    installation.prepare()
    installation.migrate()
    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}, "gate": {"holdout": 40, "min_rows": 20}}
    spec |= {"policy": {"first_rows": 60}, "learner": {"name": "window", "estimator": "logistic"}}
    installation.models.create(with_defaults(parse_spec(spec)), 1_800_000_000.0)
    rng = random.Random(0)
    xs = [rng.gauss(0, 1) for _ in range(200)]
    installation.log.append(
        "m",
        [
            NewEvent(EventKind.EXAMPLE, 1_800_000_000.0 + i, None, {"features": {"x": x}, "target": x > 0})
            for i, x in enumerate(xs)
        ],
    )
    worker = Worker(installation, poll_seconds=0.01)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: installation.versions.champion("m").version > 0)
        until(
            lambda: (
                not installation.ledger.behind()
                and all(job.finished_at is not None for job in installation.jobs.list("m").items)
                and not installation.ledger.behind()
            )  # the end of a job is an event, too
        )
    finally:
        worker.stop()
        thread.join(10)
        installation.close()
    return data
