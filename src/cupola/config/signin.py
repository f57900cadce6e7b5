"""Who may come in, and how people show who they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cupola.config.base import Settings, UserPath
from cupola.exceptions import ConfigError

__all__ = ["RESERVED_METHODS", "MethodKind", "MethodSettings", "SignInSettings"]

_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/.*)?")
_LONGEST_SECRET = 4096

RESERVED_METHODS = frozenset({"link", "owner"})
"""The method that is always there, and its person."""


class MethodKind(StrEnum):
    """How people show who they are."""

    LOCAL = "local"
    """Accounts of this platform, with a password."""
    GITHUB = "github"
    GITLAB = "gitlab"
    OIDC = "oidc"
    """Any provider of OpenID Connect: that of an institution, for instance."""
    CUSTOM = "custom"
    """A class of the administrator's own."""


_REMOTE = {MethodKind.GITHUB, MethodKind.GITLAB, MethodKind.OIDC}
_ONLY_FOR = {
    "client_id": _REMOTE,
    "client_secret_file": _REMOTE,
    "client_secret_variable": _REMOTE,
    "url": _REMOTE,
    "scopes": _REMOTE,
    "organisations": {MethodKind.GITHUB},
    "groups": {MethodKind.GITLAB, MethodKind.OIDC},
    "admin_groups": {MethodKind.OIDC},
    "groups_claim": {MethodKind.OIDC},
    "projects": {MethodKind.GITLAB},
    "username_claim": {MethodKind.OIDC},
    "mail_domains": {MethodKind.OIDC},
    "authenticator": {MethodKind.CUSTOM},
    "options": {MethodKind.CUSTOM},
    "sign_up": {MethodKind.LOCAL},
    "password_length": {MethodKind.LOCAL},
}
"""The settings that only some kinds know."""


class MethodSettings(Settings):
    """One way to sign in."""

    kind: MethodKind = Field(
        strict=False,
        title="Kind",
        description=(
            "What people sign in with. `local`: a name and a password of this platform. `github`, `gitlab`: an account "
            "there. `oidc`: any provider of OpenID Connect. `custom`: a class of your own."
        ),
        examples=["github"],
        json_schema_extra={"expects": "one of local, github, gitlab, oidc, custom"},
    )
    name: str = Field(
        default="",
        title="Name",
        description="How the allow-list and addresses name this method.",
        examples=["github"],
        pattern=r"^([a-z][a-z0-9-]{0,19})?$",
        json_schema_extra={
            "expects": "small letters, digits and hyphens, at most 20 characters",
            "default": "the kind",
        },
    )
    title: str = Field(
        default="",
        title="Title",
        description="What the sign-in page calls it.",
        examples=["GitHub"],
        max_length=60,
        json_schema_extra={"expects": "text of at most 60 characters", "default": "a word for the kind"},
    )
    client_id: str | None = Field(
        default=None,
        title="Client id (github, gitlab, oidc)",
        description="The id that the provider gave this platform.",
        examples=["Iv1.8a61f9b3a7aba766"],
        min_length=1,
        max_length=400,
        json_schema_extra={"expects": "text"},
    )
    client_secret_file: UserPath | None = Field(
        default=None,
        title="File with the client secret (or the next)",
        description="A file that holds nothing but the secret that the provider gave this platform.",
        examples=["/etc/cupola/github-secret"],
        json_schema_extra={"expects": "a file", "default": "none"},
    )
    client_secret_variable: str | None = Field(
        default=None,
        title="Variable with the client secret",
        description="The environment variable that holds the secret, instead of a file.",
        examples=["CUPOLA_GITHUB_SECRET"],
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        json_schema_extra={"expects": "the name of an environment variable", "default": "none"},
    )
    url: str | None = Field(
        default=None,
        title="Address of the provider",
        description=(
            "Needed for `oidc`: the issuer, exactly as the provider writes it. For `github` and `gitlab`: your own server."
        ),
        examples=["https://login.example.org/realms/science"],
        pattern=r"^https?://[^\s?#]+$",
        json_schema_extra={
            "expects": "an address with https://",
            "default": "github.com or gitlab.com",
        },
    )
    organisations: list[str] = Field(
        default_factory=list,
        title="Organisations (github)",
        description="GitHub organisations (`esa`) and teams (`esa:hera`) whose members are let in.",
        examples=[["my-institute", "my-institute:planets"]],
        json_schema_extra={"expects": "a list of organisations", "default": "none"},
    )
    groups: list[str] = Field(
        default_factory=list,
        title="Groups (gitlab, oidc)",
        description="GitLab groups, or values of the groups claim of `oidc`, whose members are let in.",
        examples=[["planets"]],
        json_schema_extra={"expects": "a list of groups", "default": "none"},
    )
    admin_groups: list[str] = Field(
        default_factory=list,
        title="Groups of administrators (oidc)",
        description="Values of the groups claim of `oidc` whose members are let in as administrators.",
        examples=[["planets-admins"]],
        json_schema_extra={"expects": "a list of groups", "default": "none"},
    )
    groups_claim: str = Field(
        default="groups",
        title="Claim with the groups (oidc)",
        description="Where the provider of `oidc` says in which groups a person is; dots lead into nested claims.",
        examples=["realm_access.roles"],
        pattern=r"^[^\s.]+(\.[^\s.]+)*$",
        json_schema_extra={"expects": "the name of a claim"},
    )
    projects: list[int] = Field(
        default_factory=list,
        title="Projects (gitlab)",
        description="Numbers of GitLab projects whose developers are let in.",
        examples=[[4711]],
        json_schema_extra={"expects": "a list of project numbers", "default": "none"},
    )
    username_claim: str = Field(
        default="preferred_username",
        title="Claim with the name (oidc)",
        description="Which claim of `oidc` becomes the user name; `email` counts only where the provider verified it.",
        examples=["email"],
        pattern=r"^[^\s]+$",
        json_schema_extra={"expects": "the name of a claim"},
    )
    mail_domains: list[str] = Field(
        default_factory=list,
        title="Mail domains (oidc)",
        description="For `oidc`: people whose verified mail address is in exactly one of these domains are let in.",
        examples=[["example.org"]],
        json_schema_extra={"expects": "a list of domains", "default": "none"},
    )
    scopes: list[str] = Field(
        default_factory=list,
        title="Scopes",
        description="What the provider is asked for, where the default does not fit.",
        examples=[["openid", "profile", "email"]],
        json_schema_extra={"expects": "a list of scopes", "default": "what the other settings need"},
    )
    authenticator: str | None = Field(
        default=None,
        title="Class (custom)",
        description="For `custom`: the class, an Authenticator of JupyterHub, as package.module:Class.",
        examples=["ldapauthenticator:LDAPAuthenticator"],
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        json_schema_extra={"expects": "package.module:Class", "default": "none"},
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        title="Options of the class (custom)",
        description="What a `custom` class is configured with: its own settings by name.",
        examples=[{"server_address": "ldap.example.org"}],
        json_schema_extra={"expects": "settings of the class, by name", "default": "none"},
    )
    sign_up: bool = Field(
        default=True,
        title="Sign-up page (local)",
        description="For `local`: whether anybody may ask for an account; an administrator approves each.",
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    password_length: int = Field(
        default=12,
        title="Shortest password (local)",
        description="For `local`: how many characters a password needs.",
        examples=[14],
        ge=8,
        le=64,
        json_schema_extra={"expects": "a whole number from 8 to 64"},
    )

    @model_validator(mode="before")
    @classmethod
    def _only_what_the_kind_knows(cls, data: Any) -> Any:
        kind = data.get("kind") if isinstance(data, dict) else None
        if kind not in set(MethodKind):
            return data
        for key in data:
            known = _ONLY_FOR.get(key)
            if known is not None and kind not in known:
                kinds = ", ".join(sorted(known))
                raise ValueError(f'the kind {kind} has no "{key}", which is for {kinds}; take it away')
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind in _REMOTE:
            if self.client_id is None:
                raise ValueError(f'the kind {self.kind} needs a "client_id", which the provider gives you')
            if (self.client_secret_file is None) == (self.client_secret_variable is None):
                raise ValueError(
                    f'the kind {self.kind} needs its secret from one place: either "client_secret_file" or '
                    '"client_secret_variable"'
                )
            if self.url and not self.url.startswith("https:") and not _LOOPBACK.fullmatch(self.url):
                raise ValueError('"url" must begin with https://, or anybody on the way could sign in')
        if self.kind == MethodKind.OIDC and self.url is None:
            raise ValueError('the kind oidc needs a "url", the address of the issuer')
        if self.kind == MethodKind.CUSTOM and self.authenticator is None:
            raise ValueError('the kind custom needs an "authenticator", as package.module:Class')
        return self

    @property
    def known_as(self) -> str:
        """The name in the allow-list and in addresses."""
        return self.name or self.kind.value

    @property
    def called(self) -> str:
        """The name on the sign-in page."""
        words = {"github": "GitHub", "gitlab": "GitLab", "oidc": "your institution"}
        return self.title or words.get(self.kind.value, self.known_as)

    def secret(self) -> str:
        """Return the client's secret.

        Raises
        ------
        ConfigError
            It is not there.
        """
        if self.client_secret_variable is not None:
            value = os.environ.get(self.client_secret_variable, "").strip()
            if not value:
                raise ConfigError(
                    f"the variable {self.client_secret_variable} is empty, which should hold the secret of the sign-in "
                    f"method {self.known_as}; set it where the platform is started"
                )
            return value
        file = self.client_secret_file
        if file is None:
            return ""
        try:
            with file.open(encoding="utf-8") as stream:
                value = stream.read(_LONGEST_SECRET + 1).strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
            raise ConfigError(
                f"{file} cannot be read ({reason}), which should hold the secret of the sign-in method "
                f"{self.known_as}; write the secret into it"
            ) from exc
        if not value or len(value) > _LONGEST_SECRET or len(value.split()) != 1:
            raise ConfigError(
                f"{file} does not hold one secret, as the sign-in method {self.known_as} needs; write nothing else into it"
            )
        return value


class SignInSettings(Settings):
    """Who may come in. Nobody is let in by omission: the owner alone, with a link."""

    methods: Annotated[
        list[MethodSettings], BeforeValidator(lambda value: [] if value is None else value)
    ] = Field(
        default_factory=list,
        title="Methods",
        description="The ways to sign in, beside the owner's link; all stand on one page.",
        json_schema_extra={"expects": "a list of methods"},
    )
    allow_list: UserPath | None = Field(
        default=None,
        title="Allow-list",
        description=(
            "A file with a person per line, `METHOD:LOGIN` or a name, and `admin` behind it for an administrator. It is "
            "read again when it changes; who is struck out is out within a minute."
        ),
        examples=["/etc/cupola/people.txt"],
        json_schema_extra={"expects": "a file", "default": "none: people are let in on the page People"},
    )
    contact: str = Field(
        default="",
        title="Contact",
        description="Whom people ask who are not let in: a name, a mail address or an address of a page.",
        examples=["it@example.org"],
        max_length=200,
        json_schema_extra={"expects": "text of at most 200 characters", "default": "none"},
    )
    rule_hours: int = Field(
        default=24,
        title="Hours that a rule holds",
        description=(
            "Who is let in as a member of an organisation, a group or a domain signs in again after so many hours: the "
            "membership is looked at then."
        ),
        examples=[8],
        ge=1,
        le=720,
        json_schema_extra={"expects": "a whole number from 1 to 720"},
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for name, count in Counter(method.known_as for method in self.methods).items():
            if count > 1:
                raise ValueError(f'{count} methods are named "{name}"; give each a "name" of its own')
            if name in RESERVED_METHODS:
                raise ValueError(f'a method is named "{name}", which Cupola uses itself; choose another name')
        if sum(method.kind == MethodKind.LOCAL for method in self.methods) > 1:
            raise ValueError("two methods are of the kind local; one holds all accounts of this platform")
        return self
