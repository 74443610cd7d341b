"""A real Uptime Kuma on this machine, where one is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

USER, PASSWORD = "ann", "four-short-words-99"


@dataclass
class Kuma:
    """A running server, and who may log in."""

    url: str
    user: str = USER
    password: str = PASSWORD


def package(miss: Callable[[str], Never]) -> Path:
    """The folder of the server's package."""
    default = Path.home() / ".cache" / "everlearn" / "uptime-kuma"
    folder = Path(os.environ.get("UPTIME_KUMA_FOLDER") or default)
    found = folder / "node_modules" / "uptime-kuma"
    if os.environ.get("UPTIME_KUMA_FOLDER") == "none":
        pytest.skip("Uptime Kuma could not be had: test_protocol.py holds what is known of its protocol")
    if not (found / "server" / "server.js").is_file() or shutil.which("node") is None:
        miss(f"no Uptime Kuma in {folder}: npm install --prefix {folder} uptime-kuma@2.0.0-dev.0")
    for script in (found / "db").glob("*.sql"):  # its package has them in the wrong folder
        if not (found / "db" / "old_migrations" / script.name).exists():
            shutil.copy(script, found / "db" / "old_migrations")
    return found


@pytest.fixture
def kuma(tmp_path: Path, miss: Callable[[str], Never]) -> Iterator[Kuma]:
    """A server with one user and no monitors."""
    folder = package(miss)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    data = tmp_path / "kuma"
    data.mkdir()
    environment = {
        **os.environ, "UPTIME_KUMA_DB_TYPE": "sqlite", "DATA_DIR": f"{data}/", "NODE_ENV": "production"
    }  # fmt: skip
    command = ["node", "server/server.js", f"--port={port}", "--host=127.0.0.1"]
    with (tmp_path / "kuma.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        await_port(port, process, tmp_path / "kuma.log")
        set_up(f"http://127.0.0.1:{port}")
        yield Kuma(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


def set_up(url: str) -> None:
    """Make the first user, as the set-up page does."""
    import socketio

    client: Any = socketio.Client(reconnection=False)
    client.connect(url, wait_timeout=20)
    assert client.call("setup", (USER, PASSWORD), timeout=20)["ok"]
    client.disconnect()
