"""The launch form: what it shows, what it sends, and the link that carries its choices."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import Field, ValidationError

from cupola.exceptions import InputError
from cupola.models.base import Model, Slug
from cupola.models.resources import Resources
from cupola.models.session import LaunchRequest
from cupola.platform.handlers.forgery import FIELD

if TYPE_CHECKING:
    from starlette.datastructures import FormData, QueryParams

    from cupola.models.session import Session

__all__ = [
    "Choices",
    "LaunchForm",
    "choices_of_query",
    "choices_of_session",
    "digest_of_item",
    "read_form",
]

_LISTS = {"volumes", "env_name", "env_value"}
_LONGEST = 100


class LaunchForm(Model):
    """A launch as the forms of the pages send it; a field that is none of these is refused."""

    datalab: Slug
    version: str = Field(default="", max_length=100)
    title: str = Field(default="", max_length=100)
    key: str | None = Field(default=None, max_length=64)
    chosen: bool = False
    """Whether the form had boxes for volumes: none ticked then means none."""
    volumes: list[Slug] = Field(default_factory=list)
    clean: bool = False
    cores: float | None = None
    memory_mib: int | None = None
    gpus: int = 0
    env_name: list[str] = Field(default_factory=list)
    env_value: list[str] = Field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The variables; a row without a value was left empty on purpose or by the link that named it."""
        rows = zip(self.env_name, self.env_value, strict=False)
        return {name.strip(): value for name, value in rows if value}

    def request(self) -> LaunchRequest:
        """Return what the service takes.

        Raises
        ------
        InputError
            If that is no launch.
        """
        wished = {"cores": self.cores, "memory_mib": self.memory_mib, "gpus": self.gpus}
        try:
            return LaunchRequest.model_validate(
                {
                    "datalab": self.datalab,
                    "version": self.version or None,
                    "title": self.title.strip() or None,
                    "volumes": self.volumes if self.chosen else None,
                    "clean": self.clean,
                    "resources": None if self.cores is None and self.memory_mib is None else wished,
                    "environment": self.environment,
                }
            )
        except ValidationError as error:
            what = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError(f"The {what} of this launch is wrong: choose it again.") from error

    def choices(self) -> Choices:
        """Return what the form is to show when it is shown again."""
        return Choices(
            version=self.version or None,
            title=self.title,
            cores=self.cores,
            memory_mib=self.memory_mib,
            gpus=self.gpus,
            volumes=self.volumes if self.chosen else None,
            clean=self.clean,
            variables=list(self.environment.items()),
        )


@dataclass
class Choices:
    """What a launch form shows as chosen; nothing: what the datalab's defaults say."""

    version: str | None = None
    title: str = ""
    cores: float | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    volumes: list[str] | None = None
    clean: bool = False
    variables: list[tuple[str, str]] = field(default_factory=list)

    @property
    def resources(self) -> Resources | None:
        """The size, if one is chosen."""
        if not self.cores or not self.memory_mib:
            return None
        return Resources(cores=self.cores, memory_mib=self.memory_mib, gpus=self.gpus or 0)

    def query(self, datalab: str) -> str:
        """Return the query of the link that carries them.

        Of variables it carries the names alone: values may be secrets, and an address is written down in many
        places. Nor shall a link of somebody else set what programs find in their environment.
        """
        pairs: list[tuple[str, object]] = [("datalab", datalab)]
        pairs += [("version", self.version)] if self.version else []
        pairs += [("cores", f"{self.cores:g}"), ("memory_mib", self.memory_mib)] if self.resources else []
        pairs += [("gpus", self.gpus)] if self.gpus else []
        if self.volumes is not None:
            pairs.append(("volumes", ",".join(self.volumes)))
        pairs += [("env", name) for name, _ in self.variables]
        pairs += [("clean", "true")] if self.clean else []
        pairs += [("title", self.title)] if self.title else []
        return urlencode(pairs)


def read_form(form: FormData) -> LaunchForm:
    """Return a launch form as it was sent.

    Raises
    ------
    InputError
        If it has a field that no form of ours has, or a value that none of ours sends.
    """
    fields: dict[str, Any] = {}
    for name in form:
        if name == FIELD:
            continue
        values = form.getlist(name)
        if name not in _LISTS and len(values) > 1:
            raise InputError(f"This form says {name} twice: press play in the catalogue.")
        fields[name] = values if name in _LISTS else values[0]
    for name in ("cores", "memory_mib", "gpus"):
        if fields.get(name) == "":
            del fields[name]
    try:
        return LaunchForm.model_validate(fields)
    except ValidationError as error:
        raise InputError("This form was not filled in as the catalogue does it: press play there.") from error


def choices_of_session(session: Session) -> Choices:
    """Return the choices that a session was launched with."""
    had = session.resources
    return Choices(
        version=session.version,
        title=session.title,
        cores=had.cores if had else None,
        memory_mib=had.memory_mib if had else None,
        gpus=had.gpus if had else None,
        volumes=[name for name in session.volumes if name != "home"],
        clean=session.clean,
        variables=list(session.environment.items()),
    )


def choices_of_query(query: QueryParams) -> tuple[Choices, list[str]]:
    """Return what a launch link carries, and a sentence for each thing in it that nobody can read."""
    notes: list[str] = []
    chosen = Choices(
        version=query.get("version") or None,
        title=" ".join(query.get("title", "").split())[:_LONGEST],
        clean=query.get("clean") == "true",
        variables=[(name[:_LONGEST], "") for name in query.getlist("env")[:50]],
    )
    if "volumes" in query:
        chosen.volumes = [name for name in query["volumes"].split(",") if name]
    for name, kind in (("cores", float), ("memory_mib", int), ("gpus", int)):
        text = query.get(name)
        if text is None:
            continue
        value = _number(text, kind)
        if value is None:
            notes.append(
                f"The link says {name}={text[:20]}, which is no number of that: the usual one is chosen."
            )
        else:
            setattr(chosen, name, value)
    return chosen, notes


def _number(text: str, kind: type[float | int]) -> float | int | None:
    """Return a number that is not absurd, or nothing."""
    try:
        value = kind(text)
    except (ValueError, OverflowError):
        return None
    return value if 0 <= value < 1e9 else None  # noqa: PLR2004 - also no infinity


def digest_of_item(text: bytes) -> tuple[str, str | None]:
    """Return the version's digest and the time in a product's STAC item.

    Raises
    ------
    InputError
        If it is none, or does not say what made it.
    """
    try:
        properties = json.loads(text)["properties"]
        digest, made = properties["cupola:version"], properties.get("created")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "This file does not say which version made it: choose the .json file that lies beside a product."
        ) from error
    if not isinstance(digest, str) or not digest:
        raise InputError("This product was made outside of a session, so that no version is known of it.")
    return digest, made if isinstance(made, str) else None
