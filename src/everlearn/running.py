"""The one running server of a data folder: its lock, its socket, and the note of where it answers."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from everlearn.errors import ConflictError, InvalidError
from everlearn.processes import pid_lives

RELEASE_SECONDS = 6.0
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server of a data folder answers, and its dashboard if it has one."""

    url: str
    pid: int
    started_at: float
    dashboard: str | None = None


class DataLock:
    """Holds a data folder for this process; the kernel lets go of it however the process ends.

    Raises ConflictError on entry when another process holds it, InvalidError where it cannot be written.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file: IO[str] | None = None

    def __enter__(self) -> DataLock:
        import fcntl

        try:
            file = (self._data / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise unusable_folder(self._data, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ConflictError(self._taken()) from None
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _taken(self) -> str:
        server = read_server(self._data)
        where = f" at {server.url} (process {server.pid})" if server else ""
        return (
            f"everlearn is running on {self._data} already{where}: use it, stop it, "
            "or start another with --data OTHER_FOLDER"
        )


def unusable_folder(data: Path, error: OSError) -> InvalidError:
    """The error for a data folder that cannot be written."""
    return InvalidError(
        f"The data folder {data} cannot be used ({error.strerror or error}): "
        "make it a folder that you can write to, or name another with --data"
    )


def is_locked(data: Path) -> bool:
    """Whether a server runs on this data folder; changes nothing."""
    import fcntl

    try:
        with (data / "lock").open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def bind(host: str, port: int, data: Path, option: str = "--port") -> socket.socket:
    """A listening socket. Raises ConflictError when the port is in use, InvalidError for a bad address.

    ``option`` is what the errors tell people to use.

    When the port is still held by what a killed supervisor of the same data folder left, waits for
    those processes to end.
    """
    before = read_server(data)
    held = [] if before is None else [url for url in (before.url, before.dashboard) if url is not None]
    leftovers = (
        before is not None and any(url.endswith(f":{port}") for url in held) and not pid_lives(before.pid)
    )
    deadline = time.monotonic() + (RELEASE_SECONDS if leftovers else 0.0)
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidError(
                    f"Cannot listen on {host} port {port}: {error.strerror or error}; "
                    f"use another {option.replace('port', 'host')} or {option}"
                ) from None
            if time.monotonic() >= deadline:
                raise ConflictError(
                    f"Port {port} on {host} is in use by another program: stop it, or use {option} {port + 1}"
                ) from None
        time.sleep(0.1)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def url_of(listener: socket.socket) -> str:
    """The URL at which a local caller reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def record_server(data: Path, url: str, dashboard: str | None = None) -> None:
    """Note where this process's server answers, for other commands on the same folder."""
    draft = data / f".server-{os.getpid()}.json"
    note = {"url": url, "pid": os.getpid(), "started_at": time.time(), "dashboard": dashboard}
    draft.write_text(json.dumps(note) + "\n", encoding="utf-8")
    draft.replace(data / "server.json")


def forget_server(data: Path) -> None:
    """Remove the note, if it is of this process."""
    server = read_server(data)
    if server is not None and server.pid == os.getpid():
        (data / "server.json").unlink(missing_ok=True)


def read_server(data: Path) -> Server | None:
    """Where the server of a data folder answers, or answered; ``None`` without a (readable) note."""
    try:
        note: dict[str, Any] = json.loads((data / "server.json").read_text(encoding="utf-8"))
        dashboard = note.get("dashboard")
        told = None if dashboard is None else str(dashboard)
        return Server(str(note["url"]), int(note["pid"]), float(note["started_at"]), told)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_ready(url: str, seconds: float = 2.0) -> bool:
    """Whether the API at a URL says that it is ready."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    try:
        connection.request("GET", "/v1/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
