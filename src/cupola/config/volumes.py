"""Settings of volumes: the data areas that sessions can mount."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from cupola.config.base import Settings, UserPath
from cupola.models.base import Slug
from cupola.models.volume import Access

__all__ = [
    "BucketSettings",
    "CustomVolumeSettings",
    "ExportSettings",
    "MountSettings",
    "VolumeSettings",
    "host_or_network",
]

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?")


def _relative(value: str) -> str:
    """Return a path below a volume; nothing in it may lead out."""
    parts = value.split("/")
    if not value or value.startswith("/") or "\0" in value or any(part in {"", ".", ".."} for part in parts):
        raise ValueError("no relative path")
    return value


Below = Annotated[str, AfterValidator(_relative)]
"""A path relative to the volume."""


def host_or_network(value: str) -> str:
    """Return the name of a host, or a network."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        if not _HOST.fullmatch(value):
            raise
    return value


class BucketSettings(Settings):
    """A bucket of an object store (S3)."""

    endpoint: str = Field(
        title="Endpoint",
        description="The address of the object store.",
        examples=["https://s3.eu-central-1.example.org"],
        pattern=r"^https?://[^\s/?#@]+/?$",
        json_schema_extra={"expects": "an address with https:// or http:// and no path"},
    )
    bucket: str = Field(
        title="Bucket",
        description="The name of the bucket.",
        examples=["hst-public"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$",
        json_schema_extra={"expects": "3 to 63 letters, digits, dots and hyphens"},
    )
    prefix: Annotated[str, AfterValidator(lambda value: value and _relative(value))] = Field(
        default="",
        title="Prefix",
        description="The folder in the bucket that is shown; all of it where nothing is said.",
        examples=["public/acs"],
        json_schema_extra={"expects": "a relative path without . and .."},
    )
    region: str = Field(
        default="",
        title="Region",
        description="The region of the store, where it has regions.",
        examples=["eu-central-1"],
        pattern=r"^[a-z0-9-]*$",
        json_schema_extra={"expects": "small letters, digits and hyphens"},
    )
    keys: UserPath | None = Field(
        default=None,
        title="File with the keys",
        description=(
            "Where the keys lie, in the form of AWS's credentials file, readable by the platform's account only; "
            "the bucket is read without keys where nothing is said."
        ),
        examples=["secrets/hst.ini"],
        json_schema_extra={"expects": "a file"},
    )


class ExportSettings(Settings):
    """A folder that another machine exports (NFS)."""

    server: str = Field(
        title="Server",
        description="The name or address of the machine.",
        examples=["nas.example.org"],
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])$",
        json_schema_extra={"expects": "a host name or address"},
    )
    path: str = Field(
        title="Path",
        description="The folder that it exports.",
        examples=["/export/mars"],
        pattern=r"^/[^\x00-\x20]*$",
        json_schema_extra={"expects": "an absolute path without spaces"},
    )
    options: str = Field(
        default="",
        title="Options",
        description="More options of mount.nfs; `soft` and time-outs are set already.",
        examples=["vers=4.2,nconnect=4"],
        pattern=r"^[A-Za-z0-9=_.,:/@-]*$",
        json_schema_extra={"expects": "options with commas between them"},
    )


class VolumeSettings(Settings):
    """A folder, a bucket or an export that is offered in the data catalogue."""

    name: Slug = Field(
        title="Name",
        description="The name in addresses and in sessions, where the volume is found as `~/volumes/NAME`.",
        examples=["mars-archive"],
        json_schema_extra={
            "expects": "small letters, digits and single hyphens, a letter first, at most 40 characters"
        },
    )
    title: str = Field(
        title="Title",
        description="The name for people.",
        examples=["Mars archive"],
        min_length=1,
        max_length=100,
        json_schema_extra={"expects": "text of 1 to 100 characters"},
    )
    description: str = Field(
        default="",
        title="Description",
        description="What lies in it, in Markdown.",
        examples=["Calibrated images of one orbiter, as ISIS cubes with STAC items."],
        json_schema_extra={"expects": "text"},
    )
    path: UserPath | None = Field(
        default=None,
        title="Folder",
        description=(
            "Where it lies on this machine; a relative path starts at the folder of cupola.yaml. "
            "A volume has one of `path`, `bucket` and `export`."
        ),
        examples=["/data/mars"],
        json_schema_extra={"expects": "a folder"},
    )
    bucket: BucketSettings | None = Field(
        default=None,
        title="Bucket",
        description="The bucket of an object store (S3) that it is, instead of a folder.",
        json_schema_extra={"alternative": True},
    )
    export: ExportSettings | None = Field(
        default=None,
        title="Export",
        description="The folder of another machine (NFS) that it is, instead of a folder of this one.",
        json_schema_extra={"alternative": True},
    )
    access: Access = Field(
        default=Access.READ,
        strict=False,
        title="Access",
        description="Whether sessions may change it.",
        examples=["read"],
        json_schema_extra={"expects": "one of read, write"},
    )
    mission: str = Field(
        default="",
        title="Mission",
        description="The mission that the data come from.",
        examples=["Mars Express"],
        json_schema_extra={"expects": "text"},
    )
    instrument: str = Field(
        default="",
        title="Instrument",
        description="The instrument that the data come from.",
        examples=["HRSC"],
        json_schema_extra={"expects": "text"},
    )
    body: str = Field(
        default="",
        title="Body",
        description="The celestial body that the data are about, as the IAU names it.",
        examples=["Mars"],
        json_schema_extra={"expects": "text"},
    )
    licence: str = Field(
        default="",
        title="Licence",
        description="The licence of the data, as people should quote it.",
        examples=["CC-BY-4.0"],
        json_schema_extra={"expects": "text"},
    )
    citation: str = Field(
        default="",
        title="Citation",
        description="How to cite the data.",
        examples=["A. Author (2026), Mars archive, doi:10.0000/example"],
        json_schema_extra={"expects": "text"},
    )
    tags: list[str] = Field(
        default_factory=list,
        title="Tags",
        description="Words to find it by.",
        examples=[["imaging", "calibrated"]],
        json_schema_extra={"expects": "a list of words"},
    )
    example: Below | None = Field(
        default=None,
        title="Example",
        description="A notebook that shows how to use it, relative to the volume.",
        examples=["examples/first-look.ipynb"],
        json_schema_extra={"expects": "a relative path without . and .."},
    )
    notebooks: Below | None = Field(
        default=None,
        title="Notebooks",
        description="A folder with more notebooks for those who use it, relative to the volume.",
        examples=["examples"],
        json_schema_extra={"expects": "a relative path without . and .."},
    )
    always: bool = Field(
        default=False,
        title="Always",
        description="Whether every session mounts it without asking, as reference data are (SPICE kernels, ISISDATA).",
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    variable: str | None = Field(
        default=None,
        title="Variable",
        description="The environment variable that tells sessions where they find it, such as `ISISDATA`.",
        examples=["MARS_DATA"],
        pattern=r"^[A-Z][A-Z0-9_]{0,63}$",
        json_schema_extra={"expects": "capital letters, digits and underscores, a letter first"},
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [name for name in ("path", "bucket", "export") if getattr(self, name) is not None]
        if not places:
            raise ValueError('it needs one of "path", "bucket" and "export": say where its data lie')
        if len(places) > 1:
            raise ValueError(f"it has {' and '.join(places)}: keep the one that says where its data lie")
        return self

    @model_validator(mode="after")
    def _no_variable_of_others(self) -> Self:
        if self.variable and (
            self.variable in _TAKEN_VARIABLES or self.variable.startswith(_TAKEN_BEGINNINGS)
        ):
            raise ValueError(
                f'it has the variable "{self.variable}", which the session itself needs: choose another one'
            )
        return self


_TAKEN_VARIABLES = frozenset({"HOME", "PATH", "LANG", "USER", "SHELL", "TERM", "TMPDIR", "PWD"})
_TAKEN_BEGINNINGS = ("CUPOLA_", "JUPYTER", "LD_", "PYTHON", "XDG_")


class MountSettings(Settings):
    """How buckets are mounted."""

    cache_gib: int = Field(
        default=10,
        title="Cache",
        description="How much of one bucket may be kept on this machine's disk at a time, in GiB.",
        examples=[100],
        ge=1,
        json_schema_extra={"expects": "a whole number from 1"},
    )
    idle_minutes: int = Field(
        default=15,
        title="Idle time",
        description="How long a bucket or an export that no session uses stays mounted, in minutes.",
        examples=[60],
        ge=1,
        json_schema_extra={"expects": "a whole number from 1"},
    )


class CustomVolumeSettings(Settings):
    """The volumes that people add themselves."""

    enabled: bool = Field(
        default=True,
        title="Enabled",
        description="Whether people may add buckets; operators may in any case.",
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    per_person: int = Field(
        default=20,
        title="Per person",
        description="How many volumes one person may add.",
        examples=[5],
        ge=0,
        json_schema_extra={"expects": "a whole number from 0"},
    )
    allow: list[Annotated[str, AfterValidator(host_or_network)]] = Field(
        default_factory=list,
        title="Allowed hosts",
        description=(
            "Hosts and networks that people's buckets may lie on though they are private, or speak http without "
            "encryption. Without it a bucket must be at a public address, with https."
        ),
        examples=[["minio.example.org", "10.20.0.0/16"]],
        json_schema_extra={"expects": "a list of host names and networks", "default": "none"},
    )
