"""Indexes for pages of the list of sessions, the newest first."""

import sqlalchemy as sa
from alembic import op

revision: str = "0012_listing"
down_revision: str | None = "0011_indexes"
branch_labels: None = None
depends_on: None = None

_ORDER = ["submitting_at", "job_name"]
_ALL = {
    "ix_sessions_newest": _ORDER,
    "ix_sessions_newest_of_user": ["user", *_ORDER],
    "ix_sessions_newest_of_application": ["application", *_ORDER],
    "ix_sessions_newest_of_cluster": ["cluster", *_ORDER],
}
_LIVING = {
    "ix_sessions_newest_living": _ORDER,
    "ix_sessions_newest_living_of_user": ["user", *_ORDER],
}


def upgrade() -> None:
    """Make them. Each that begins with the user takes the place of the one of users alone."""
    for name, columns in _ALL.items():
        op.create_index(name, "sessions", columns)
    living = sa.text("state != 'ended'")
    for name, columns in _LIVING.items():
        op.create_index(name, "sessions", columns, sqlite_where=living, postgresql_where=living)
    op.drop_index("ix_sessions_user", "sessions")


def downgrade() -> None:
    """Drop them."""
    op.create_index("ix_sessions_user", "sessions", ["user"])
    for name in (*_ALL, *_LIVING):
        op.drop_index(name, "sessions")
