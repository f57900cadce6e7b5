"""The tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from typing_extensions import override

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

__all__ = [
    "UtcTime",
    "accounts",
    "deliveries",
    "invitations",
    "jobs",
    "maintenance",
    "members",
    "metadata",
    "notification_settings",
    "notifications",
    "planned_stops",
    "session_events",
    "sessions",
    "shares",
    "teams",
    "volumes",
]


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC, also on SQLite, which keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring `value` to UTC before it is written."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a read `value` its zone back."""
        del dialect
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


# Constraints get names by rule, so that a later migration can find them on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("datalab", String(40), nullable=False),
    Column("version", String(100), nullable=False),
    Column("title", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text),
    Column("created", UtcTime, nullable=False),
    Column("started", UtcTime),
    Column("stopped", UtcTime),
    Column("last_activity", UtcTime),
    Column("plan", JSON, nullable=False),
    Column("volumes", JSON, nullable=False, server_default="[]"),
    Column("clean", Boolean, nullable=False, server_default="0"),
    Column("resources", JSON),
    Column("environment", JSON, nullable=False, server_default="{}"),
    Column("end", JSON),
    Column("notices", JSON, nullable=False, server_default="[]"),
    # When it was hibernated; nothing again once it was woken.
    Column("hibernated", UtcTime),
    # Per hour, as prices were at its launch.
    Column("rate", Float),
    # What it had cost when it was woken last.
    Column("spent", Float, nullable=False, server_default="0"),
    Column("request_key", String(64)),
    # A double click sends the same key twice: the second one finds the first one's session.
    UniqueConstraint("owner", "request_key"),
    Index(None, "owner", "created", "id"),
    Index(None, "state"),
)

session_events = Table(
    "session_events",
    metadata,
    Column("session", String(40), ForeignKey(sessions.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("state", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("progress", Integer, nullable=False),
)

planned_stops = Table(
    "planned_stops",
    metadata,
    # What was announced to its owner; a portal that is started again keeps its word.
    Column("session", String(40), ForeignKey(sessions.c.id, ondelete="CASCADE"), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(255)),
    Column("announced", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
)

maintenance = Table(
    "maintenance",
    metadata,
    # One row, while an administrator has announced the end of the whole platform.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("by", String(255), nullable=False),
    Column("announced", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("name", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("engine", String(40), nullable=False),
    Column("native", String(255)),
    Column("inputs", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("tasks", Integer, nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("peak_memory_mib", Integer),
    Column("created", UtcTime, nullable=False),
    Column("started", UtcTime),
    Column("ended", UtcTime),
    Column("reason", Text),
    Column("source", Text, nullable=False),
    # No foreign key: a job outlives the session it came from.
    Column("session", String(40)),
    Column("version", String(100), nullable=False),
    Column("python", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("products", Text),
    Column("container", JSON),
    Column("gpus", Integer, nullable=False, server_default="0"),
    Column("time_s", Integer),
    Column("after", JSON, nullable=False, server_default="[]"),
    Column("team", String(40)),
    Column("notify", Boolean),
    Column("core_hours", Float, nullable=False, server_default="0"),
    Index(None, "owner", "created", "id"),
    # What a person or a team has used lately.
    Index(None, "team", "created"),
    Index(None, "state"),
)

accounts = Table(
    "accounts",
    metadata,
    # Numbers that files of people ("person") and teams ("team") belong to. Never given again: files outlive people.
    Column("kind", String(10), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("number", Integer, nullable=False),
    UniqueConstraint("number"),
)

teams = Table(
    "teams",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("title", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("created", UtcTime, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("team", String(40), ForeignKey(teams.c.name, ondelete="CASCADE"), primary_key=True),
    Column("person", String(255), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("since", UtcTime, nullable=False),
    Index(None, "person"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("team", String(40), ForeignKey(teams.c.name, ondelete="CASCADE"), nullable=False),
    Column("person", String(255)),
    # Of the link's token, where it is for nobody in particular.
    Column("token_hash", String(64)),
    Column("role", String(20), nullable=False),
    Column("by", String(255), nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("expires", UtcTime, nullable=False),
    # Who came in by its link: whoever is removed from the team does not come back by it.
    Column("used_by", JSON, nullable=False, server_default="[]"),
    UniqueConstraint("token_hash"),
    Index(None, "person"),
)

shares = Table(
    "shares",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("session", String(40), ForeignKey(sessions.c.id, ondelete="CASCADE"), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("person", String(255)),
    Column("team", String(40)),
    Column("access", String(10), nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("expires", UtcTime, nullable=False),
    Index(None, "session"),
    Index(None, "person"),
    Index(None, "team"),
)

volumes = Table(
    "volumes",
    metadata,
    # Those that people added; the platform's own are in cupola.yaml.
    Column("name", String(40), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("team", String(40)),
    Column("visibility", String(20), nullable=False),
    Column("created", UtcTime, nullable=False),
    # models.volume.Volume without what is looked up.
    Column("content", JSON, nullable=False),
    Index(None, "owner"),
)

notification_settings = Table(
    "notification_settings",
    metadata,
    Column("person", String(255), primary_key=True),
    Column("mail", Boolean, nullable=False, server_default="0"),
    Column("address", String(320)),
    # An address that nobody has confirmed yet, and the token of the link that was mailed to it.
    Column("awaiting", String(320)),
    Column("token_hash", String(64)),
    Column("token_expires", UtcTime),
    Column("webhook", Boolean, nullable=False, server_default="0"),
    # Its whole address and its secret are in a file: see storage/webhooks.py.
    Column("webhook_host", String(255)),
    Column("signed", Boolean, nullable=False, server_default="0"),
    Column("ends", String(10), nullable=False, server_default="all"),
    Column("minutes", Integer, nullable=False, server_default="10"),
    UniqueConstraint("token_hash"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("person", String(255), nullable=False),
    # What it is about: the end of a job ("job"), or what happens to a session ("session"), whose id is in `job` then.
    Column("kind", String(10), nullable=False, server_default="job"),
    # No foreign key: that a job ended stays true when the job is deleted.
    Column("job", String(40), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("read", Boolean, nullable=False, server_default="0"),
    # models.notification.JobEnd, or SessionNotice of a session
    Column("content", JSON, nullable=False),
    # One end is told once, whoever sees it how often.
    UniqueConstraint("job", "attempt"),
    Index(None, "person", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    # What waits to be sent; written in the transaction in which the job ends.
    Column("notification", Integer, ForeignKey(notifications.c.id, ondelete="CASCADE"), primary_key=True),
    Column("channel", String(10), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next", UtcTime),
    Column("problem", Text),
    Column("sent", UtcTime),
    Index(None, "state", "next"),
)
