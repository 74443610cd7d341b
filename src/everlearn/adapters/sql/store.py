"""The SQL store: every port but artifacts over one database."""

from __future__ import annotations

from sqlalchemy import text

from everlearn.adapters.sql.access import SqlAccess
from everlearn.adapters.sql.announcing import PostgresAnnouncements
from everlearn.adapters.sql.backlog import SqlBacklog
from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.dialects import Synchronous
from everlearn.adapters.sql.erasing import SqlErasures
from everlearn.adapters.sql.jobs import SqlJobs
from everlearn.adapters.sql.leases import SqlLeases
from everlearn.adapters.sql.ledger import SqlLedger
from everlearn.adapters.sql.leftovers import SqlRemains
from everlearn.adapters.sql.log import SqlLog
from everlearn.adapters.sql.models import SqlModels, SqlVersions
from everlearn.adapters.sql.outbox import SqlOutbox
from everlearn.adapters.sql.receipts import SqlReceipts
from everlearn.adapters.sql.retention import SqlRetention
from everlearn.adapters.sql.scores import SqlScores
from everlearn.adapters.sql.tallies import SqlTallies
from everlearn.errors import UnavailableError


class SqlStore:
    """A store at a URL: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Nothing is connected until it is used. It may be used from many threads, and after a fork.
    ``synchronous`` is SQLite's: with ``FULL`` an acknowledged write survives a power cut, with ``NORMAL``
    only the death of the process.

    Raises:
        InvalidError: if the URL is none, or of another database.
    """

    def __init__(self, url: str, *, synchronous: Synchronous = "FULL") -> None:
        self._database = Database(url, synchronous)
        self.models = SqlModels(self._database)
        self.log = SqlLog(self._database)
        self.versions = SqlVersions(self._database)
        self.ledger = SqlLedger(self._database)
        self.scores = SqlScores(self._database)
        self.jobs = SqlJobs(self._database)
        self.backlog = SqlBacklog(self._database)
        self.leases = SqlLeases(self._database)
        self.outbox = SqlOutbox(self._database)
        self.tallies = SqlTallies(self._database)
        on_sqlite = self._database.is_sqlite
        self.announcements = None if on_sqlite else PostgresAnnouncements(self._database)
        self.retention = SqlRetention(self._database)
        self.erasures = SqlErasures(self._database)
        self.remains = SqlRemains(self._database)
        self.receipts = SqlReceipts(self._database)
        self.access = SqlAccess(self._database)

    def migrate(self) -> None:
        """Bring the schema to its newest state; harmless when it is, or when another process does.

        Raises UnavailableError where a copy of another database into it is not finished.
        """
        from everlearn.adapters.sql.migrate import refuse_half_moved, upgrade

        with self._database.write() as connection:
            refuse_half_moved(connection, self._database.name)
            upgrade(connection)

    def check(self) -> str:
        """A line that says where the database is and that its schema is the newest.

        Raises:
            UnavailableError: if it does not answer, or its schema is another.
        """
        from everlearn.adapters.sql.migrate import refuse_half_moved, revisions

        with self._database.read() as connection:
            refuse_half_moved(connection, self._database.name)
            found, newest = revisions(connection)
        where = self._database.name
        if found != newest:
            state = f"is at schema {found or 'none'} and not at {newest}"
            raise UnavailableError(f"The database {where} {state}: migrate it (everlearn up does).")
        return f"{where} is at schema {newest}"

    def clock(self) -> float:
        """The time by the database's own clock, in seconds since the Unix epoch; PostgreSQL only."""
        with self._database.read() as connection:
            return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
