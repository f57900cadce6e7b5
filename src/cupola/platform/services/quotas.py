"""Quotas: how much homes and team volumes may hold, and how much they do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import CupolaError, InputError
from cupola.models.base import now
from cupola.models.storage import PlaceKind, StorageUsage
from cupola.platform.storage.quotas import Limit, LimitInUseError, Owner, places

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from cupola.config import QuotaSettings, StatePaths
    from cupola.models.person import Person
    from cupola.platform.storage.quotas import Quota

__all__ = ["QuotaService"]

log = structlog.get_logger("cupola.portal")

_GIB = 2**30
_MODES = {PlaceKind.HOME: 0o700, PlaceKind.TEAM: 0o2770}
"""A team's files belong to the team's group, whoever writes them."""


class QuotaService:
    """Makes homes and team volumes under their limits.

    Parameters
    ----------
    quota
        What enforces the limits.
    paths
        Where homes and team volumes lie.
    settings
        The limits where no profile says otherwise.
    limit_of
        Returns what the profile of a person says of the home, in bytes, or nothing: homes get it when the portal starts,
        so that a changed configuration holds for running sessions too.
    """

    def __init__(
        self,
        *,
        quota: Quota,
        paths: StatePaths,
        settings: QuotaSettings,
        limit_of: Callable[[str], Awaitable[int | None]] | None = None,
    ) -> None:
        self._quota = quota
        self._paths = paths
        self._settings = settings
        self._limit_of = limit_of
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Make sure that this platform's kind of quota works here, and bring back what a restart took.

        Raises
        ------
        StartError
            It does not; says what to do.
        """
        await asyncio.to_thread(self._quota.check)

    async def prepare(
        self, kind: PlaceKind | str, name: str, number: int | None = None, limit: int | None = None
    ) -> Path:
        """Make a home or a team volume under its limit, or bring the limit of an existing one up to date.

        Parameters
        ----------
        kind, name
            What it is, and of whom.
        number
            The user and group it belongs to; nothing: whoever runs the platform.
        limit
            In bytes; nothing: what the settings say for this kind.

        Returns
        -------
        :
            The folder.

        Raises
        ------
        ConflictError
            It lies there without a quota, has to move under one, and something uses it just now.
        UnavailableError
            The file system refuses.
        """
        kind = PlaceKind(kind)
        folder = self.folder(kind, name)
        owner = Owner(number, _MODES[kind])
        async with self._locks[folder]:
            await asyncio.to_thread(self._prepare, folder, owner, self._limit(kind, limit))
        return folder

    def _prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        try:
            self._quota.prepare(folder, owner, limit)
        except LimitInUseError as exc:
            # A limit that cannot change while the home is in use must not stand in the way of a launch.
            log.warning("limit unchanged", folder=folder.name, error=str(exc))

    async def usage(self, kind: PlaceKind | str, name: str) -> StorageUsage:
        """Return what a home or a team volume holds and may hold; all zero where it is not made yet.

        Raises
        ------
        UnavailableError
            The file system does not tell.
        """
        kind = PlaceKind(kind)
        folder = self.folder(kind, name)
        if not folder.exists():
            return StorageUsage(kind=kind, name=name, used_bytes=0, limit_bytes=None)
        async with self._locks[folder]:
            held = await asyncio.to_thread(self._quota.usage, folder)
        return StorageUsage(
            kind=kind,
            name=name,
            used_bytes=held.used,
            limit_bytes=held.limit,
            files=held.files,
            files_limit=held.files_limit,
            complete=held.complete,
        )

    async def usages(self, person: Person) -> list[StorageUsage]:
        """Return those of the home and the teams of `person`; one that cannot be read is left out."""
        wanted = [(PlaceKind.HOME, person.name), *((PlaceKind.TEAM, team) for team in person.teams)]
        found = await asyncio.gather(
            *(self.usage(kind, name) for kind, name in wanted), return_exceptions=True
        )
        for usage in found:
            if isinstance(usage, BaseException) and not isinstance(usage, CupolaError):
                raise usage
        return [usage for usage in found if isinstance(usage, StorageUsage)]

    async def set_limit(self, kind: PlaceKind | str, name: str, limit: int) -> None:
        """Raise or lower a limit now, also while sessions run.

        Parameters
        ----------
        kind, name
            Whose it is.
        limit
            In bytes. Below what is held: nothing can be added then.

        Raises
        ------
        ConflictError
            This kind of quota cannot lower a limit while sessions run.
        UnavailableError
            The file system refuses.
        """
        kind = PlaceKind(kind)
        folder = self.folder(kind, name)
        if not folder.exists():
            return  # it gets its limit when it is made
        async with self._locks[folder]:
            await asyncio.to_thread(self._quota.set_limit, folder, self._limit(kind, limit))

    async def remove(self, kind: PlaceKind | str, name: str) -> None:
        """Delete a home or a team volume with all it holds.

        Raises
        ------
        ConflictError
            Something uses it.
        """
        folder = self.folder(PlaceKind(kind), name)
        async with self._locks[folder]:
            await asyncio.to_thread(self._quota.remove, folder)

    async def archive(self, kind: PlaceKind | str, name: str) -> Path:
        """Put a home or a team volume aside, where no session finds it; whoever comes next gets an empty one.

        Returns
        -------
        :
            Where it lies now.

        Raises
        ------
        ConflictError
            Something uses it.
        """
        folder = self.folder(PlaceKind(kind), name)
        target = folder.parent / ".archived" / f"{name}-{now():%Y%m%d-%H%M%S}"
        async with self._locks[folder]:
            if folder.exists():
                await asyncio.to_thread(self._quota.move, folder, target)
        return target

    async def watch(self) -> None:
        """Mend what users or a restart of the machine did to the limits; called again and again."""
        limit_of, self._limit_of = self._limit_of, None
        if limit_of is not None:
            await self._apply(limit_of)
        for sentence in await asyncio.to_thread(self._quota.watch):
            log.warning("quota mended", what=sentence)

    async def _apply(self, limit_of: Callable[[str], Awaitable[int | None]]) -> None:
        """Bring the limits of all homes to what the configuration says now."""
        for folder in await asyncio.to_thread(lambda: list(places(self._paths.homes))):
            limit = self._limit(PlaceKind.HOME, await limit_of(folder.name))
            try:
                async with self._locks[folder]:
                    await asyncio.to_thread(self._quota.set_limit, folder, limit)
            except CupolaError as exc:
                # It is done, or told, at the next launch of its owner.
                log.warning("limit unchanged", folder=folder.name, error=str(exc))

    def folder(self, kind: PlaceKind, name: str) -> Path:
        """Return where it lies.

        Raises
        ------
        InputError
            `name` is no name of a person or team.
        """
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise InputError(f"{name!r} is no name for a folder.")
        return self._paths.home(name) if kind is PlaceKind.HOME else self._paths.team(name)

    def _limit(self, kind: PlaceKind, size: int | None) -> Limit:
        if size is None:
            gib = self._settings.home_gib if kind is PlaceKind.HOME else self._settings.team_gib
            size = int(gib * _GIB)
        return Limit(size=size, files=max(1000, int(size / _GIB * self._settings.files_per_gib)))
