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
from everlearn.adapters.memory import MemoryStore
from everlearn.running import record_server
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
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server over stores in memory, with a worker; the data folder that leads to it."""
    import uvicorn

    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    data = tmp_path_factory.mktemp("data")
    (data / "key").write_text(KEY + "\n")
    store = MemoryStore()
    parts = SimpleNamespace(
        clock=SystemClock(), models=store.models, log=store.log, versions=store.versions,
        ledger=store.ledger, jobs=store.jobs, outbox=store.outbox, artifacts=store.artifacts,
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
