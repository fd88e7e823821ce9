"""Indexes for what is asked again and again, so that a long history costs nothing."""

from alembic import op

revision: str = "0011_indexes"
down_revision: str | None = "0010_tickets"
branch_labels: None = None
depends_on: None = None

_INDEXES = {
    "ix_sessions_living": ["state", "stopped", "application", "user"],
    "ix_sessions_job_ended": ["job_ended"],
    "ix_sessions_waits": ["application", "cluster", "queued_at"],
}


def upgrade() -> None:
    """Make them."""
    for name, columns in _INDEXES.items():
        op.create_index(name, "sessions", columns)


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(name, "sessions")
