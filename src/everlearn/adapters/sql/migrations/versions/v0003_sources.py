"""Who gave a label or an example. Without an index: leaving a source out is rare, and may read them all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("events", sa.Column("source", sa.String(length=200), nullable=True))


def downgrade() -> None:
    """Back."""
    op.drop_column("events", "source")
