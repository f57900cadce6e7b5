"""Settings of the driver ``docker``: which engine, and how sessions are kept apart."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.config.base import Settings

__all__ = ["DockerSettings", "NetworkKind"]


class NetworkKind(StrEnum):
    """What the network of the sessions can reach beside the platform."""

    OUTSIDE = "outside"
    """Addresses outside, as `allow` and `block` say; session ports are published on the host's loopback."""
    INTERNAL = "internal"
    """Nothing."""


class DockerSettings(Settings):
    """The Docker engine and what its containers may do."""

    host: str = Field(
        default="unix:///var/run/docker.sock",
        title="Engine",
        description="Where the Docker engine listens.",
        examples=["unix:///run/user/1000/docker.sock"],
        pattern=r"^unix:///\S+$",
        json_schema_extra={"expects": "unix:// and the path of a socket"},
    )
    base: str = Field(
        default="debian:bookworm-slim",
        title="Base image",
        description=(
            "What the images of the datalabs begin with: the name of a Debian 12 image. Where it can be had from no "
            "registry, `cupola build` makes it with mmdebstrap from Debian's packages."
        ),
        examples=["debian:bookworm-slim"],
        pattern=r"^[a-z0-9][a-z0-9._/:@-]*$",
        json_schema_extra={"expects": "the name of an image"},
    )
    build: bool = Field(
        default=True,
        title="Build all",
        description=(
            "Whether `cupola up` builds the other shipped datalabs in the background too; else `cupola build` does it "
            "when you want it."
        ),
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    registry: str | None = Field(
        default=None,
        title="Registry",
        description=(
            "Where `cupola build` puts the images too, and where they are pulled from when the engine has lost them: "
            "a server and, if you like, a path there. Sign in with `docker login` first."
        ),
        examples=["registry.example.org/cupola"],
        pattern=r"^[a-z0-9-]*([.:][a-z0-9-]+)+(/[a-z0-9._-]+)*$",
        json_schema_extra={"expects": "the name of a server and a path", "default": "none"},
    )
    network: NetworkKind = Field(
        default=NetworkKind.OUTSIDE,
        strict=False,
        title="Network",
        description=(
            "`outside`: sessions reach the platform and addresses outside, but no private network. `internal`: "
            "sessions reach the platform only."
        ),
        examples=["internal"],
        json_schema_extra={"expects": "one of outside, internal"},
    )
    allow: list[str] = Field(
        default_factory=list,
        title="Allowed networks",
        description="Private networks that sessions may reach all the same, such as that of an archive's server.",
        examples=[["10.20.0.0/16"]],
        json_schema_extra={"expects": "a list of network addresses", "default": "none"},
    )
    block: list[str] = Field(
        default_factory=list,
        title="Blocked networks",
        description="Further networks that sessions may not reach.",
        examples=[["192.0.2.0/24"]],
        json_schema_extra={"expects": "a list of network addresses", "default": "none"},
    )
    subnet: str | None = Field(
        default=None,
        title="Subnet",
        description="The addresses of the sessions' network.",
        examples=["10.88.0.0/16"],
        json_schema_extra={"expects": "a network address", "default": "the engine chooses"},
    )
    cores: float = Field(
        default=1.0,
        title="Cores of a session",
        description="How many cores a session gets where neither its owner nor its datalab says.",
        examples=[2],
        gt=0,
        json_schema_extra={"expects": "a number"},
    )
    memory_mib: int = Field(
        default=2048,
        title="Memory of a session in MiB",
        description="How much memory a session gets where neither its owner nor its datalab says.",
        examples=[4096],
        ge=256,
        json_schema_extra={"expects": "a whole number of MiB, at least 256"},
    )
    overcommit: float = Field(
        default=4.0,
        title="Promises per core",
        description=(
            "To how many sessions each core may be promised: most sessions are idle most of the time. Memory and GPUs "
            "are promised once."
        ),
        examples=[1],
        ge=1,
        le=100,
        json_schema_extra={"expects": "a number from 1 to 100"},
    )
    processes: int = Field(
        default=2048,
        title="Processes",
        description="How many processes and threads a session may have at a time.",
        examples=[512],
        ge=64,
        json_schema_extra={"expects": "a whole number, at least 64"},
    )
    scratch_mib: int = Field(
        default=1024,
        title="Scratch space in MiB",
        description="The size of /tmp in a session; it is kept in memory and counts there.",
        examples=[4096],
        ge=16,
        json_schema_extra={"expects": "a whole number of MiB, at least 16"},
    )
    gpus: int = Field(
        default=0,
        title="GPUs",
        description="How many GPUs of this machine sessions may use together.",
        examples=[2],
        ge=0,
        json_schema_extra={"expects": "a whole number"},
    )
