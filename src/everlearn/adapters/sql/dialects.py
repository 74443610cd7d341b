"""All that differs between databases: how to connect, to begin, to wait for a lock.

SQLite runs in WAL mode. The driver's own transaction handling is off; reading transactions begin with
``BEGIN`` and hold no lock that a writer waits for, writing ones with ``BEGIN IMMEDIATE``, so that a
transaction which reads before it writes never fails half-way. One that finds the database locked for
longer than SQLite's busy time-out begins again, with jitter.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.sql.schema import Table

from everlearn.errors import Fault, InvalidError, UnavailableError

Synchronous = Literal["FULL", "NORMAL"]

APPLICATION = "everlearn"
"""What connections to PostgreSQL say that they are of."""

NEVER_REUSED: dict[str, Any] = {"sqlite_autoincrement": True}
"""Table options under which the ids of deleted rows do not come back."""

BUSY_SECONDS = 30.0
"""How long SQLite waits for a lock before a transaction begins again."""

BEGIN_ATTEMPTS = 4
"""How often a transaction begins before it gives up on a locked database."""

APPENDING_CHECKPOINT = 16_384
"""Pages of the write-ahead log from which on an append clears it away, should nobody else do so."""

APPENDING_LOOK = 0.0002
"""Seconds after which an append looks again whether another process has let go of the database."""

_WRITE = "everlearn_write"
_FLUSH = "flush"
_MIGRATION_LOCK = 7_366_198_045_117
_PRAGMAS = (
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-32768",
    "PRAGMA mmap_size=268435456",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)

_DAMAGED = ("is damaged", "stop everlearn and restore it from the backup")
_UNWRITABLE = (
    "cannot be opened or written",
    "see that its folder can be written, and that the disk is sound",
)
_TROUBLES = {
    sqlite3.SQLITE_FULL: ("has no room", "free some space on its disk"),
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_IOERR: _UNWRITABLE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}

_OUT_OF_RANGE = "22003"

T = TypeVar("T")


def parse_url(value: str) -> URL:
    """A database URL, with the drivers that everlearn uses; raises InvalidError."""
    try:
        url = make_url(value)
    except ArgumentError:
        raise _wrong_url("it cannot be read") from None
    name = url.get_backend_name()
    if name == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise _wrong_url("SQLite needs a file, such as sqlite:///data/everlearn.db")
        return url.set(drivername="sqlite+pysqlite")
    if name in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise _wrong_url(f"{name} is not supported")


def _wrong_url(why: str) -> InvalidError:
    message = f"{why}: write sqlite:///PATH or postgresql://USER@HOST/NAME"
    return InvalidError(f"database url: {message}", [Fault("database url", message)])


def make_engine(url: URL, synchronous: Synchronous) -> Engine:
    """An engine and its pool; nothing is connected yet."""
    if url.get_backend_name() != "sqlite":
        if find_spec("psycopg") is None:
            raise UnavailableError("PostgreSQL needs an extra: pip install 'everlearn[postgres]'")
        if "application_name" not in url.query:
            url = url.update_query_dict({"application_name": APPLICATION})
        engine = create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15)
        event.listen(engine, "connect", _join_by_key)
        return engine
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, connect_args=arguments, pool_size=5, max_overflow=45)

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        # The change to WAL does not wait for other connections, so it is tried again here.
        patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
        for pragma in (*_PRAGMAS, f"PRAGMA synchronous={synchronous}"):
            connection.execute(pragma).close()

    usual = f"PRAGMA synchronous={synchronous}"

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        how = connection.get_execution_options().get(_WRITE)
        if how:
            driver: Any = connection.connection.driver_connection
            if how == _FLUSH or synchronous == "NORMAL":  # it cannot be changed within a transaction
                driver.execute("PRAGMA synchronous=FULL" if how == _FLUSH else usual).close()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            # Takes the snapshot now, where a database under recovery can still be waited for.
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()

    return engine


def _join_by_key(connection: Any, _record: object) -> None:
    """Have PostgreSQL follow references row by row, as every join here is meant.

    For a log of millions the planner otherwise takes it for cheaper to read and hash the whole of it than to
    look up what a thousand events refer to: seconds instead of milliseconds a step.
    """
    connection.execute("SET enable_hashjoin TO off")
    connection.execute("SET enable_mergejoin TO off")
    connection.commit()


def open_connection(engine: Engine, *, write: bool, flush: bool = False) -> Connection:
    """A connection with a transaction begun, to be committed or closed by the caller.

    With ``flush`` SQLite's commit returns when the transaction is on disk.
    """

    def attempt() -> Connection:
        connection = engine.connect()
        try:
            if write:
                connection = connection.execution_options(**{_WRITE: _FLUSH if flush else True})
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    return patiently(attempt)


def prepare_appending(connection: PoolProxiedConnection) -> None:
    """Leave checkpoints of the write-ahead log to the processes in the background while it is small."""
    driver: Any = connection.driver_connection
    driver.execute(f"PRAGMA wal_autocheckpoint={APPENDING_CHECKPOINT}").close()
    # SQLite's own way to wait looks again after 1, 2, 5, 10 ms and more: see begin_append.
    driver.execute("PRAGMA busy_timeout=0").close()


def begin_append(driver: sqlite3.Connection, *, flush: bool) -> None:
    """Begin to write on SQLite's own connection, durably as asked."""
    driver.execute("PRAGMA synchronous=FULL" if flush else "PRAGMA synchronous=NORMAL").close()
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE").close()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(APPENDING_LOOK)
        else:
            return


def patiently(attempt: Callable[[], T]) -> T:
    """Try again, after a random wait, what failed because the database was locked."""
    for tries in range(1, BEGIN_ATTEMPTS):
        try:
            return attempt()
        except (sqlite3.OperationalError, DBAPIError) as error:
            if not is_busy(error):
                raise
            time.sleep(random.uniform(0.01, 0.1) * tries)
    return attempt()


def is_busy(error: BaseException) -> bool:
    """Whether SQLite said that another connection holds a lock."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    # The low byte is the primary code; extended ones tell why.
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def trouble(error: BaseException) -> tuple[str, str] | None:
    """What is wrong with a SQLite file, and what mends it, where SQLite's code tells."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    return None if code is None else _TROUBLES.get(code & 0xFF)


def unstorable(error: DBAPIError) -> str | None:
    """What is wrong with a value that PostgreSQL can neither store nor look for, where it is the value."""
    if getattr(error.orig, "sqlstate", None) == _OUT_OF_RANGE:
        return "A number is too large to be stored or found: use a smaller one."
    if "NUL" in str(error.orig):
        return "A text holds the character NUL, which is never stored: leave it out."
    return None


def lock_for_migration(connection: Connection) -> None:
    """Let one process migrate at a time, until the transaction ends (SQLite's write lock does already)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is there; returns whether it was inserted."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return connection.execute(insert(table).values(row).on_conflict_do_nothing()).rowcount == 1
