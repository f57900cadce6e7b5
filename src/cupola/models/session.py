"""Sessions: running datalabs, and the plans they start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from cupola.models.activity import NotebookPath, PlannedStop
from cupola.models.base import Model, Slug, Time
from cupola.models.resources import Resources, Usage
from cupola.models.share import ShareAccess
from cupola.models.volume import Mount

__all__ = [
    "ComputingNotebooks",
    "ContainerMount",
    "ContainerPlan",
    "EndCause",
    "LaunchRequest",
    "Plan",
    "ProcessPlan",
    "RestartRequest",
    "Session",
    "SessionChange",
    "SessionEnd",
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
    resources: Resources | None = None
    """The datalab's defaults where nothing is said."""
    environment: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Variables that the session's programs find."""


class SessionChange(Model):
    """What can be changed of a session that exists."""

    title: str = Field(min_length=1, max_length=100)


class ComputingNotebooks(Model):
    """What a session tells about itself: which notebooks have a cell that runs just now."""

    notebooks: list[NotebookPath] = Field(max_length=20)
    """Paths below the home."""


class RestartRequest(Model):
    """What is to be different after a restart."""

    resources: Resources | None = None
    """As before where nothing is said."""
    version: str | None = None
    """Digest of another version of the same datalab; the same version where nothing is said."""


class EndCause(StrEnum):
    """Why a session ended."""

    ASKED = "asked"
    """Somebody stopped it."""
    OUT_OF_MEMORY = "out-of-memory"
    CRASH = "crash"
    """Its program ended by itself or was killed."""
    NO_IMAGE = "no-image"
    """The image of its version is not there and cannot be had."""
    QUOTA = "quota"
    """A disk or a quota was full, so that it could not start."""
    TIMEOUT = "timeout"
    """It did not answer in time."""
    LOST = "lost"
    """Its process or container was gone when somebody looked."""
    REFUSED = "refused"
    """The engine or the hub refused to start it."""


class SessionEnd(Model):
    """What is known of a session's end: enough to say why, and what to do about it."""

    cause: EndCause
    exit_code: int | None = None
    signal: str | None = None
    """``SIGKILL`` and the like."""
    peak_memory_mib: int | None = None
    memory_limit_mib: int | None = None
    log: list[str] = Field(default_factory=list)
    """Its last lines of output."""


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
    volumes: list[str] = Field(default_factory=list)
    """Names of what it mounts."""
    clean: bool = False
    resources: Resources | None = None
    """Its limits; nothing where sessions have none (driver ``process``)."""
    environment: dict[str, str] = Field(default_factory=dict)
    """The variables that its owner chose; shown to the owner only."""
    end: SessionEnd | None = None
    """How it ended, where more is known than ``reason`` says."""
    hibernated: Time | None = None
    """When it was hibernated: it can be woken. Nothing once it was."""
    planned: PlannedStop | None = None
    """The stop that is announced, if one is."""
    notices: list[str] = Field(default_factory=list)
    """What its owner should know, such as a volume that could not be mounted yet; one sentence each."""
    usage: Usage | None = None
    """What it uses just now; only in the answer for one running session."""
    cost: float | None = None
    """What it has cost so far; nothing where the platform has no prices."""
    shared_by: str | None = None
    """Whose it is, in the listing of somebody else it is shared with."""
    shared_access: ShareAccess | None = None
    """What that one may do in it."""


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
    end: SessionEnd | None = None


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


class ContainerMount(Model):
    """A folder of the host as a container sees it."""

    source: Path
    target: Path
    read_only: bool = False
    follow: bool = False
    """Whether what is mounted below `source` later appears in the container too (``rslave``)."""


class ContainerPlan(Model):
    """A session as a container."""

    name: str
    image: str
    """The image's id, ``sha256:...``: a tag could be moved."""
    command: list[str]
    environment: dict[str, str]
    """Added to what the hub itself sets; the hub's own variables win."""
    user: int
    group: int
    groups: list[int] = Field(default_factory=list)
    """More groups: those of the owner's teams."""
    folder: Path
    """The working folder, in the container: the owner's home."""
    folders: list[Path] = Field(default_factory=list)
    """Folders of the host to make first, for the owner only."""
    mounts: list[ContainerMount]
    resources: Resources
    gpus: list[int] = Field(default_factory=list)
    """Numbers of the machine's GPUs that are the session's alone; as many as `resources` says."""
    processes: int = Field(gt=0)
    """Most processes and threads at a time."""
    scratch_mib: int = Field(gt=0)
    """Size of ``/tmp``, which is kept in memory."""
    network: str
    port: int = 8888
    """Where the session listens inside."""
    publish: bool
    """Whether that port is published on the host's loopback; else the hub goes to the container's own address."""
    log: Path
    """Where the driver keeps the last output when the container is removed."""
    labels: dict[str, str] = Field(default_factory=dict)


class Plan(Model):
    """Everything the spawner needs to start one session; the portal decided it all."""

    session: Slug
    owner: str
    datalab: Slug
    version: str
    ready_path: str
    mounts: list[Mount]
    process: ProcessPlan | None = None
    """For the driver ``process``."""
    container: ContainerPlan | None = None
    """For the driver ``docker``."""

    @property
    def log(self) -> Path:
        """Where the session's output goes."""
        return self.started.log

    @property
    def environment(self) -> dict[str, str]:
        """What the session's programs find in their environment."""
        return self.started.environment

    @property
    def started(self) -> ProcessPlan | ContainerPlan:
        """Return the one of the two that this plan has."""
        started = self.process or self.container
        if started is None:  # the builder always gives one
            raise ValueError(f"the plan of {self.session} starts nothing")
        return started
