"""``everlearn up``: real processes that start, come back when killed, and stop together."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from everlearn.children import Child, Part
from everlearn.processes import pid_lives

SECONDS = 60.0


class Up:
    """A running ``everlearn up --json`` and what it says."""

    def __init__(self, data: Path, *arguments: str, port: int = 0) -> None:
        self.data = data
        command = [
            sys.executable,
            "-m",
            "everlearn",
            "up",
            "--json",
            "--data",
            str(data),
            "--port",
            str(port),
        ]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._listen, self._complain)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))

    def _complain(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def hears(self, event: str) -> dict[str, Any]:
        """Wait until it says this."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"never said {event!r}: {''.join(self.errors)[-2000:]}") from None
            if said["event"] == event:
                return said

    def children(self) -> dict[str, int]:
        """The processes it runs now, by module."""
        found = {}
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in task.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"-m" in command:
                found[command[command.index(b"-m") + 1].decode() + f":{len(found)}"] = int(pid)
        return found

    def pid_of(self, module: str) -> int:
        return next(pid for name, pid in self.children().items() if name.startswith(module))

    def ask(self, url: str, key: str | None = None) -> int:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)

    def end(self) -> int:
        """Stop it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()
            for thread in self._threads:
                thread.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, **rest: Any) -> Up:
        made = Up(tmp_path / "data", "--no-mlflow", *arguments, **rest)
        started.append(made)
        return made

    yield start
    for each in started:
        each.end()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
@linux
def test_it_starts_serves_and_stops_cleanly(up: Callable[..., Up]) -> None:
    server = up()
    key = server.hears("key")
    assert len(server.hears("admin")["invite"]) == 47
    url = server.hears("ready")["url"]
    assert (server.data / "key").read_text().strip() == key["key"]
    assert stat.S_IMODE((server.data / "key").stat().st_mode) == 0o600
    assert server.ask(f"{url}/health") == 200
    assert server.ask(f"{url}/v1/models", key["key"]) == 200
    assert stat.S_IMODE((server.data / "token-secret").stat().st_mode) == 0o600
    assert json.loads((server.data / "server.json").read_text())["url"] == url
    children = list(server.children().values())
    assert len(children) == 3
    began = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - began < 6
    assert not any(map(pid_lives, children))
    assert not (server.data / "server.json").exists()

    again = up()
    assert "key" not in again.hears("key")  # shown once
    again.hears("ready")


@pytest.mark.slow
@linux
def test_a_killed_process_comes_back_and_no_caller_is_refused(up: Callable[..., Up]) -> None:
    server = up()
    url = server.hears("ready")["url"]
    failures: list[Exception] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                server.ask(f"{url}/health")
            except Exception as error:
                failures.append(error)
            time.sleep(0.02)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for module in ("everlearn.worker", "everlearn.api.serve", "everlearn.scheduler"):
            os.kill(server.pid_of(module), signal.SIGKILL)
            said = server.hears("restart")
            assert "SIGKILL" in said["text"]
        until(lambda: len(server.children()) == 3)
        assert server.ask(f"{url}/health") == 200
    finally:
        over.set()
        caller.join(60)
    # A request that the killed process had taken up breaks off; a new connection is never refused.
    assert not [error for error in failures if "refused" in str(error)]
    assert len(failures) <= 1


@pytest.mark.slow
@linux
def test_children_die_with_a_killed_supervisor_and_the_next_starts_at_once(up: Callable[..., Up]) -> None:
    server = up()
    url = server.hears("ready")["url"]
    children = list(server.children().values())
    server.process.kill()
    again = up(port=int(url.rpartition(":")[2]))  # the same port, at once
    assert again.hears("ready")["url"] == url
    until(lambda: not any(map(pid_lives, children)))


@pytest.mark.slow
def test_a_second_one_on_the_same_folder_is_refused_in_one_line(up: Callable[..., Up]) -> None:
    server = up()
    url = server.hears("ready")["url"]
    second = up()
    assert second.process.wait(30) == 1
    second.end()
    assert len(second.errors) == 1
    assert url in second.errors[0]
    assert "--data" in second.errors[0]


@pytest.mark.slow
def test_a_port_in_use_is_one_readable_line(up: Callable[..., Up], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = up(port=port)
        assert server.process.wait(30) == 1
    server.end()
    assert server.errors == [
        f"error: Port {port} on 127.0.0.1 is in use by another program: stop it, or use --port {port + 1}\n"
    ]


@pytest.mark.slow
@linux
def test_several_api_processes_share_the_port(up: Callable[..., Up]) -> None:
    server = up("--workers", "2")
    key = server.hears("key")["key"]
    url = server.hears("ready")["url"]
    apis = [pid for name, pid in server.children().items() if name.startswith("everlearn.api.serve")]
    assert len(apis) == 2
    assert all(server.ask(f"{url}/health") == 200 for _ in range(10))
    assert server.ask(f"{url}/metrics", key) == 200


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    (tmp_path / "it_fails.py").write_text("raise SystemExit(3)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return Child(Part("part", "it_fails"), environment, None, None)


def test_a_part_that_keeps_dying_is_started_ever_more_slowly(failing: Child) -> None:
    pauses = []
    for _ in range(4):
        failing.start()
        assert failing.wait(30)
        text = failing.died()
        assert text is not None
        assert "exit code 3" in text
        pauses.append(round(failing.due - time.monotonic(), 1))
        assert failing.died() is None  # told once
    assert pauses == [0.0, 0.5, 1.0, 2.0]


def test_signals_to_what_has_ended_are_harmless(failing: Child) -> None:
    failing.signal(signal.SIGTERM)
    assert failing.wait(0.0)
    failing.start()
    assert failing.wait(30)
    failing.signal(signal.SIGTERM)
