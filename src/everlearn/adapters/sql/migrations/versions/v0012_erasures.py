"""The removal of people's rows: how far it is, what it certifies, and which ids take no labels any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("by", sa.String(length=300), nullable=False),
        sa.Column("removed", sa.Text(), nullable=False),
        sa.Column("gone", sa.Text(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_erasures_model_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )
    op.create_index("ix_erasures_model_id", "erasures", ["model_id"])
    op.create_table(
        "erased_ids",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("erasure", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_erased_ids_model_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "digest", name="pk_erased_ids"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("erased_ids")
    op.drop_table("erasures")
