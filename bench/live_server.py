"""A server of one's own for a benchmark: ``everlearn up`` in a folder, killed and started at will."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from everlearn.client import Client, Retries, Retry
from everlearn.errors import EverlearnError

READY_SECONDS = 600.0
PATIENT = Retries(attempts=600, base=0.05, longest=0.25)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and all that descend from it, by ``/proc`` (Linux)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == member]
    return found


class LiveServer:
    """``everlearn up`` with its own key and port. Use as a context manager; it stops at the end.

    What the server says goes to ``<data>.log`` beside its data folder.
    """

    def __init__(self, data: Path, *, mlflow: bool = True, workers: int = 1) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = secrets.token_urlsafe(32)
        self.log = data.with_suffix(".log")
        self._mlflow = mlflow
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started, whose children serve and work."""
        assert self._process is not None
        return self._process.pid

    def client(self, on_retry: Callable[[Retry], None] | None = None) -> Client:
        """A client that waits while the server is started again."""
        return Client(self.url, self.key, retries=PATIENT, on_retry=on_retry)

    def start(self) -> None:
        """Start it and wait until it is ready. Raises RuntimeError with the end of its log."""
        command = [
            sys.executable,
            "-m",
            "everlearn",
            "up",
            "--port",
            str(self.port),
            "--data",
            str(self.data),
            "--no-dashboard",
        ]
        if not self._mlflow:
            command.append("--no-mlflow")
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        environment = {**os.environ, "EVERLEARN_API_KEY": self.key}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + READY_SECONDS
        with Client(self.url, self.key, retries=Retries(attempts=1)) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if client.ready()["status"] == "ready":
                        return
                except (EverlearnError, ValueError):
                    pass
                time.sleep(0.1)
        raise RuntimeError(f"the server did not get ready:\n{self.tail()}")

    def kill(self) -> int:
        """``kill -9`` every process of it at once; returns how many there were."""
        assert self._process is not None
        members = family(self._process.pid)
        for member in members:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        return len(members)

    def stop(self) -> None:
        """Stop it cleanly; what does not stop is killed."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self, lines: int = 15) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> LiveServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def count_first(retried: list[str]) -> Callable[[Retry], None]:
    """A callback for ``on_retry`` that notes each write that needed more than one attempt."""

    def note(retry: Retry) -> None:
        if retry.attempt == 1 and retry.method == "POST":
            retried.append(retry.path)

    return note
