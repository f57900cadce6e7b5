"""What groups need: limits and ends of sessions, accounts, teams, shares, volumes of people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cupola.platform.storage.database.tables import UtcTime

revision = "groups"
down_revision = "first"


def upgrade() -> None:
    """Add columns and tables."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("volumes", sa.JSON, nullable=False, server_default="[]"))
        sessions.add_column(sa.Column("clean", sa.Boolean, nullable=False, server_default="0"))
        sessions.add_column(sa.Column("resources", sa.JSON))
        sessions.add_column(sa.Column("environment", sa.JSON, nullable=False, server_default="{}"))
        sessions.add_column(sa.Column("end", sa.JSON))
        sessions.add_column(sa.Column("notices", sa.JSON, nullable=False, server_default="[]"))
        sessions.add_column(sa.Column("rate", sa.Float))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("container", sa.JSON))
    op.create_table(
        "accounts",
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_accounts"),
        sa.UniqueConstraint("number", name="uq_accounts_number"),
    )
    _teams()
    op.create_table(
        "shares",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("session", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("person", sa.String(255)),
        sa.Column("team", sa.String(40)),
        sa.Column("access", sa.String(10), nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("expires", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.ForeignKeyConstraint(
            ["session"], ["sessions.id"], name="fk_shares_session_sessions", ondelete="CASCADE"
        ),
    )
    for column in ("session", "person", "team"):
        op.create_index(f"ix_shares_{column}", "shares", [column])
    op.create_table(
        "volumes",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("team", sa.String(40)),
        sa.Column("visibility", sa.String(20), nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_volumes"),
    )
    op.create_index("ix_volumes_owner", "volumes", ["owner"])


def _teams() -> None:
    op.create_table(
        "teams",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_teams"),
    )
    op.create_table(
        "members",
        sa.Column("team", sa.String(40), nullable=False),
        sa.Column("person", sa.String(255), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("since", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("team", "person", name="pk_members"),
        sa.ForeignKeyConstraint(["team"], ["teams.name"], name="fk_members_team_teams", ondelete="CASCADE"),
    )
    op.create_index("ix_members_person", "members", ["person"])
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("team", sa.String(40), nullable=False),
        sa.Column("person", sa.String(255)),
        sa.Column("token_hash", sa.String(64)),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("created", UtcTime, nullable=False),
        sa.Column("expires", UtcTime, nullable=False),
        sa.Column("used_by", sa.JSON, nullable=False, server_default="[]"),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("token_hash", name="uq_invitations_token_hash"),
        sa.ForeignKeyConstraint(
            ["team"], ["teams.name"], name="fk_invitations_team_teams", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_invitations_person", "invitations", ["person"])
