"""Names by which the containers of a platform are found, and the network they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from cupola.models.base import Model

if TYPE_CHECKING:
    from cupola.models.session import Plan

__all__ = [
    "CORES_INSIDE",
    "CORES_LABEL",
    "DATALAB_LABEL",
    "HOMES_INSIDE",
    "JOB_LABEL",
    "OWNER_LABEL",
    "PLATFORM_LABEL",
    "SESSION_LABEL",
    "VERSION_LABEL",
    "VOLUMES_INSIDE",
    "Account",
    "SessionNetwork",
    "container_name",
    "labels_of",
]

PLATFORM_LABEL: Final = "cupola.platform"
SESSION_LABEL: Final = "cupola.session"
JOB_LABEL: Final = "cupola.job"
CORES_LABEL: Final = "cupola.cores"
OWNER_LABEL: Final = "cupola.owner"
DATALAB_LABEL: Final = "cupola.datalab"
VERSION_LABEL: Final = "cupola.version"

HOMES_INSIDE: Final = "/home"
VOLUMES_INSIDE: Final = "/volumes"
CORES_INSIDE: Final = "/cores"
"""Where the container of a job finds one file per core that it may use."""


class Account(Model):
    """By which numbers a person's files are known to the file system."""

    user: int
    group: int
    groups: dict[str, int] = Field(default_factory=dict)
    """The numbers of the person's teams, by their names."""


class SessionNetwork(Model):
    """The network of a platform's containers, as ``run/network.json`` has it."""

    key: str
    """The platform's (`StatePaths.key`)."""
    host: str
    """Where the engine listens, as ``unix://...``."""
    name: str
    bridge: str
    gateway: str
    """The only address of the host that containers reach, and only at the door."""
    subnet: str
    door: int = 0
    """The port there; 0 until it is chosen."""
    internal: bool = False
    """Whether nothing but the platform can be reached."""

    @property
    def door_url(self) -> str:
        """What addresses of the platform begin with inside a container, without a slash at the end."""
        return f"http://{self.gateway}:{self.door}"


def container_name(key: str, session: str) -> str:
    """Return the name of the container of a session on the platform with the key `key`."""
    return f"cupola-{key}-{session}"


def labels_of(plan: Plan, key: str) -> dict[str, str]:
    """Return the labels of the container of a session."""
    return {
        PLATFORM_LABEL: key,
        SESSION_LABEL: plan.session,
        OWNER_LABEL: plan.owner,
        DATALAB_LABEL: plan.datalab,
        VERSION_LABEL: plan.version,
    }
