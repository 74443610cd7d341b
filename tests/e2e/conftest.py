"""Whole installations: ``everlearn up`` as people run it, a stream to feed it, and MLflow beside it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

Row = dict[str, float]

SPEC: dict[str, Any] = {
    "name": "market",
    "target": "way",
    "features": {"price": "numeric", "demand": "numeric"},
    "learner": {"name": "window", "size": 600, "estimator": "logistic"},
    "threshold": 0.8,
    "label_horizon": {"rows": 20},
    "policy": {"first_rows": 100, "min_labels": 60, "window": 100, "cooldown": 50, "check_every": 10},
    "gate": {"holdout": 80, "min_rows": 20},
}


class Market:
    """A stream of rows with their truths; :meth:`turn` makes the opposite true from then on."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._up, self._down = "UP", "DOWN"

    def turn(self) -> None:
        self._up, self._down = self._down, self._up

    def rows(self, count: int) -> tuple[list[Row], list[str]]:
        """The next rows, and their truths."""
        rows = [{"price": self._draw.random(), "demand": self._draw.random()} for _ in range(count)]
        return rows, [self._up if row["price"] > row["demand"] else self._down for row in rows]


class Repeating(threading.Thread):
    """Does one thing over and over until it is told that it is over; an error ends it, and is kept."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._step = step
        self.over = threading.Event()
        self.times = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self._step()
                self.times += 1
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        """Let it end, and raise what ended it early."""
        self.over.set()
        self.join(60)
        if self.error is not None:
            raise self.error


class MlflowServer:
    """``mlflow server`` on one port, with its store in a folder."""

    def __init__(self, port: int, folder: Path) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
        self._command += ["--artifacts-destination", str(folder / "served")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={**os.environ, **quiet},
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.uri}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        pytest.fail(f"mlflow server did not start:\n{log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill -9 it and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def spec() -> dict[str, Any]:
    """A model of the market that learns and decides after few rows."""
    return SPEC


@pytest.fixture
def market() -> Market:
    return Market(seed=7)


@pytest.fixture
def live_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmarks' server, which is started and killed at will."""
    monkeypatch.syspath_prepend(root / "bench")
    return import_module("live_server")


@pytest.fixture
def live_record(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmarks' checks of the log against what the client was promised."""
    monkeypatch.syspath_prepend(root / "bench")
    return import_module("live_record")


@pytest.fixture
def serve(live_server: ModuleType, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start an installation; it is stopped when the test ends. Give ``mlflow=False`` for none."""
    started: list[Any] = []

    def start(**options: Any) -> Any:
        server = live_server.LiveServer(tmp_path / "data", **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def repeat() -> Iterator[Callable[[Callable[[], None]], Repeating]]:
    """Begin to do one thing over and over beside the test; it is over when the test ends."""
    begun: list[Repeating] = []

    def begin(step: Callable[[], None]) -> Repeating:
        begun.append(Repeating(step))
        begun[-1].start()
        return begun[-1]

    yield begin
    for one in begun:
        one.over.set()
    for one in begun:
        one.join(60)


@pytest.fixture
def modules(live_server: ModuleType) -> Callable[[Any], dict[int, str]]:
    """The processes of a server and the modules that they run."""

    def look(server: Any) -> dict[int, str]:
        found = {}
        for pid in live_server.family(server._process.pid)[1:]:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:  # it ended meanwhile
                continue
            if b"-m" in command:
                found[pid] = command[command.index(b"-m") + 1].decode()
        return found

    return look


@pytest.fixture
def mlflow_server(live_server: ModuleType, tmp_path: Path) -> Iterator[MlflowServer]:
    """An MLflow server that is down until it is started."""
    made = MlflowServer(live_server.free_port(), tmp_path / "mlflow")
    yield made
    made.kill()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something holds; fails the test after a while."""

    def wait(condition: Callable[[], object], seconds: float = 60.0, what: str = "it") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
            time.sleep(0.1)

    return wait


@pytest.fixture
def play(market: Market) -> Callable[..., list[Any]]:
    """Predict the next rows of the market and send their truths; returns the predictions."""

    def run(client: Any, count: int, batch: int = 20) -> list[Any]:
        answers: list[Any] = []
        for _ in range(0, count, batch):
            rows, truths = market.rows(batch)
            served = client.predict("market", rows)
            receipt = client.label("market", dict(zip(served.ids, truths, strict=True)))
            assert receipt.accepted == batch
            answers += served
        return answers

    return run
