"""Several replicas on one database: a local end for each, who leads, and one mark for all."""

import sqlalchemy as sa
from alembic import op

revision: str = "0005_replicas"
down_revision: str | None = "0004_users"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Make the tables. Local ends move to a table of their own; whose they were is not known."""
    op.create_table(
        "doors",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("replica", sa.String(16), primary_key=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("connections", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("active_at", sa.Float(), nullable=True),
    )
    op.execute(
        "INSERT INTO doors (session_id, replica, address) "
        "SELECT id, '', address FROM sessions WHERE address IS NOT NULL"
    )
    with op.batch_alter_table("sessions") as table:
        table.drop_column("address")
        for name in ("attempt", "version"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        # "left" is a word of SQL.
        table.add_column(
            sa.Column("forsaken", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        table.add_column(sa.Column("wanted_at", sa.Float(), nullable=True))
        table.create_index("ix_sessions_request", ["request"])
    op.create_table(
        "replicas",
        sa.Column("replica", sa.String(16), primary_key=True),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "leadership",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("mark", sa.String(16), nullable=False),
    )


def downgrade() -> None:
    """Drop them; of the local ends one for each session is kept."""
    for name in ("installation", "leadership", "replicas"):
        op.drop_table(name)
    with op.batch_alter_table("sessions") as table:
        table.drop_index("ix_sessions_request")
        for name in ("attempt", "version", "forsaken", "wanted_at"):
            table.drop_column(name)
        table.add_column(sa.Column("address", sa.Text(), nullable=True))
    op.execute(
        "UPDATE sessions SET address = "
        "(SELECT min(address) FROM doors WHERE session_id = sessions.id)"
    )
    op.drop_table("doors")
