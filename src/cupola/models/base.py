"""What all models share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Model", "Page", "Problem", "Slug", "Time", "now"]


def _in_utc(value: datetime) -> datetime:
    """Bring a time to UTC; a time without a zone (SQLite keeps none) is taken as UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_in_utc)]
"""A moment, always in UTC."""

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", min_length=1, max_length=40)]
"""A name that is safe in an address, a file name and a JupyterHub server name."""


class Model(BaseModel):
    """Plain, immutable, typed data; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Thing = TypeVar("Thing")


class Page(Model, Generic[Thing]):
    """One page of a listing."""

    items: list[Thing]
    next: str | None = None
    """Give this as ``cursor`` to get the page after this one; nothing where this is the last."""


class Problem(Model):
    """An error as the REST API tells it (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    """Stable address of the kind of error; its last part is the machine code."""
    title: str
    status: int
    detail: str
    instance: str | None = None


def now() -> datetime:
    """Return this moment in UTC."""
    return datetime.now(UTC)
