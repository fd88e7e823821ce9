"""Tickets that were used, so that none admits twice at any replica."""

import sqlalchemy as sa
from alembic import op

revision: str = "0010_tickets"
down_revision: str | None = "0009_error_class"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "used_tickets",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("used_tickets")
