"""Volumes: data areas that can be mounted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from cupola.models.base import Model, Slug

__all__ = ["Access", "CollectionSummary", "Mount", "Volume", "VolumeKind"]


class VolumeKind(StrEnum):
    """Where a volume's data come from."""

    HOME = "home"
    ARCHIVE = "archive"


class Access(StrEnum):
    """What a session may do with a volume."""

    READ = "read"
    WRITE = "write"


class CollectionSummary(Model):
    """A STAC collection found in a volume."""

    id: str
    title: str
    items: int
    bands: list[str] = Field(default_factory=list)
    """Names by which bands can be asked for, in the order of the assets."""
    body: str = "Earth"
    folder: str = ""
    """Relative to the volume."""


class Volume(Model):
    """A data area that can be mounted."""

    name: Slug
    title: str
    description: str = ""
    kind: VolumeKind
    source: Path
    """Where it lies on this host."""
    access: Access = Access.READ
    licence: str = ""
    citation: str = ""
    example: str | None = None
    """A notebook that shows how to use it, relative to the volume."""
    size_bytes: int | None = None
    collections: list[CollectionSummary] = Field(default_factory=list)
    unavailable: str | None = None
    """Why it cannot be mounted now, in a sentence; nothing where it can."""


class Mount(Model):
    """A volume as one session sees it."""

    volume: Slug
    source: Path
    target: Path
    """Where the session finds it."""
    access: Access
