"""Packages that people installed in their sessions: what the launch page can say without starting anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cupola.models.packages import PackageHint, PackageLock
from cupola.platform.storage.files.beneath import Beneath

if TYPE_CHECKING:
    from cupola.config import StatePaths
    from cupola.models.person import Person

__all__ = ["PackageService"]

_MOST_LOCKS = 50
_LARGEST = 2 * 2**20
"""Bytes of a lock that are read: it lies in the person's own folder."""
_NAMES = 5
_KEPT = 12
"""Digits of a digest that name an environment."""


class PackageService:
    """Reads the locks in people's homes.

    Parameters
    ----------
    paths
        Where homes lie.
    """

    def __init__(self, *, paths: StatePaths) -> None:
        self._paths = paths

    async def hint(self, person: Person, digest: str) -> PackageHint:
        """Return what becomes of the packages of `person` in a session on the version with this digest."""
        locks = await asyncio.to_thread(self._locks, person.name)
        short = _short(digest)
        here = next((lock for lock in locks if _short(lock.digest) == short), None)
        others = [lock for lock in locks if _short(lock.digest) != short and lock.packages]
        count = len(here.packages) if here else 0
        if count or (here and here.answered) or not others:
            return PackageHint(here=count, sentence=_here(count))
        last = max(others, key=lambda lock: lock.changed)
        names = [package.name for package in last.packages if package.requested]
        label = last.label or _short(last.digest)
        return PackageHint(
            here=0,
            elsewhere=len(last.packages),
            label=label,
            names=names[:_NAMES],
            sentence=(
                f"You installed {_count(len(last.packages))} on version {label}; the session will offer to install "
                "them here again."
            ),
        )

    async def installed(self, person: Person, digest: str) -> dict[str, str]:
        """Return the releases of what `person` has installed on the version with this digest, by name."""
        locks = await asyncio.to_thread(self._locks, person.name)
        here = (lock for lock in locks if _short(lock.digest) == _short(digest))
        return {package.name: package.version for lock in here for package in lock.packages}

    def _locks(self, name: str) -> list[PackageLock]:
        """Return the locks in a home; what is no lock, too large or a link is left out."""
        try:
            folder = Beneath(self._paths.homes, f"{name}/.cupola/packages")
            files = sorted(item for item in folder.names() if item.endswith(".json"))[:_MOST_LOCKS]
        except (OSError, ValueError):
            return []
        found = []
        for file in files:
            try:
                text = folder.read(file, longest=_LARGEST)
                found.append(PackageLock.model_validate_json(text))
            except (OSError, ValidationError):
                continue
        return found


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_KEPT]


def _count(number: int) -> str:
    return "one package" if number == 1 else f"{number} packages"


def _here(count: int) -> str:
    return f"{_count(count).capitalize()} that you installed on this version will be there." if count else ""
