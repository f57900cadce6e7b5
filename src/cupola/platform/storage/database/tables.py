"""The tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
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

__all__ = ["UtcTime", "jobs", "metadata", "session_events", "sessions"]


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
    Index(None, "owner", "created", "id"),
    Index(None, "state"),
)
