"""New champions announced by PostgreSQL as they are committed (NOTIFY), to whoever listens (LISTEN).

A transaction that notifies takes a lock of the whole server when it commits, so only what is rare is
announced: a promotion, and never an append. An announcement may be missed while the connection is lost, so
those who listen go on polling, at leisure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from loguru import logger
from sqlalchemy import Connection, text

from everlearn.adapters.sql.database import Database
from everlearn.errors import UnavailableError

CHANNEL = "everlearn_champions"
LOOK_SECONDS = 0.5
"""How long a listener waits at a time: it notices within that time that it is to stop."""

AGAIN_SECONDS = 1.0
"""Seconds between two attempts to connect."""


def announce(connection: Connection, model: str) -> None:
    """Announce a model's new champion when the transaction commits; does nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, :model)"), {"channel": CHANNEL, "model": model})


class PostgresAnnouncements:
    """:class:`everlearn.ports.Announcements` over a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connected = threading.Event()

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._connected.is_set()

    def follow(self, heard: Callable[[], None], stop: threading.Event) -> None:
        """See the port."""
        lost = False
        while not stop.is_set():
            try:
                self._listen(heard, stop)
            except Exception as error:
                if not lost:
                    logger.warning("New champions are polled for until they are announced again: {}", error)
                lost = True
            else:
                lost = False
            stop.wait(AGAIN_SECONDS)

    def _listen(self, heard: Callable[[], None], stop: threading.Event) -> None:
        pooled = self._database.engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()  # it is not lent to anyone else
        try:
            driver.rollback()
            driver.autocommit = True
            driver.execute(f"LISTEN {CHANNEL}")
            self._connected.set()
            heard()  # of what was announced before
            while not stop.is_set():
                if any(True for _ in driver.notifies(timeout=LOOK_SECONDS, stop_after=1)):
                    heard()
                if driver.closed:
                    raise UnavailableError("the connection is lost")
        finally:
            self._connected.clear()
            driver.close()
