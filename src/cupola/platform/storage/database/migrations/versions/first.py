"""Sessions with their events, and jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cupola.platform.storage.database.tables import UtcTime

revision = "first"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("datalab", sa.String(40), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("started", UtcTime),
        sa.Column("stopped", UtcTime),
        sa.Column("last_activity", UtcTime),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("request_key", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("owner", "request_key", name="uq_sessions_owner_request_key"),
    )
    op.create_index("ix_sessions_owner_created_id", "sessions", ["owner", "created", "id"])
    op.create_index("ix_sessions_state", "sessions", ["state"])
    op.create_table(
        "session_events",
        sa.Column("session", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("time", UtcTime, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("session", "number", name="pk_session_events"),
        sa.ForeignKeyConstraint(
            ["session"], ["sessions.id"], name="fk_session_events_session_sessions", ondelete="CASCADE"
        ),
    )
    _create_jobs()


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("engine", sa.String(40), nullable=False),
        sa.Column("native", sa.String(255)),
        sa.Column("inputs", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("running", sa.Integer, nullable=False),
        sa.Column("tasks", sa.Integer, nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("cpus", sa.Integer, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("peak_memory_mib", sa.Integer),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("started", UtcTime),
        sa.Column("ended", UtcTime),
        sa.Column("reason", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("session", sa.String(40)),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("python", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("products", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_owner_created_id", "jobs", ["owner", "created", "id"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
