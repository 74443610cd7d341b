"""One API process as the supervisor runs it: on a socket handed over, until it or its parent ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from everlearn.wiring import Installation

pytestmark = pytest.mark.slow

KEY = "a-key-for-the-tests-of-serve"
SPEC = {"name": "toy", "target": "y", "features": {"a": "numeric"}, "learner": "majority"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    installation = Installation.load(data=tmp_path / "data")
    installation.prepare()
    installation.migrate()
    installation.close()
    return {**os.environ, "EVERLEARN_DATA": str(tmp_path / "data"), "EVERLEARN_API_KEY": KEY}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.set_inheritable(True)
        yield made


def start(environment: dict[str, str], listener: socket.socket) -> subprocess.Popen[bytes]:
    fd = listener.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", "everlearn.api.serve"],
        env={**environment, "EVERLEARN_LISTEN_FD": str(fd)},
        pass_fds=[fd],
        stderr=subprocess.PIPE,
    )


def client(listener: socket.socket) -> httpx.Client:
    url = "http://{}:{}".format(*listener.getsockname())
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


def test_a_restarted_process_loses_nothing_that_was_acknowledged(
    environment: dict[str, str], listener: socket.socket
) -> None:
    first = start(environment, listener)
    with client(listener) as http:
        assert http.post("/v1/models", json=SPEC).status_code == 201
        asked = http.post("/v1/models/toy/predict", json={"rows": [{"a": 1}], "ids": ["p"]})
        assert asked.status_code == 200
    first.kill()
    first.communicate()

    second = start(environment, listener)
    with client(listener) as http:  # connects at once: the socket outlives its process
        assert http.get("/v1/models/toy/predictions/p").json()["features"] == {"a": 1}
        assert http.post("/v1/models/toy/predict", json={"rows": [{"a": 2}], "ids": ["p"]}).status_code == 409
    started = time.monotonic()
    second.send_signal(signal.SIGTERM)
    _, log = second.communicate(timeout=20)
    assert time.monotonic() - started < 6
    assert b"GET /v1/models/{model}/predictions/{prediction_id} 200" in log
    assert b"Traceback" not in log


PARENT = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-m", "everlearn.api.serve"],
    pass_fds=[int(os.environ["EVERLEARN_LISTEN_FD"])],
    env={**os.environ, "EVERLEARN_PARENT_PID": str(os.getpid())},
)
print(child.pid, flush=True)
child.wait()
"""


def test_it_ends_when_its_parent_is_killed(environment: dict[str, str], listener: socket.socket) -> None:
    fd = listener.fileno()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**environment, "EVERLEARN_LISTEN_FD": str(fd)},
        pass_fds=[fd],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    with client(listener) as http:
        assert http.get("/health").status_code == 200
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{child}/cmdline").is_file():
        if not Path(f"/proc/{child}/cmdline").read_bytes():
            break  # a zombie that nobody has collected yet
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()
