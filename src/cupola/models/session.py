"""Sessions: running datalabs, and the plans they start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from cupola.models.base import Model, Slug, Time
from cupola.models.volume import Mount

__all__ = [
    "LaunchRequest",
    "Plan",
    "ProcessPlan",
    "Session",
    "SessionEvent",
    "SessionReport",
    "SessionState",
]


class SessionState(StrEnum):
    """Where a session is in its life. It only moves downwards in this list."""

    REQUESTED = "requested"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        """Whether the session holds resources."""
        return self not in {SessionState.STOPPED, SessionState.FAILED}


class LaunchRequest(Model):
    """What a person asks for when launching."""

    datalab: Slug
    version: str | None = None
    """Digest of the wanted version; the recommended one where nothing is said."""
    title: str | None = Field(default=None, max_length=100)
    volumes: list[Slug] | None = None
    """Names of the volumes to mount; the datalab's defaults where nothing is said."""
    clean: bool = False
    """Start without the packages the person installed."""


class Session(Model):
    """One running (or ended) datalab of one user."""

    id: Slug
    """Also the name of the JupyterHub named server."""
    owner: str
    datalab: Slug
    version: str
    title: str
    state: SessionState
    url: str | None = None
    """Where the browser goes, as a path on the platform's address; only while ready."""
    reason: str | None = None
    """Why it failed or was stopped, in a sentence."""
    created: Time
    started: Time | None = None
    """When it was ready for use."""
    stopped: Time | None = None
    last_activity: Time | None = None


class SessionEvent(Model):
    """One step in the life of a session, shown as progress."""

    session: Slug
    number: int
    """Counts up from 1 in each session."""
    time: Time
    state: SessionState
    message: str
    progress: int = Field(ge=0, le=100)
    """In per cent."""


class SessionReport(Model):
    """What the spawner tells the portal about a session."""

    state: SessionState
    message: str
    progress: int = Field(default=50, ge=0, le=100)


class ProcessPlan(Model):
    """A session as a process of this host."""

    command: list[str]
    environment: dict[str, str]
    """Added to what the hub itself sets; the hub's own variables win."""
    folder: Path
    """The working folder: the owner's home."""
    folders: list[Path] = Field(default_factory=list)
    """Folders to make first, for the owner only."""
    log: Path
    """Where the process's output goes."""
    zygote: Path | None = None
    """Socket of the fork server that has this version's libraries loaded; nothing: start cold."""


class Plan(Model):
    """Everything the spawner needs to start one session; the portal decided it all."""

    session: Slug
    owner: str
    datalab: Slug
    version: str
    ready_path: str
    mounts: list[Mount]
    process: ProcessPlan
