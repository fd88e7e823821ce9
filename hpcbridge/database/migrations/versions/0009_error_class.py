"""What kind of error ended a session, so that every replica answers alike."""

import sqlalchemy as sa
from alembic import op

revision: str = "0009_error_class"
down_revision: str | None = "0008_outlook"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; of sessions that have ended before it is not known."""
    op.add_column("sessions", sa.Column("error_class", sa.String(64), nullable=True))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("sessions") as table:
        table.drop_column("error_class")
