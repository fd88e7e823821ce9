"""As whom a session's job runs, where that is not the service's own account."""

import sqlalchemy as sa
from alembic import op

revision: str = "0006_accounts"
down_revision: str | None = "0005_replicas"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; sessions of the version before are the service's own."""
    op.add_column("sessions", sa.Column("account", sa.String(64), nullable=True))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("sessions") as table:
        table.drop_column("account")
