"""A real MLflow server that is down, comes up, dies in the middle, and comes back: the mirror catches up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow")
httpx = pytest.importorskip("httpx")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Server:
    """``mlflow server`` on one port, as often as wanted."""

    def __init__(self, port: int, folder: Path, store: str) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "served")]
        self._command += ["--workers", "1"]
        self._log = folder / "server.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=environment,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if httpx.get(f"{self.uri}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        pytest.fail(f"mlflow server did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill -9 the server and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(free_port: int, tmp_path: Path, uri: str) -> Iterator[Server]:
    made = Server(free_port, tmp_path, uri)
    yield made
    made.kill()


def test_the_mirror_catches_up_whenever_the_server_dies(world: Any, server: Server) -> None:
    send = world.dispatcher(world.registry(server.uri)).run_once
    outbox = world.store.outbox
    for number in (1, 2, 3):
        world.train(number)
        world.promote(number)
    assert send() == 0
    assert outbox.waiting("registry") == 7

    server.start()
    world.clock.advance(60.0)
    taken = outbox.take("registry", 3, world.clock.now())
    registry = world.registry(server.uri)
    for message in taken:
        registry.mirror(message.body)
        outbox.done(message)
    server.kill()
    assert send() == 0
    world.promote(1)

    server.start()
    world.clock.advance(60.0)
    while outbox.waiting("registry"):
        assert send() > 0
    client = mlflow.MlflowClient(server.uri, server.uri)
    versions = client.search_model_versions("name = 'spam'")
    by_number = {int(version.tags["everlearn.version"]): version for version in versions}
    assert sorted(by_number) == [1, 2, 3]
    assert len(versions) == 3
    for number, version in by_number.items():
        assert version.tags["everlearn.digest"] == world.store.versions.get("spam", number).digest
    champion = client.get_model_version_by_alias("spam", "champion")
    assert champion.tags["everlearn.version"] == str(world.store.versions.champion("spam").version) == "1"
    assert champion.tags["everlearn.term"] == "4"
    local = client.download_artifacts(champion.run_id, "model")
    digest = champion.tags["everlearn.digest"]
    assert (Path(local) / "data" / digest / "manifest.json").exists()
