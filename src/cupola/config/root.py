"""The root of the configuration."""

from __future__ import annotations

import os
import pwd
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from cupola.config.base import EmptyIsDefault, Settings, UserPath
from cupola.config.docker import DockerSettings
from cupola.config.engines import EngineSettings
from cupola.config.idle import SessionSettings
from cupola.config.notifications import NotificationSettings
from cupola.config.paths import StatePaths, default_state
from cupola.config.server import Compute, DatabaseSettings, FolderSettings, LogSettings, ServerSettings
from cupola.config.signin import SignInSettings
from cupola.config.usage import (
    NamedProfileSettings,
    PriceSettings,
    ProfileSettings,
    QuotaSettings,
    TeamSettings,
)
from cupola.config.volumes import CustomVolumeSettings, MountSettings, VolumeSettings

__all__ = ["RESERVED_VOLUMES", "Config", "default_owner"]

RESERVED_VOLUMES = frozenset({"home", "sample-archive"})
"""Names of the volumes that Cupola itself offers."""


def normalised(account: str) -> str:
    """Return `account` as a name that the hub, an address and a folder accept; ``owner`` where nothing is left."""
    return re.sub(r"[^a-z0-9._-]+", "-", account.lower()).strip("._-")[:64].rstrip("._-") or "owner"


def default_owner() -> str:
    """Return the system account that runs this, as a user name."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container the account need not have an entry
        account = os.environ.get("USER", "")
    return normalised(account)


class Config(Settings):
    """All that can be set, as read from ``cupola.yaml``."""

    title: str = Field(
        default="Cupola",
        title="Title",
        description="The name of this platform, shown on every page.",
        examples=["Institute of Planetary Research"],
        min_length=1,
        max_length=60,
        json_schema_extra={"expects": "text of 1 to 60 characters"},
    )
    state: UserPath = Field(
        default_factory=lambda: default_state(None),
        title="State folder",
        description=(
            "The folder that holds everything the platform keeps: databases, homes, environments, logs. "
            "A relative path starts at the folder of this file."
        ),
        examples=["/var/lib/cupola"],
        json_schema_extra={
            "expects": "a folder",
            "default": "cupola-state beside this file, or ~/.local/share/cupola where there is no file",
        },
    )
    owner: str = Field(
        default_factory=default_owner,
        title="Owner",
        description="The person who signs in with the link that `cupola up` prints.",
        examples=["maria"],
        pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$",
        json_schema_extra={
            "expects": "small letters, digits, dots, hyphens and underscores, at most 64 characters",
            "default": "the system account that starts the platform",
        },
    )
    url: str | None = Field(
        default=None,
        title="Public address",
        description=(
            "The address that people type into their browser, where it is another one than the platform listens on. "
            "Where it begins with https and no proxy is in front, the platform listens on ports 443 and 80 and gets the "
            "certificate itself."
        ),
        examples=["https://cupola.example.org"],
        pattern=r"^https?://[^\s/?#]+/?$",
        json_schema_extra={
            "expects": "an address with http:// or https:// and no path",
            "default": "the address the platform listens on",
        },
    )
    compute: Compute = Field(
        default=Compute.PROCESS,
        strict=False,
        title="Compute driver",
        description=(
            "What sessions run in. `process`: processes of this machine, without isolation, for one trusted owner. "
            "`docker`: a container each, with limits and network rules, for a group."
        ),
        examples=["process"],
        json_schema_extra={"expects": "one of process, docker"},
    )
    server: Annotated[ServerSettings, EmptyIsDefault] = Field(
        default_factory=ServerSettings,
        title="Server",
        description="Where people reach the platform.",
    )
    sign_in: Annotated[SignInSettings, EmptyIsDefault] = Field(
        default_factory=SignInSettings,
        title="Sign-in",
        description="Who may come in, and how people show who they are.",
    )
    profile: Annotated[ProfileSettings, EmptyIsDefault] = Field(
        default_factory=ProfileSettings,
        title="Profile",
        description="What a person may use at a time.",
    )
    profiles: list[NamedProfileSettings] = Field(
        default_factory=list,
        title="Profiles",
        description="What certain people may use instead; where several fit, the first counts.",
        json_schema_extra={"expects": "a list of profiles"},
    )
    teams: list[TeamSettings] = Field(
        default_factory=list,
        title="Teams",
        description=(
            "Teams that have a share of the batch engines of their own. The jobs of all other teams count for who starts them."
        ),
        json_schema_extra={"expects": "a list of teams"},
    )
    docker: Annotated[DockerSettings, EmptyIsDefault] = Field(
        default_factory=DockerSettings,
        title="Docker",
        description="The engine of the driver `docker`, and how its sessions are kept apart.",
    )
    sessions: Annotated[SessionSettings, EmptyIsDefault] = Field(
        default_factory=SessionSettings,
        title="Sessions",
        description="How sessions end, and what is kept of them.",
    )
    quotas: Annotated[QuotaSettings, EmptyIsDefault] = Field(
        default_factory=QuotaSettings,
        title="Quotas",
        description="How much homes and team volumes may hold.",
    )
    prices: Annotated[PriceSettings, EmptyIsDefault] = Field(
        default_factory=PriceSettings,
        title="Prices",
        description="What an hour of a session costs.",
    )
    database: Annotated[DatabaseSettings, EmptyIsDefault] = Field(
        default_factory=DatabaseSettings,
        title="Database",
        description="Where hub and portal keep their tables.",
    )
    engines: Annotated[EngineSettings, EmptyIsDefault] = Field(
        default_factory=EngineSettings,
        title="Batch engines",
        description="What runs jobs.",
    )
    notifications: Annotated[NotificationSettings, EmptyIsDefault] = Field(
        default_factory=NotificationSettings,
        title="Notifications",
        description="How people are told that a job has ended, beside the pages.",
    )
    sample_archive: bool = Field(
        default=True,
        title="Sample archive",
        description="Whether to make the sample data at first start and offer them as the volume `sample-archive`.",
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    datalabs: list[UserPath] = Field(
        default_factory=list,
        title="Datalabs",
        description=(
            "Folders of datalabs of your own, each with datalab.yaml and Dockerfile; the folder's name is that of the "
            "datalab, and one that bears the name of a shipped datalab stands in for it."
        ),
        examples=[["/srv/datalabs/my-tool"]],
        json_schema_extra={"expects": "a list of folders", "default": "none"},
    )
    volumes: list[VolumeSettings] = Field(
        default_factory=list,
        title="Volumes",
        description="Folders, buckets and exports that sessions can mount.",
        json_schema_extra={"expects": "a list of volumes"},
    )
    custom_volumes: Annotated[CustomVolumeSettings, EmptyIsDefault] = Field(
        default_factory=CustomVolumeSettings,
        title="Volumes of people",
        description="The buckets that people add themselves.",
    )
    mounts: Annotated[MountSettings, EmptyIsDefault] = Field(
        default_factory=MountSettings,
        title="Mounts",
        description="How buckets and exports are kept mounted.",
    )
    folders: Annotated[FolderSettings, EmptyIsDefault] = Field(
        default_factory=FolderSettings,
        title="Folders",
        description="Parts of the state that lie elsewhere: on a larger disk, for instance.",
    )
    log: Annotated[LogSettings, EmptyIsDefault] = Field(
        default_factory=LogSettings,
        title="Log",
        description="What the platform writes about itself.",
    )

    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _https_is_for_everybody(cls, values: Any) -> Any:
        """Listen where browsers look for an address with https, unless somebody said otherwise."""
        if not isinstance(values, dict) or not str(values.get("url") or "").startswith("https:"):
            return values
        server = values.get("server") or {}
        if not isinstance(server, dict) or server.get("trusted_proxies"):
            return values
        everywhere = {"address": "0.0.0.0", "port": 443}  # noqa: S104 - HTTPS is for more than this machine
        return {**values, "server": {**everywhere, **server}}

    @model_validator(mode="after")
    def _volume_names_differ(self) -> Self:
        counts = Counter(volume.name for volume in self.volumes)
        for name, count in counts.items():
            if name in RESERVED_VOLUMES:
                raise ValueError(f'a volume is named "{name}", which Cupola uses itself; choose another name')
            if count > 1:
                raise ValueError(f'{count} volumes are named "{name}"; give each a name of its own')
        return self

    @model_validator(mode="after")
    def _teams_differ(self) -> Self:
        for name, count in Counter(team.name for team in self.teams).items():
            if count > 1:
                raise ValueError(
                    f'the team "{name}" is named {count} times; say what it may use in one place'
                )
        return self

    @model_validator(mode="after")
    def _engines_run_what_sessions_run_in(self) -> Self:
        """Say before the start, not at somebody's first job, that an engine cannot run the tasks of these sessions."""
        inside = self.compute is Compute.DOCKER
        if inside and self.engines.slurm is not None:
            raise ValueError(
                "compute is docker, and tasks on Slurm cannot have containers; remove engines.slurm or set compute to process"
            )
        pool = self.engines.htcondor
        if pool is not None and inside == (pool.universe == "vanilla"):
            fits = "docker or container" if inside else "vanilla"
            raise ValueError(
                f"compute is {self.compute} and engines.htcondor.universe is {pool.universe}; set the universe to {fits}"
            )
        return self

    @property
    def file(self) -> Path | None:
        """The file this was read from, absolute; nothing where there is none."""
        return self._file

    @property
    def address(self) -> str:
        """The address people open, without a slash at the end."""
        return self.url.rstrip("/") if self.url else self.server.url

    @property
    def paths(self) -> StatePaths:
        """The files and folders of the platform with this configuration."""
        return StatePaths(
            state=self.state.absolute(),
            other_homes=self.folders.homes,
            other_environments=self.folders.environments,
            other_images=self.folders.images,
        )
