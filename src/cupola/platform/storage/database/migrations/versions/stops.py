"""Stops that are announced: when, why, and which sessions were hibernated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cupola.platform.storage.database.tables import UtcTime

revision = "stops"
down_revision = "batch"


def upgrade() -> None:
    """Add columns and tables."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("hibernated", UtcTime))
        sessions.add_column(sa.Column("spent", sa.Float, nullable=False, server_default="0"))
    with op.batch_alter_table("notifications") as notifications:
        notifications.add_column(sa.Column("kind", sa.String(10), nullable=False, server_default="job"))
    op.create_table(
        "planned_stops",
        sa.Column("session", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.String(255)),
        sa.Column("announced", UtcTime, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["session"], ["sessions.id"], name="fk_planned_stops_session_sessions", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("announced", UtcTime, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
    )
