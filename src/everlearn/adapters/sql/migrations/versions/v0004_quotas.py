"""How many labels a key may give a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("api_keys", sa.Column("labels_per_day", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Back."""
    op.drop_column("api_keys", "labels_per_day")
