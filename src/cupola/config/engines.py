"""Settings of the batch engines: where each scheduler is, and what its administrator adds."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cupola.config.base import EmptyIsDefault, Settings, UserPath, cores_here
from cupola.models.base import Slug

__all__ = ["EngineSettings", "HTCondorSettings", "LocalEngineSettings", "SlurmSettings"]


class LocalEngineSettings(Settings):
    """The embedded batch engine: a pool of processes on this machine."""

    cores: int = Field(
        default_factory=cores_here,
        title="Cores",
        description="How many cores the tasks of all jobs together may use.",
        examples=[2],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "all cores of this machine"},
    )


class HTCondorSettings(Settings):
    """An HTCondor pool whose nodes see the homes and environments at the same paths."""

    config: UserPath = Field(
        title="Configuration",
        description="HTCondor's own configuration file of a client: it says where the pool is.",
        examples=["/etc/condor/condor_config"],
        json_schema_extra={"expects": "a file"},
    )
    tokens: UserPath | None = Field(
        default=None,
        title="Tokens",
        description=(
            "A folder with a folder of tokens per person, `PERSON/NAME`: tasks run as who a person's token says. "
            "Without it all tasks run as who the platform's own token says."
        ),
        examples=["/etc/cupola/condor-tokens"],
        json_schema_extra={"expects": "a folder", "default": "the platform submits for all"},
    )
    group: str | None = Field(
        default=None,
        title="Accounting group",
        description=(
            "The accounting group of the platform's jobs; a job that counts for a team is in the group of that name below it."
        ),
        examples=["group_cupola"],
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$",
        json_schema_extra={
            "expects": "a name of letters, digits, dots, hyphens and underscores",
            "default": "no group",
        },
    )
    universe: str = Field(
        default="vanilla",
        title="Universe",
        description=(
            "What tasks run in. `vanilla`: the locked environment on storage that all nodes share. `docker`, `container`: "
            "the image of the session's version, which the nodes get from the registry."
        ),
        examples=["docker"],
        pattern=r"^(vanilla|docker|container)$",
        json_schema_extra={"expects": "one of vanilla, docker, container"},
    )
    submit: dict[str, str] = Field(
        default_factory=dict,
        title="Submit commands",
        description="What is added to each submit description; it wins over Cupola's own.",
        examples=[{"requirements": "OpSysMajorVer >= 12"}],
        json_schema_extra={"expects": "names and texts", "default": "none"},
    )


class SlurmSettings(Settings):
    """A Slurm cluster whose nodes see the homes and environments at the same paths."""

    config: UserPath | None = Field(
        default=None,
        title="Configuration",
        description="Slurm's configuration file, where it is not the host's own.",
        examples=["/etc/slurm/slurm.conf"],
        json_schema_extra={"expects": "a file", "default": "the host's own"},
    )
    programs: UserPath | None = Field(
        default=None,
        title="Programs",
        description="The folder of Slurm's commands, where they are not on the platform's path.",
        examples=["/opt/slurm/bin"],
        json_schema_extra={"expects": "a folder", "default": "the platform's path"},
    )
    as_person: bool = Field(
        default=False,
        title="As the person",
        description=(
            "Whether tasks run as the system account of the person's name; the platform must be root then. Else they run as the "
            "account of the platform."
        ),
        examples=[True],
        json_schema_extra={"expects": "true or false"},
    )
    account: str | None = Field(
        default=None,
        title="Account",
        description=(
            "The Slurm account of jobs that count for no team; one that counts for a team has the account of the team's name. "
            "Without it no account is named."
        ),
        examples=["cupola"],
        json_schema_extra={"expects": "the name of an account", "default": "no account"},
    )
    options: list[str] = Field(
        default_factory=list,
        title="Options",
        description="What is added to each `sbatch`.",
        examples=[["--partition=short"]],
        json_schema_extra={"expects": "a list of options", "default": "none"},
    )


class EngineSettings(Settings):
    """The batch engines that run jobs."""

    default: Slug = Field(
        default="local",
        title="Default engine",
        description="The engine that runs a job whose owner names none.",
        examples=["htcondor"],
        json_schema_extra={"expects": "one of the engines that are set up"},
    )
    local: Annotated[LocalEngineSettings, EmptyIsDefault] = Field(
        default_factory=LocalEngineSettings,
        title="Local engine",
        description="The embedded engine: a pool of processes on this machine.",
    )
    htcondor: HTCondorSettings | None = Field(
        default=None,
        title="HTCondor",
        description="An HTCondor pool.",
        json_schema_extra={"default": "no HTCondor"},
    )
    slurm: SlurmSettings | None = Field(
        default=None,
        title="Slurm",
        description="A Slurm cluster; `slurm: {}` takes the host's own configuration.",
        json_schema_extra={"default": "no Slurm"},
    )

    @model_validator(mode="after")
    def _default_is_set_up(self) -> Self:
        known = [
            name for name in type(self).model_fields if name != "default" and getattr(self, name) is not None
        ]
        if self.default not in known:
            raise ValueError(f"there is no engine {self.default!r} here: use {' or '.join(known)}")
        return self
