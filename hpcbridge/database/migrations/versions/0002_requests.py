"""What tells that two launches are the same request, and whether a client has the session."""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the columns. Sessions of the version before were all given to their clients."""
    op.add_column("sessions", sa.Column("request", sa.String(64), nullable=True))
    op.add_column("sessions", sa.Column("idempotency_key", sa.String(64), nullable=True))
    op.add_column(
        "sessions",
        sa.Column("claimed", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.create_index("ix_sessions_idempotency_key", "sessions", ["idempotency_key"], unique=True)


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("sessions") as table:
        table.drop_index("ix_sessions_idempotency_key")
        for name in ("request", "idempotency_key", "claimed"):
            table.drop_column(name)
