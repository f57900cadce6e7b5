"""Settings of the running platform: where it listens, where it keeps things, how it logs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.config.base import Settings, UserPath

__all__ = ["Compute", "DatabaseSettings", "FolderSettings", "LogLevel", "LogSettings", "ServerSettings"]


class Compute(StrEnum):
    """What sessions run in."""

    PROCESS = "process"
    """Processes of this host: for one trusted owner."""
    DOCKER = "docker"
    """A container each: for a group."""


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
        json_schema_extra={
            "expects": "a whole number from 1 to 65535",
            "default": "8000; 443 where `url` begins with https and no proxy is in front",
        },
    )
    redirect_port: int | None = Field(
        default=80,
        title="Port of plain HTTP",
        description=(
            "Where `url` begins with https and the platform itself speaks it: the port on which plain HTTP is led to "
            "HTTPS, and on which a certificate authority looks. `null`: none, and the authority looks on `port`."
        ),
        examples=[8080],
        ge=1,
        le=65535,
        json_schema_extra={"expects": "a whole number from 1 to 65535, or null"},
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        title="Trusted proxies",
        description=(
            "The network addresses of the reverse proxy in front of the platform, if there is one: what it says "
            "about the browser (X-Forwarded-For, X-Forwarded-Proto) is believed, and HTTPS is its business."
        ),
        examples=[["127.0.0.1/32"]],
        json_schema_extra={"expects": "a list of network addresses", "default": "none: no proxy is in front"},
    )
    certificate: UserPath | None = Field(
        default=None,
        title="Certificate",
        description="A file with the certificate and its chain (PEM), where the platform is not to get one itself.",
        examples=["/etc/cupola/tls/fullchain.pem"],
        json_schema_extra={
            "expects": "a file",
            "default": "none: it is fetched where `url` begins with https",
        },
    )
    certificate_key: UserPath | None = Field(
        default=None,
        title="Key of the certificate",
        description="A file with the private key (PEM) of `certificate`.",
        examples=["/etc/cupola/tls/key.pem"],
        json_schema_extra={"expects": "a file", "default": "none"},
    )
    acme_email: str | None = Field(
        default=None,
        title="Address for the certificate",
        description="The mail address that the certificate authority writes to before a certificate ends.",
        examples=["it@example.org"],
        pattern=r"^[^@\s]+@[^@\s]+$",
        json_schema_extra={"expects": "a mail address", "default": "none is given"},
    )
    acme_server: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        title="Certificate authority",
        description="The ACME directory that certificates are fetched from.",
        examples=["https://ca.example.org/acme/directory"],
        pattern=r"^https://\S+$",
        json_schema_extra={"expects": "an address with https://"},
    )

    @property
    def url(self) -> str:
        """The address it listens on as a browser of this machine writes it, without a slash at the end."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on
        host = everywhere.get(self.address, self.address)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class DatabaseSettings(Settings):
    """Where hub and portal keep their tables."""

    url_file: UserPath | None = Field(
        default=None,
        title="File with the address",
        description=(
            "A file that holds the address of a PostgreSQL database, with user and password: "
            "postgresql://USER:PASSWORD@HOST/DATABASE. Hub and portal use a schema of their own each."
        ),
        examples=["/etc/cupola/database"],
        json_schema_extra={"expects": "a file", "default": "none: SQLite files in the state folder"},
    )


class FolderSettings(Settings):
    """Folders that may lie elsewhere than in the state folder: on a larger disk, for instance."""

    environments: UserPath | None = Field(
        default=None,
        title="Environments",
        description="Where the locked environments of the datalabs are built.",
        examples=["/data/cupola/environments"],
        json_schema_extra={"expects": "a folder", "default": "`environments` in the state folder"},
    )
    images: UserPath | None = Field(
        default=None,
        title="Images",
        description="Where it is written down which images were built; several platforms on one engine may share it.",
        examples=["/data/cupola/images"],
        json_schema_extra={"expects": "a folder", "default": "`images` in the state folder"},
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
