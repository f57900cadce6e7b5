"""People and what they may use."""

from __future__ import annotations

from pydantic import Field

from cupola.models.base import Model

__all__ = ["Person", "Profile"]


class Profile(Model):
    """What a person may use."""

    sessions: int = 5
    """Sessions at a time, over all datalabs."""
    cores: int
    memory_mib: int


class Person(Model):
    """Somebody who is signed in."""

    name: str
    admin: bool = False
    teams: list[str] = Field(default_factory=list)
    profile: Profile
