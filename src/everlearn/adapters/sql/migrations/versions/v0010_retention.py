"""When events were logged, roughly; up to where old ones were dropped, and the loop's state there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "log_marks",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_log_marks_model_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "at", name="pk_log_marks"),
    )
    op.create_table(
        "log_floors",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kept_from", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_log_floors_model_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", name="pk_log_floors"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("log_floors")
    op.drop_table("log_marks")
