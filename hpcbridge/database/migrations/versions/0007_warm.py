"""Warm sessions: of which pool one is, and when a user got it."""

import sqlalchemy as sa
from alembic import op

revision: str = "0007_warm"
down_revision: str | None = "0006_accounts"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the columns; sessions of the version before were never warm."""
    op.add_column("sessions", sa.Column("pool", sa.String(32), nullable=True))
    op.add_column("sessions", sa.Column("taken_at", sa.Float(), nullable=True))
    op.create_index("ix_sessions_pool", "sessions", ["pool"])


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("sessions") as table:
        table.drop_index("ix_sessions_pool")
        table.drop_column("taken_at")
        table.drop_column("pool")
