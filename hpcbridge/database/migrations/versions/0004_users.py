"""Whose session it is, and the table of API tokens."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004_users"
down_revision: str | None = "0003"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; sessions of the version before belong to nobody."""
    op.add_column("sessions", sa.Column("user", sa.String(64), nullable=True))
    op.create_index("ix_sessions_user", "sessions", ["user"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("tokens")
    with op.batch_alter_table("sessions") as table:
        table.drop_index("ix_sessions_user")
        table.drop_column("user")
