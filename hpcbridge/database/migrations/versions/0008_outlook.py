"""What a waiting session may expect, for replicas that follow."""

import sqlalchemy as sa
from alembic import op

revision: str = "0008_outlook"
down_revision: str | None = "0007_warm"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; the leader fills it in at the next change."""
    op.add_column("sessions", sa.Column("outlook", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("sessions") as table:
        table.drop_column("outlook")
