"""An installation as one set of manifests states it, started on this machine with other addresses."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import box
import httpx
import stated


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(url: str, **headers: str) -> int:
    """The status with which a URL answers; 0 if it does not."""
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, headers=headers).status_code
    return 0


@dataclass
class Site:
    """Stated processes on this machine. ``addresses`` replace variables and words of commands."""

    processes: Mapping[str, stated.Process]
    boxes: box.Box
    folder: Path
    addresses: Mapping[str, str]
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    started: dict[str, box.Boxed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        uid, gid = map(int, self.boxes.user.split(":"))
        password, signing = secrets.token_urlsafe(12), secrets.token_urlsafe(32)
        given = {"api-key": self.api_key, "token-secret": signing, "database-password": password}
        for name, value in given.items():
            path = self.folder / name
            path.write_text(f"{value}\n")
            path.chmod(0o440)
            os.chown(path, 0, gid)  # as a pod's group gets them; a compose file's may be read by all
        for name in ("artifacts", "mlflow"):
            (self.folder / name).mkdir(mode=0o770)
            os.chown(self.folder / name, uid, gid)

    def start(self, name: str, copy: str = "1", argv: Sequence[str] = (), **addresses: str) -> box.Boxed:
        """Start a process; ``addresses`` are this copy's own, ``argv`` is run in place of its command."""
        process = self.processes[name]
        changes = {**self.addresses, **addresses}
        environment = {key: changes.get(key, value) for key, value in process.environment.items()}
        places = {path: self._source(source) for path, source in process.mounts.items()}
        command = [changes.get(word, word) for word in argv or process.argv]
        log = self.folder / f"{name.replace('/', '-')}-{copy}.log"
        self.started[log.stem] = self.boxes.start(command, environment, places, process.read_only, log)
        return self.started[log.stem]

    def run(self, name: str, copy: str = "1", argv: Sequence[str] = (), **addresses: str) -> None:
        """Run a process to its good end."""
        boxed = self.start(name, copy, argv, **addresses)
        assert boxed.process.wait(60) == 0, boxed.said()

    def until(self, condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
        """Wait until something holds, while everything runs that was started and has not ended well."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [name for name, one in self.started.items() if one.process.poll() not in (None, 0)]
            assert not ended, f"{ended} ended\n{self.said()}"
            assert time.monotonic() < deadline, f"{what} did not happen\n{self.said()}"
            time.sleep(0.2)

    def said(self) -> str:
        """The end of all logs."""
        return "\n".join(f"== {name}\n{boxed.said()}" for name, boxed in self.started.items())

    def stop(self) -> None:
        """Stop everything that runs as an engine would: nothing is killed, nothing ends badly."""
        for name, boxed in self.started.items():
            if boxed.lives():
                code, seconds = boxed.stop()
                assert code == 0, f"{name} ended with {code}\n{boxed.said()}"
                assert seconds < 10, f"{name} took {seconds:.1f} s to stop"

    def _source(self, source: str) -> Path | None:
        kind, _, name = source.partition("/")
        return None if kind == "tmp" else self.folder / name.replace("_", "-")
