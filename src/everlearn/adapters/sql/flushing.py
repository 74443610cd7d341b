"""Putting on disk soon what was committed without waiting for the disk (SQLite, ``synchronous=NORMAL``).

A commit hands its pages to the operating system, which keeps them whatever becomes of the process. A thread
then asks for them to be put on disk, so that a power cut takes away no more than the last moment; what is
left is a whole, earlier state of the database.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from loguru import logger

# Not when a file was last written, which is nothing to wait for, but its bytes and its size.
_sync = getattr(os, "fdatasync", os.fsync)

EVERY = 0.05
"""Seconds between two flushes while there is something to flush."""


class Flusher:
    """Flushes the write-ahead log of a database file from a thread of its own, begun by the first commit."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(f"{database.name}-wal")
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def committed(self) -> None:
        """Something was committed."""
        if self._dirty.is_set():
            return
        self._dirty.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closed.is_set():
                    self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Flush what is left, and stop."""
        self._closed.set()
        self._dirty.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._closed.wait(EVERY)
            self._dirty.clear()
            try:
                flush(self._wal)
            except OSError as error:
                logger.warning("{} could not be flushed: {}", self._wal.name, error)


def flush(file: Path) -> None:
    """Put a file on disk; one that is not there has nothing to put."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
