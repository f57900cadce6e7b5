"""Settings of what people may use: profiles and batch engines."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cupola.config.base import EmptyIsDefault, Settings, cores_here, memory_here

__all__ = ["EngineSettings", "LocalEngineSettings", "ProfileSettings"]


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
        description="How many processor cores a person may use.",
        examples=[4],
        ge=1,
        json_schema_extra={"expects": "a whole number, at least 1", "default": "all cores of this machine"},
    )
    memory_mib: int = Field(
        default_factory=memory_here,
        title="Memory in MiB",
        description="How much memory a person may use, in MiB (1024 MiB are 1 GiB).",
        examples=[8192],
        ge=256,
        json_schema_extra={
            "expects": "a whole number of MiB, at least 256",
            "default": "all memory of this machine",
        },
    )


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


class EngineSettings(Settings):
    """The batch engines that run jobs."""

    local: Annotated[LocalEngineSettings, EmptyIsDefault] = Field(
        default_factory=LocalEngineSettings,
        title="Local engine",
        description="The embedded engine: a pool of processes on this machine.",
    )
