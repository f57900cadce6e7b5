"""Settings of notifications: the mail server, and where webhooks may lead."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from cupola.config.base import EmptyIsDefault, Settings, UserPath
from cupola.config.volumes import host_or_network
from cupola.exceptions import ConfigError

__all__ = ["MailEncryption", "MailSettings", "NotificationSettings", "WebhookSettings"]

_LONGEST_PASSWORD = 4096


class MailEncryption(StrEnum):
    """How the connection to the mail server is kept secret."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


class MailSettings(Settings):
    """The server that takes the platform's mail."""

    host: str = Field(
        title="Host",
        description="The mail server.",
        examples=["smtp.example.org"],
        pattern=r"^[A-Za-z0-9.:-]{1,253}$",
        json_schema_extra={"expects": "a host name or an address"},
    )
    port: int = Field(
        default=587,
        title="Port",
        description="Its port: most often 587 with `starttls`, 465 with `implicit`, 25 with `none`.",
        examples=[465],
        ge=1,
        le=65535,
        json_schema_extra={"expects": "a whole number from 1 to 65535"},
    )
    tls: MailEncryption = Field(
        default=MailEncryption.STARTTLS,
        strict=False,
        title="Encryption",
        description=(
            "`starttls`: the connection is encrypted before anything is said, or nothing is sent. `implicit`: encrypted from "
            "the first byte. `none`: only for a server on this machine or in a network you trust."
        ),
        examples=["implicit"],
        json_schema_extra={"expects": "one of starttls, implicit, none"},
    )
    certificates: UserPath | None = Field(
        default=None,
        title="Certificates",
        description="A file with the certificates that vouch for the mail server, where those of the system do not.",
        examples=["/etc/cupola/mail-ca.pem"],
        json_schema_extra={"expects": "a file", "default": "those of the system"},
    )
    user: str | None = Field(
        default=None,
        title="User",
        description="The name that the platform signs in with at the mail server.",
        examples=["cupola"],
        pattern=r"^[ -~]{1,320}$",
        json_schema_extra={"expects": "text without accents", "default": "no sign-in"},
    )
    password_file: UserPath | None = Field(
        default=None,
        title="File with the password",
        description="A file that holds nothing but the password of that user; it wins over the variable.",
        examples=["/etc/cupola/mail-password"],
        json_schema_extra={"expects": "a file", "default": "none"},
    )
    password_variable: str | None = Field(
        default=None,
        title="Variable with the password",
        description="The environment variable that holds the password, instead of a file.",
        examples=["CUPOLA_MAIL_PASSWORD"],
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        json_schema_extra={"expects": "the name of an environment variable", "default": "none"},
    )
    sender: str = Field(
        title="Sender",
        description="The address that mail comes from.",
        examples=["cupola@example.org"],
        pattern=r"^[^\s@<>,;:\"()]+@[A-Za-z0-9.-]+$",
        json_schema_extra={"expects": "a mail address"},
    )

    def password(self) -> str:
        """Return the password; empty where nothing names one.

        Raises
        ------
        ConfigError
            It is not where it should be. The text never shows it.
        """
        if self.password_file is not None:
            try:
                with self.password_file.open(encoding="utf-8") as stream:
                    value = stream.read(_LONGEST_PASSWORD).strip("\r\n")
            except (OSError, UnicodeDecodeError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
                raise ConfigError(
                    f"notifications.mail.password_file: {self.password_file} cannot be read ({reason}); write the password "
                    "of the mail server into it"
                ) from exc
        elif self.password_variable is not None:
            value = os.environ.get(self.password_variable, "")
        else:
            return ""
        if not value:
            raise ConfigError(
                f"the password of the mail server is empty in {self.password_file or self.password_variable}; write it there"
            )
        if not value.isascii():
            raise ConfigError(
                "the password of the mail server has letters that its sign-in cannot carry; choose one of plain letters, "
                "digits and signs"
            )
        return value


class WebhookSettings(Settings):
    """The webhooks that people name."""

    enabled: bool = Field(
        default=True,
        title="Enabled",
        description="Whether people may name a webhook that is told of their jobs.",
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    allow: list[Annotated[str, AfterValidator(host_or_network)]] = Field(
        default_factory=list,
        title="Allowed hosts",
        description=(
            "Hosts and networks that webhooks may lie on though they are private, or speak http without encryption. "
            "Without it a webhook must be at a public address, with https."
        ),
        examples=[["chat.example.org", "10.20.0.0/16"]],
        json_schema_extra={"expects": "a list of host names and networks", "default": "none"},
    )


class NotificationSettings(Settings):
    """How people are told that a job has ended; the pages tell it in any case."""

    mail: MailSettings | None = Field(
        default=None,
        title="Mail",
        description="The mail server; without it nobody can be told by mail.",
        json_schema_extra={"default": "no mail"},
    )
    webhooks: Annotated[WebhookSettings, EmptyIsDefault] = Field(
        default_factory=WebhookSettings,
        title="Webhooks",
        description="The webhooks that people name.",
    )
