"""Settings of what people may use: profiles and batch engines."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.config.base import Settings, cores_here, memory_here
from cupola.models.base import Slug

__all__ = [
    "NamedProfileSettings",
    "PriceSettings",
    "ProfileSettings",
    "QuotaKind",
    "QuotaSettings",
    "TeamSettings",
]


class ProfileSettings(Settings):
    """What a person may use at a time."""

    sessions: int = Field(
        default=5,
        title="Sessions",
        description="How many sessions a person may have at a time, over all datalabs.",
        examples=[3],
        ge=1,
        le=1000,
        json_schema_extra={"expects": "a whole number from 1 to 1000"},
    )
    cores: int = Field(
        default_factory=cores_here,
        title="Cores",
        description="How many processor cores one session of a person may have.",
        examples=[4],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "all cores of this machine"},
    )
    memory_mib: int = Field(
        default_factory=memory_here,
        title="Memory in MiB",
        description="How much memory one session of a person may have, in MiB (1024 MiB are 1 GiB).",
        examples=[8192],
        ge=256,
        json_schema_extra={
            "expects": "a whole number of MiB, at least 256",
            "default": "all memory of this machine",
        },
    )
    gpus: int = Field(
        default=0,
        title="GPUs",
        description="How many GPUs one session of a person may have.",
        examples=[1],
        ge=0,
        json_schema_extra={"expects": "a whole number"},
    )
    job_cores: int | None = Field(
        default=None,
        title="Cores of jobs",
        description="How many cores the tasks of all jobs of a person may use at a time.",
        examples=[64],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "as many as the engines have"},
    )
    core_hours: float | None = Field(
        default=None,
        title="Core-hours",
        description="How many core-hours the jobs of a person may use in 30 days.",
        examples=[500.0],
        gt=0,
        json_schema_extra={"expects": "a number of hours", "default": "no limit"},
    )


class NamedProfileSettings(Settings):
    """What certain people may use instead; where several fit, the first counts."""

    name: Slug = Field(
        title="Name",
        description="The name that people see.",
        examples=["large"],
        json_schema_extra={"expects": "small letters, digits and single hyphens, a letter first"},
    )
    people: list[str] = Field(
        default_factory=list,
        title="People",
        description="User names it holds for.",
        examples=[["maria"]],
        json_schema_extra={"expects": "a list of user names"},
    )
    teams: list[str] = Field(
        default_factory=list,
        title="Teams",
        description="Teams whose members it holds for.",
        examples=[["mars-mappers"]],
        json_schema_extra={"expects": "a list of teams"},
    )
    sessions: int | None = Field(
        default=None,
        title="Sessions",
        description="How many sessions a person may have at a time; what is left out is as in `profile`.",
        examples=[10],
        ge=1,
        le=1000,
        json_schema_extra={"expects": "a whole number from 1 to 1000"},
    )
    cores: float | None = Field(
        default=None,
        title="Cores",
        description="Most cores of one session.",
        examples=[8],
        gt=0,
        json_schema_extra={"expects": "a number"},
    )
    memory_mib: int | None = Field(
        default=None,
        title="Memory in MiB",
        description="Most memory of one session.",
        examples=[32768],
        ge=256,
        json_schema_extra={"expects": "a whole number of MiB, at least 256"},
    )
    gpus: int | None = Field(
        default=None,
        title="GPUs",
        description="Most GPUs of one session.",
        examples=[1],
        ge=0,
        json_schema_extra={"expects": "a whole number"},
    )
    home_gib: float | None = Field(
        default=None,
        title="Home in GiB",
        description="Most that the home may hold.",
        examples=[200],
        gt=0,
        json_schema_extra={"expects": "a number of GiB"},
    )
    job_cores: int | None = Field(
        default=None,
        title="Cores of jobs",
        description="Most cores that the tasks of all jobs of a person use at a time.",
        examples=[200],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "as in `profile`"},
    )
    core_hours: float | None = Field(
        default=None,
        title="Core-hours",
        description="Most core-hours of jobs in 30 days.",
        examples=[5000],
        gt=0,
        json_schema_extra={"expects": "a number of hours", "default": "as in `profile`"},
    )


class TeamSettings(Settings):
    """What the jobs of a team may use: those that say `team=` count for it, and not for who starts them."""

    name: Slug = Field(
        title="Name",
        description="The team.",
        examples=["mars-mappers"],
        json_schema_extra={"expects": "the name of a team"},
    )
    job_cores: int | None = Field(
        default=None,
        title="Cores of jobs",
        description="How many cores the tasks of all jobs of the team may use at a time.",
        examples=[200],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "as many as the engines have"},
    )
    core_hours: float | None = Field(
        default=None,
        title="Core-hours",
        description="How many core-hours the jobs of the team may use in 30 days.",
        examples=[20000],
        gt=0,
        json_schema_extra={"expects": "a number of hours", "default": "no limit"},
    )


class PriceSettings(Settings):
    """What an hour costs: sessions show what they have cost so far."""

    currency: str = Field(
        default="",
        title="Currency",
        description="What prices are in; where it is empty no cost is shown.",
        examples=["EUR"],
        max_length=10,
        json_schema_extra={"expects": "text of at most 10 characters"},
    )
    core_hour: float = Field(
        default=0.0,
        title="Core hour",
        description="The price of one core for an hour.",
        examples=[0.02],
        ge=0,
        json_schema_extra={"expects": "a number"},
    )
    gib_hour: float = Field(
        default=0.0,
        title="Memory hour",
        description="The price of one GiB of memory for an hour.",
        examples=[0.003],
        ge=0,
        json_schema_extra={"expects": "a number"},
    )
    gpu_hour: float = Field(
        default=0.0,
        title="GPU hour",
        description="The price of one GPU for an hour.",
        examples=[0.9],
        ge=0,
        json_schema_extra={"expects": "a number"},
    )


class QuotaKind(StrEnum):
    """What holds people to their share of the disk."""

    NONE = "none"
    """Nothing: usage is shown, and no limit."""
    BTRFS = "btrfs"
    """Subvolumes with quota groups; homes and team volumes lie on btrfs."""
    XFS = "xfs"
    """Project quotas; homes and team volumes lie on XFS, mounted with prjquota."""
    LOOP = "loop"
    """A file system of fixed size in a file per home: anywhere, and slow to grow."""


class QuotaSettings(Settings):
    """How much homes and team volumes may hold."""

    kind: QuotaKind = Field(
        default=QuotaKind.NONE,
        strict=False,
        title="Kind",
        description="What enforces the limits: it depends on the file system of the homes.",
        examples=["btrfs"],
        json_schema_extra={"expects": "one of none, btrfs, xfs, loop"},
    )
    home_gib: float = Field(
        default=20.0,
        title="Homes in GiB",
        description="Most that a home may hold; a profile may say otherwise.",
        examples=[50],
        gt=0,
        json_schema_extra={"expects": "a number of GiB"},
    )
    team_gib: float = Field(
        default=100.0,
        title="Team volumes in GiB",
        description="Most that a team's volume may hold.",
        examples=[500],
        gt=0,
        json_schema_extra={"expects": "a number of GiB"},
    )
    files_per_gib: int = Field(
        default=100_000,
        title="Files per GiB",
        description=(
            "How many files and folders a home or a team volume may hold for each GiB of its limit, where the file "
            "system counts them (xfs, loop); on btrfs files cost room instead."
        ),
        examples=[65_000],
        ge=1000,
        json_schema_extra={"expects": "a whole number, at least 1000"},
    )
