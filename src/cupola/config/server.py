"""Settings of the running platform: where it listens, where it keeps things, how it logs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.config.base import Settings, UserPath

__all__ = ["Driver", "FolderSettings", "LogLevel", "LogSettings", "ServerSettings"]


class Driver(StrEnum):
    """What sessions run in."""

    PROCESS = "process"
    """Processes of this host: for one trusted owner."""


class LogLevel(StrEnum):
    """How much is written to the logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServerSettings(Settings):
    """Where people reach the platform."""

    address: str = Field(
        default="127.0.0.1",
        title="Listening address",
        description="The network address to listen on. The default can be reached from this machine only.",
        examples=["0.0.0.0"],  # noqa: S104 - an example of what a person may choose
        pattern=r"^[0-9A-Za-z.:-]+$",
        json_schema_extra={"expects": "an IP address or a host name"},
    )
    port: int = Field(
        default=8000,
        title="Port",
        description="The port to listen on.",
        examples=[8080],
        ge=1,
        le=65535,
        json_schema_extra={"expects": "a whole number from 1 to 65535"},
    )
    public_url: str | None = Field(
        default=None,
        title="Public address",
        description=(
            "The address that people type into their browser, where it is another one than the platform listens "
            "on: behind a reverse proxy, for instance."
        ),
        examples=["https://cupola.example.org"],
        pattern=r"^https?://[^\s/?#]+/?$",
        json_schema_extra={
            "expects": "an address with http:// or https:// and no path",
            "default": "the address the platform listens on",
        },
    )

    @property
    def url(self) -> str:
        """The address people open, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on
        host = everywhere.get(self.address, self.address)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class FolderSettings(Settings):
    """Folders that may lie elsewhere than in the state folder: on a larger disk, for instance."""

    environments: UserPath | None = Field(
        default=None,
        title="Environments",
        description="Where the locked environments of the datalabs are built.",
        examples=["/data/cupola/environments"],
        json_schema_extra={"expects": "a folder", "default": "`environments` in the state folder"},
    )
    homes: UserPath | None = Field(
        default=None,
        title="Homes",
        description="Where the home folders of sessions lie.",
        examples=["/data/cupola/homes"],
        json_schema_extra={"expects": "a folder", "default": "`homes` in the state folder"},
    )


class LogSettings(Settings):
    """What the platform writes about itself."""

    level: LogLevel = Field(
        default=LogLevel.INFO,
        strict=False,
        title="Level",
        description="How much the hub and the portal write into the log folder.",
        examples=["debug"],
        json_schema_extra={"expects": "one of debug, info, warning, error"},
    )
