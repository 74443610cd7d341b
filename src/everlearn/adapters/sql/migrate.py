"""Alembic, run from code: no ini file, nothing printed, nothing read from the working folder."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from everlearn.adapters.sql.dialects import lock_for_migration
from everlearn.errors import UnavailableError

MOVING = "moving"
"""The table that a database has as long as a copy into it is not finished (see ``moving.py``)."""


def upgrade(connection: Connection) -> None:
    """Migrate to the newest schema, inside the connection's transaction."""
    lock_for_migration(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revisions(connection: Connection) -> tuple[str | None, str | None]:
    """The schema's revision in the database, and the newest that there is."""
    found = MigrationContext.configure(connection).get_current_revision()
    return found, ScriptDirectory.from_config(_config()).get_current_head()


def refuse_half_moved(connection: Connection, name: str) -> None:
    """Raise UnavailableError where a copy of another database has begun and is not finished."""
    if inspect(connection).has_table(MOVING):
        raise UnavailableError(
            f"The database {name} is a copy that is not finished: run 'everlearn migrate-db' again"
        )


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    # The value goes through interpolation, for which a percent sign is special.
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config
