"""The score over time, and a card of each model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "score_points",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("lower", sa.Double(), nullable=True),
        sa.Column("upper", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("no_change", sa.Double(), nullable=True),
        sa.Column("never_updated", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("champion", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Text(), nullable=True),
        sa.Column("bake", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_score_points_model_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "level", "number", name="pk_score_points"),
    )
    op.create_index("ix_score_points_model_id_level_at", "score_points", ["model_id", "level", "at"])
    op.create_table(
        "cards",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("card", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_cards_model_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model_id", name="pk_cards"),
    )


def downgrade() -> None:
    """Back: the score over time is lost."""
    op.drop_table("cards")
    op.drop_table("score_points")
