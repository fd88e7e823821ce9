"""Which browser launched a session, where there are no users; and what operators announce."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013_portal"
down_revision: str | None = "0012_listing"
branch_labels: None = None
depends_on: None = None

_INDEX = "ix_sessions_newest_of_visitor"


def upgrade() -> None:
    """Add the column with its index, and the table."""
    op.add_column("sessions", sa.Column("visitor", sa.String(64), nullable=True))
    op.create_index(_INDEX, "sessions", ["visitor", "submitting_at", "job_name"])
    op.create_table(
        "announcements",
        sa.Column("about", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("drain", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("announcements")
    op.drop_index(_INDEX, "sessions")
    with op.batch_alter_table("sessions") as table:
        table.drop_column("visitor")
