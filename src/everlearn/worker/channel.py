"""Messages between a worker and the process that does its jobs: JSON objects, one a line, over a socket."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from everlearn.adapters.sql.codec import from_json, to_json

CHUNK = 1 << 16


class Channel:
    """One end. Floats come back exactly; NaN and infinities become ``None``, as they do in the database."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._read = bytearray()

    def send(self, message: Any) -> None:
        """Send a message; raises OSError when nobody is there any more."""
        self._end.sendall(to_json(message).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> Any:
        """The next message; ``None`` if none comes in time. Raises EOFError at the end."""
        until = None if seconds is None else time.monotonic() + seconds
        looked = 0
        while (place := self._read.find(b"\n", looked)) < 0:
            looked = len(self._read)
            left = None if until is None else max(until - time.monotonic(), 0.0)
            if not select.select([self._end], [], [], left)[0]:
                return None
            try:
                data = self._end.recv(CHUNK)
            except ConnectionError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            self._read += data
        line = bytes(self._read[:place])
        del self._read[: place + 1]
        return from_json(line.decode())

    def close(self) -> None:
        """Hang up."""
        self._end.close()
