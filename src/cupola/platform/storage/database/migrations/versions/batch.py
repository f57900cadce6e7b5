"""What batch systems need: what a task asks for, what a job waits for, and what it has used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "batch"
down_revision = "groups"


def upgrade() -> None:
    """Add columns."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("gpus", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("time_s", sa.Integer))
        jobs.add_column(sa.Column("after", sa.JSON, nullable=False, server_default="[]"))
        jobs.add_column(sa.Column("team", sa.String(40)))
        jobs.add_column(sa.Column("notify", sa.Boolean))
        jobs.add_column(sa.Column("core_hours", sa.Float, nullable=False, server_default="0"))
    op.create_index("ix_jobs_team_created", "jobs", ["team", "created"])
