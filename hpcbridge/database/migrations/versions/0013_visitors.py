"""Which browser launched a session, where there are no users."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013_visitors"
down_revision: str | None = "0011_indexes"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("sessions", sa.Column("visitor", sa.String(64), nullable=True))
    op.create_index("ix_sessions_visitor", "sessions", ["visitor", "submitting_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_sessions_visitor", "sessions")
    with op.batch_alter_table("sessions") as table:
        table.drop_column("visitor")
