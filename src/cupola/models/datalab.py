"""Datalabs: the entries of the catalogue, and their versions."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.models.base import Model, Slug, Time
from cupola.models.resources import Resources

__all__ = ["BuildWhen", "Datalab", "DatalabKind", "Version"]


class DatalabKind(StrEnum):
    """What answers on a session's port."""

    JUPYTERLAB = "jupyterlab"
    """A Jupyter server with JupyterLab and ``cupola.lab``."""
    WEB = "web"
    """Any program that speaks HTTP."""


class BuildWhen(StrEnum):
    """When a datalab's image is built."""

    ALWAYS = "always"
    """At the start of the platform, in the background."""
    ON_REQUEST = "on request"
    """When somebody asks for it with ``cupola build``: it is large, or takes servers that not every machine reaches."""


class Version(Model):
    """One immutable build of a datalab."""

    digest: str
    """What the build is made of, as ``sha256:...``: an image digest or that of a locked environment."""
    label: str
    """The name for people, such as ``2026.11``."""
    created: Time
    ready: bool
    """Whether it can start here at once (else it must be built or pulled first)."""
    size_bytes: int | None = None
    image: str | None = None
    """The container image's reference, where the version is one: what must be pulled where it is not ready."""
    verified: bool = False
    """Whether its own check ran inside it and passed."""
    changelog: str = ""
    """What changed in it, in Markdown."""


class Datalab(Model):
    """A tool that people can run."""

    name: Slug
    title: str
    summary: str
    """One sentence for the card in the catalogue."""
    description: str = ""
    """More, in Markdown."""
    kind: DatalabKind = DatalabKind.JUPYTERLAB
    command: list[str] = Field(default_factory=list)
    """What a session runs, for kind ``web``; ``{port}`` and ``{prefix}`` are filled in."""
    ready_path: str = "/"
    """The path, under the session's prefix, that a person is sent to."""
    icon: str = "datalab"
    """A name in the design system's set of icons, where the datalab brings no picture of its own."""
    pictured: bool = False
    """Whether it has a picture of its own, ``icon.svg``."""
    tags: list[str] = Field(default_factory=list)
    licence: str = ""
    maintainer: str = ""
    changelog: str = ""
    volumes: list[str] = Field(default_factory=list)
    """Names of the volumes that are mounted when nobody chooses; all within reach where there are none."""
    resources: Resources | None = None
    """What a session gets when nobody chooses; what the platform sets where nothing is said."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that every session of it finds."""
    port: int = 8888
    """Where it listens, in a container."""
    build: BuildWhen = BuildWhen.ALWAYS
    versions: list[Version] = Field(default_factory=list)
    """Newest first."""
    recommended: str | None = None
    """Digest of the version that one-click play starts."""
    unavailable: str | None = None
    """Why this compute driver cannot run it, in a sentence; nothing where it can."""
