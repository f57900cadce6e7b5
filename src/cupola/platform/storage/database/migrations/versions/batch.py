"""What batch systems need: what a task asks for, what a job waits for, and what it has used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cupola.platform.storage.database.tables import UtcTime

revision = "batch"
down_revision = "groups"


def upgrade() -> None:
    """Add columns and tables."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("gpus", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("time_s", sa.Integer))
        jobs.add_column(sa.Column("after", sa.JSON, nullable=False, server_default="[]"))
        jobs.add_column(sa.Column("team", sa.String(40)))
        jobs.add_column(sa.Column("notify", sa.Boolean))
        jobs.add_column(sa.Column("core_hours", sa.Float, nullable=False, server_default="0"))
    op.create_index("ix_jobs_team_created", "jobs", ["team", "created"])
    _notifications()


def _notifications() -> None:
    """Add what people are told when a job ends, how they want to be told, and what waits to be sent."""
    op.create_table(
        "notification_settings",
        sa.Column("person", sa.String(255), primary_key=True),
        sa.Column("mail", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("address", sa.String(320)),
        sa.Column("awaiting", sa.String(320)),
        sa.Column("token_hash", sa.String(64)),
        sa.Column("token_expires", UtcTime),
        sa.Column("webhook", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("webhook_host", sa.String(255)),
        sa.Column("signed", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("ends", sa.String(10), nullable=False, server_default="all"),
        sa.Column("minutes", sa.Integer, nullable=False, server_default="10"),
        sa.UniqueConstraint("token_hash", name="uq_notification_settings_token_hash"),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("person", sa.String(255), nullable=False),
        sa.Column("job", sa.String(40), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("read", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("content", sa.JSON, nullable=False),
        sa.UniqueConstraint("job", "attempt", name="uq_notifications_job_attempt"),
    )
    op.create_index("ix_notifications_person_id", "notifications", ["person", "id"])
    op.create_table(
        "deliveries",
        sa.Column("notification", sa.Integer, primary_key=True),
        sa.Column("channel", sa.String(10), primary_key=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next", UtcTime),
        sa.Column("problem", sa.Text),
        sa.Column("sent", UtcTime),
        sa.ForeignKeyConstraint(
            ["notification"],
            ["notifications.id"],
            name="fk_deliveries_notification_notifications",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_deliveries_state_next", "deliveries", ["state", "next"])
