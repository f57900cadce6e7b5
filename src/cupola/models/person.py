"""People and what they may use."""

from __future__ import annotations

from pydantic import Field

from cupola.models.base import Model

__all__ = ["Person", "Profile"]


class Profile(Model):
    """What a person may use."""

    name: str = "default"
    sessions: int = 5
    """Sessions at a time, over all datalabs."""
    cores: float
    """Most cores of one session."""
    memory_mib: int
    """Most memory of one session, in MiB."""
    gpus: int = 0
    """Most GPUs of one session."""
    job_cores: int | None = None
    """Most cores that the tasks of all jobs use at a time; nothing: as many as the engines have."""
    core_hours: float | None = None
    """Most core-hours of jobs in 30 days; nothing: no limit."""
    home_gib: float | None = None
    """Most that the home may hold, in GiB; nothing: no limit."""


class Person(Model):
    """Somebody who is signed in."""

    name: str
    admin: bool = False
    teams: list[str] = Field(default_factory=list)
    profile: Profile
