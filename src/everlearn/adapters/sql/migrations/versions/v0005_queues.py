"""Jobs go through queues and take turns by model; leases for what one process does at a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

QUICK = "UPDATE jobs SET queue = 'advance' WHERE kind IN ('shadow', 'regime')"


def upgrade() -> None:
    """Forward."""
    op.add_column("jobs", sa.Column("queue", sa.String(length=32), nullable=False, server_default="train"))
    op.add_column("jobs", sa.Column("started_at", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("traceback", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("result", sa.Text(), nullable=True))
    op.execute(QUICK)
    op.create_index("ix_jobs_model_id_started_at", "jobs", ["model_id", "started_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("leases")
    op.drop_index("ix_jobs_model_id_started_at", table_name="jobs")
    for column in ("result", "traceback", "started_at", "queue"):
        op.drop_column("jobs", column)
