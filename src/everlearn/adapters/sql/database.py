"""One database: an engine a process, and two kinds of transaction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, Row, select
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from everlearn.adapters.rules import unknown_model
from everlearn.adapters.sql import dialects, direct, tables
from everlearn.adapters.sql.flushing import Flusher
from everlearn.errors import UnavailableError

_DOWN = (OperationalError, InterfaceError, ProgrammingError, PoolTimeoutError)
_BY_NAME = select(tables.models)


class Database:
    """Where transactions come from. The engine is made at first use, and anew after a fork."""

    def __init__(self, url: str, synchronous: dialects.Synchronous = "FULL") -> None:
        self.url = dialects.parse_url(url)
        self._synchronous = synchronous
        self._engine: Engine | None = None
        self._appending: PoolProxiedConnection | None = None
        self._flusher: Flusher | None = None
        self._pid = 0
        self._lock = Lock()
        self._append_lock = Lock()

    @property
    def name(self) -> str:
        """Where the database is, without password."""
        return self.url.set(drivername=self.url.get_backend_name()).render_as_string(hide_password=True)

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        engine = self._engine
        if engine is not None and self._pid == os.getpid():
            return engine
        with self._lock:
            return self._renewed()

    def _renewed(self) -> Engine:
        if self._engine is not None and self._pid != os.getpid():
            # The parent's connections are the parent's to close.
            self._engine.dispose(close=False)
            self._engine = self._appending = self._flusher = None
            self._append_lock = Lock()
        if self._engine is None:
            self._engine = dialects.make_engine(self.url, self._synchronous)
            self._pid = os.getpid()
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and waits for no writer."""
        with _explained(), dialects.open_connection(self.engine, write=False) as connection:
            yield connection

    @contextmanager
    def write(self, *, flush: bool = False) -> Iterator[Connection]:
        """A transaction that is durable when the block ends, and undone if it raises.

        With ``flush`` it is on disk, too, whatever SQLite's ``synchronous`` is otherwise.
        """
        with _explained(), dialects.open_connection(self.engine, write=True, flush=flush) as connection:
            yield connection
            connection.commit()
        self._committed(flush)

    @contextmanager
    def append(self, *, flush: bool = False) -> Iterator[direct.ThroughDriver]:
        """:meth:`write` on SQLite for what requests wait for: one connection that is kept.

        One transaction at a time; there is never more than one writer anyway.
        """
        engine = self.engine
        with self._append_lock, _explained():
            if self._appending is None:
                self._appending = engine.raw_connection()
                dialects.prepare_appending(self._appending)
            driver: Any = self._appending.driver_connection
            try:
                with direct.as_sqlalchemy("BEGIN"):
                    dialects.begin_append(driver, flush=flush or self._synchronous == "FULL")
                yield direct.ThroughDriver(driver)
                with direct.as_sqlalchemy("COMMIT"):
                    driver.commit()
            except BaseException:
                self._appending.invalidate()
                self._appending = None
                raise
        self._committed(flush)

    @property
    def appends_directly(self) -> bool:
        """Whether :meth:`append` is for this database."""
        return self.url.get_backend_name() == "sqlite"

    def _committed(self, flush: bool) -> None:
        if flush or self._synchronous == "FULL" or not self.appends_directly:
            return
        if self._flusher is None:
            with self._lock:
                self._flusher = self._flusher or Flusher(Path(self.url.database or ""))
        self._flusher.committed()

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        with self._append_lock, self._lock:
            if self._engine is not None and self._pid == os.getpid():
                if self._flusher is not None:
                    self._flusher.close()
                if self._appending is not None:
                    self._appending.close()
                self._engine.dispose()
            self._engine = self._appending = self._flusher = None


@contextmanager
def _explained() -> Iterator[None]:
    """The driver's way to say that the database is down, in our words."""
    try:
        yield
    except IntegrityError:
        raise
    except _DOWN as error:
        why = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        problem, mend = dialects.trouble(error) or ("does not answer", "see that it runs and is migrated")
        raise UnavailableError(f"The database {problem} ({why.strip()}): {mend}.") from error
    except DatabaseError as error:
        if (trouble := dialects.trouble(error)) is None:
            raise
        raise UnavailableError(f"The database {trouble[0]} ({error.orig}): {trouble[1]}.") from error


def model_row(connection: Connection, name: str) -> Row[Any]:
    """A model's row in ``models``; raises NotFoundError."""
    row = connection.execute(_BY_NAME.where(tables.models.c.name == name)).one_or_none()
    if row is None:
        raise unknown_model(name)
    return row


def locked_model_row(connection: Connection, name: str) -> Row[Any]:
    """The same, held until the transaction ends: the first statement of each that changes a model."""
    query = _BY_NAME.where(tables.models.c.name == name).with_for_update(key_share=True)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise unknown_model(name)
    return row


def model_id(connection: Connection, name: str) -> int:
    """A model's id; raises NotFoundError."""
    found = connection.scalar(select(tables.models.c.id).where(tables.models.c.name == name))
    if found is None:
        raise unknown_model(name)
    return int(found)
