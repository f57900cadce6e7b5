"""How full homes and team volumes are."""

from __future__ import annotations

from enum import StrEnum

from cupola.models.base import Model

__all__ = ["Fullness", "PlaceKind", "StorageUsage"]

_WARN = 0.9
_FULL = 0.999


class PlaceKind(StrEnum):
    """What a quota holds for."""

    HOME = "home"
    TEAM = "team"


class Fullness(StrEnum):
    """How near its limit a place is."""

    FINE = "fine"
    NEARLY = "nearly"
    """At least nine tenths are used."""
    FULL = "full"
    """Nothing more can be written."""


class StorageUsage(Model):
    """What a home or a team volume holds, and how much it may hold."""

    kind: PlaceKind
    name: str
    """Of the person or the team."""
    used_bytes: int
    limit_bytes: int | None = None
    """Nothing: no limit."""
    files: int | None = None
    """Files and folders, where the file system counts them."""
    files_limit: int | None = None
    complete: bool = True
    """Whether all of it was counted: a large home without a quota is looked through for a short time only."""

    @property
    def share(self) -> float | None:
        """How much of the limit is used, 1 when full: of bytes or of files, whichever is nearer; nothing without one."""
        shares = []
        if self.limit_bytes:
            shares.append(self.used_bytes / self.limit_bytes)
        if self.files_limit and self.files is not None:
            shares.append(self.files / self.files_limit)
        return max(shares) if shares else None

    @property
    def fullness(self) -> Fullness:
        """How near the limit it is."""
        share = self.share or 0.0
        return Fullness.FULL if share >= _FULL else Fullness.NEARLY if share >= _WARN else Fullness.FINE
