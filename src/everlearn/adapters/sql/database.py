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
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from everlearn.adapters.rules import unknown_model
from everlearn.adapters.sql import dialects, direct, direct_postgres, tables
from everlearn.adapters.sql.flushing import Flusher
from everlearn.errors import InvalidError, UnavailableError

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
        self._parents: list[Any] = []
        self._pid = 0
        self._lock = Lock()
        self._append_lock = Lock()

    @property
    def name(self) -> str:
        """Where the database is, without password."""
        plain = self.url.set(drivername=self.url.get_backend_name(), query={})
        return plain.render_as_string(hide_password=True)

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
            # The parent's connections are the parent's to close: here they are kept, so that nobody does.
            self._parents.append((self._engine, self._appending))
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
    def append(self, *, flush: bool = False) -> Iterator[direct.Driver]:
        """:meth:`write` for what requests wait for: straight to the driver."""
        how = self._append_sqlite if self.is_sqlite else self._append_postgres
        with how(flush) as driver:
            yield driver

    @contextmanager
    def _append_postgres(self, flush: bool) -> Iterator[direct.Driver]:
        with _explained():
            with direct.as_sqlalchemy("CONNECT"):
                pooled = self.engine.raw_connection()
            try:
                driver: Any = pooled.driver_connection
                with direct.as_sqlalchemy("COMMIT"):
                    if flush:
                        driver.execute(direct_postgres.FLUSH)
                    yield direct_postgres.ThroughPsycopg(driver)
                    driver.commit()
            finally:
                pooled.close()  # which rolls back what is not committed

    @contextmanager
    def _append_sqlite(self, flush: bool) -> Iterator[direct.Driver]:
        """One transaction at a time, on one connection that is kept: there is never more than one writer."""
        engine = self.engine
        with self._append_lock, _explained():
            if self._appending is None:
                with direct.as_sqlalchemy("CONNECT"):
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
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite's."""
        return self.url.get_backend_name() == "sqlite"

    def _committed(self, flush: bool) -> None:
        if flush or self._synchronous == "FULL" or not self.is_sqlite:
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
        why = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        problem, mend = dialects.trouble(error) or ("does not answer", "see that it runs and is migrated")
        raise UnavailableError(f"The database {problem} ({why}): {mend}.") from error
    except DataError as error:
        if (message := dialects.unstorable(error)) is None:
            raise
        raise InvalidError(message) from error
    except DatabaseError as error:
        if (trouble := dialects.trouble(error)) is None:
            raise
        raise UnavailableError(f"The database {trouble[0]} ({error.orig}): {trouble[1]}.") from error


def statements_of(connection: Connection) -> direct.Statements:
    """How to append inside a transaction of SQLAlchemy's."""
    if connection.dialect.name == "postgresql":
        return direct_postgres.ThroughPsycopg(connection.connection.driver_connection)
    return direct.ThroughSqlalchemy(connection)


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
