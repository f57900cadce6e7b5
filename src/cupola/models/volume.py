"""Volumes: data areas that can be mounted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from cupola.models.base import Model, Slug, Time

__all__ = [
    "Access",
    "Bucket",
    "CollectionSummary",
    "Export",
    "Mount",
    "NewVolume",
    "Visibility",
    "Volume",
    "VolumeChange",
    "VolumeKind",
    "VolumeUse",
]


class VolumeKind(StrEnum):
    """What a volume is for."""

    HOME = "home"
    ARCHIVE = "archive"
    TEAM = "team"
    CUSTOM = "custom"
    """Added by a user."""


class Access(StrEnum):
    """What a session may do with a volume."""

    READ = "read"
    WRITE = "write"


class Visibility(StrEnum):
    """Who finds a volume in the catalogue of data."""

    OWNER = "owner"
    TEAM = "team"
    EVERYBODY = "everybody"


class Bucket(Model):
    """An object store's bucket that is mounted as a folder (S3)."""

    endpoint: str
    """Such as ``https://s3.eu-central-1.example.org``."""
    bucket: str
    prefix: str = ""
    region: str = ""
    anonymous: bool = True
    """Read without keys; else the platform has them in its secrets."""


class Export(Model):
    """A folder that another machine exports (NFS)."""

    server: str
    path: str
    options: str = ""


class CollectionSummary(Model):
    """A STAC collection found in a volume."""

    id: str
    title: str
    items: int
    bands: list[str] = Field(default_factory=list)
    """Names by which bands can be asked for, in the order of the assets."""
    body: str = "Earth"
    folder: str = ""
    """Relative to the volume."""


class Volume(Model):
    """A data area that can be mounted."""

    name: Slug
    title: str
    description: str = ""
    kind: VolumeKind
    source: Path
    """Where it lies on this host; for a bucket or an export, where it is mounted."""
    bucket: Bucket | None = None
    export: Export | None = None
    access: Access = Access.READ
    mission: str = ""
    instrument: str = ""
    body: str = ""
    """The celestial body it is about, as the IAU names it."""
    licence: str = ""
    citation: str = ""
    tags: list[str] = Field(default_factory=list)
    example: str | None = None
    """A notebook that shows how to use it, relative to the volume."""
    notebooks: str | None = None
    """A folder with more notebooks, relative to the volume."""
    variable: str | None = None
    """The environment variable that tells sessions where they find it."""
    owner: str | None = None
    """Who added it; nothing for those of the platform."""
    team: str | None = None
    """Whose team's it is."""
    visibility: Visibility = Visibility.EVERYBODY
    created: Time | None = None
    pending: bool = False
    """Whether it waits for an administrator to offer it to everybody; until then its owner alone finds it."""
    size_bytes: int | None = None
    size_exact: bool = True
    """Whether all of it was counted; else it holds at least so much."""
    limit_bytes: int | None = None
    """The quota, where it has one."""
    always: bool = False
    """Whether every session mounts it without asking, as reference data are."""
    collections: list[CollectionSummary] = Field(default_factory=list)
    looking: str | None = None
    """What is being found out about it just now, in a sentence."""
    unavailable: str | None = None
    """Why it cannot be reached now, in a sentence; nothing where it can."""


class VolumeChange(Model):
    """What is to be changed of a volume that somebody added; what is not given stays."""

    title: str | None = Field(default=None, min_length=1, max_length=100)
    description: str | None = Field(default=None, max_length=20_000)
    mission: str | None = Field(default=None, max_length=100)
    instrument: str | None = Field(default=None, max_length=100)
    body: str | None = Field(default=None, max_length=100)
    licence: str | None = Field(default=None, max_length=200)
    citation: str | None = Field(default=None, max_length=2_000)
    tags: list[str] | None = Field(default=None, max_length=30)
    example: str | None = Field(default=None, max_length=500)
    """An empty text takes it away."""
    team: str | None = None
    visibility: Visibility | None = None
    key_id: str | None = Field(default=None, repr=False)
    key_secret: str | None = Field(default=None, repr=False)
    """New keys: both or none."""
    approve: bool = False
    """Offer it to everybody, as its owner asked; for administrators."""


class NewVolume(Model):
    """What a person gives to add a volume; exactly one of `bucket` and `export` (or, for operators, `path`)."""

    name: Slug
    title: str = Field(min_length=1, max_length=100)
    description: str = ""
    bucket: Bucket | None = None
    export: Export | None = None
    path: Path | None = None
    key_id: str | None = Field(default=None, repr=False)
    """Of a bucket that is not anonymous. Both go into the platform's secrets and are never shown again."""
    key_secret: str | None = Field(default=None, repr=False)
    mission: str = ""
    instrument: str = ""
    body: str = ""
    licence: str = ""
    citation: str = ""
    tags: list[str] = Field(default_factory=list)
    example: str | None = None
    team: Slug | None = None
    visibility: Visibility = Visibility.OWNER
    """Anything but ``owner`` needs an example notebook."""


class VolumeUse(Model):
    """Who uses a volume just now."""

    person: str
    session: Slug
    since: Time


class Mount(Model):
    """A volume as one session sees it."""

    volume: Slug
    source: Path
    """Where the session's own file system has it: for a process a folder of the host, in a container below ``/volumes``."""
    target: Path
    """Where its user finds it: ``~/volumes/NAME``, a link to `source`."""
    access: Access
    variable: str | None = None
    """The environment variable that holds `source`, for reference data that programs look for there."""
