"""Alembic, run from code: no ini file, nothing printed, nothing read from the working folder."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from everlearn.adapters.sql.dialects import lock_for_migration


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


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    # The value goes through interpolation, for which a percent sign is special.
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config
