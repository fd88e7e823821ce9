"""Which browser launched a session, where there are no users."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013_visitors"
down_revision: str | None = "0012_listing"
branch_labels: None = None
depends_on: None = None

_INDEX = "ix_sessions_newest_of_visitor"


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("sessions", sa.Column("visitor", sa.String(64), nullable=True))
    op.create_index(_INDEX, "sessions", ["visitor", "submitting_at", "job_name"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index(_INDEX, "sessions")
    with op.batch_alter_table("sessions") as table:
        table.drop_column("visitor")
