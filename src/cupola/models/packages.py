"""What a person installed on a version, and what becomes of it on another one."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.models.base import Model, Time

__all__ = ["Contents", "Fate", "Package", "PackageFate", "PackageHint", "PackageLock", "PackagePlan"]


class Contents(Model):
    """What programs find in a version of a datalab."""

    python: str | None = None
    """``major.minor``, where it is known."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Releases by normalised name."""


class Package(Model):
    """One installed package."""

    name: str = Field(max_length=200)
    """Normalised: small letters, hyphens."""
    version: str = Field(max_length=200)
    source: str | None = Field(default=None, max_length=2000)
    """Where it came from, where that is no package index; without user and password."""
    requested: bool = True
    """Whether the person asked for it; else another one needs it."""


class PackageLock(Model):
    """What a person's own environment on one version of a datalab holds: ``~/.cupola/packages/DIGEST12.json``."""

    digest: str
    """Of the version it was made on."""
    label: str = ""
    """That version's name for people."""
    python: str
    """Such as ``3.11``."""
    made: Time
    changed: Time
    answered: bool = False
    """Whether the person has restored here what was installed on another version, or does not want it."""
    packages: list[Package] = Field(default_factory=list, max_length=5000)


class Fate(StrEnum):
    """What becomes of a package on another version."""

    THERE = "there"
    """The version itself has it."""
    SAME = "same"
    """It is installed again, as it was."""
    OTHER = "other"
    """It is installed again in another release: the one of then does not fit here."""
    NOT = "not"
    """It cannot be installed here."""


class PackageFate(Model):
    """What becomes of one package."""

    name: str
    was: str
    fate: Fate
    now: str | None = None
    """The release there is, or will be."""
    source: str | None = None
    why: str = ""
    """Why not, or why another release, in a sentence."""


class PackagePlan(Model):
    """What becomes of the packages of one lock on the version that runs now."""

    label: str
    """Of the version they were installed on, or the beginning of its digest."""
    changed: Time
    packages: list[PackageFate]

    def of(self, *fates: Fate) -> list[PackageFate]:
        """Return those with one of these fates."""
        return [package for package in self.packages if package.fate in fates]


class PackageHint(Model):
    """What the launch page says about installed packages."""

    here: int
    """How many the person installed on this version; they are there again."""
    elsewhere: int = 0
    """How many on the version used last before, if they are not here: the session offers to install them again."""
    label: str = ""
    """That version's name for people."""
    names: list[str] = Field(default_factory=list)
    """The first of those."""
    sentence: str = ""
    """All of it, for a person; empty where there is nothing to say."""
