"""What Alembic runs for each command; the connection, with its transaction, is the caller's."""

from __future__ import annotations

from alembic import context

from everlearn.adapters.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
