"""What becomes of versions after they were built: kept ready, recommended, removed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from cupola.exceptions import CupolaError, InputError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.models.datalab import Version
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["BuildService", "Kept", "KeptVersions"]

log = structlog.get_logger("cupola.portal")

AGAIN_S = 900.0
"""A version that could not be fetched is tried again after so long."""
NEWEST = "newest"


class KeptVersions(Protocol):
    """Where versions are kept: locked environments or images."""

    def versions(self, datalab: str) -> list[BuiltVersion]:
        """Return the versions of a datalab, newest first."""

    def recommend(self, datalab: str, digest: str | None) -> None:
        """Mark a version."""

    def remove(self, datalab: str, version: Version) -> None:
        """Remove a version."""


class Fetches(Protocol):
    """What brings a registered version here."""

    def problem(self) -> str | None:
        """Return why nothing can be fetched just now."""

    def fetch(self, datalab: str, version: Version) -> None:
        """Fetch it."""


@dataclass(frozen=True)
class Kept:
    """What a clean-up did with one version."""

    datalab: str
    version: Version
    why: str | None
    """Why it stays, in a few words; nothing where it was removed."""


class BuildService:
    """Looks after built versions.

    Parameters
    ----------
    catalogue
        Tells the datalabs with their versions.
    versions
        Keeps them.
    fetches
        Brings versions here that are registered only; nothing where versions are never elsewhere.
    clock
        Tells the seconds.
    """

    def __init__(
        self,
        *,
        catalogue: CatalogueService,
        versions: KeptVersions,
        fetches: Fetches | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._versions = versions
        self._fetches = fetches
        self._clock = clock
        self._tried: dict[str, float] = {}

    async def keep_ready(self) -> None:
        """Fetch registered versions that are not here; what cannot be had is said once in a while (timer)."""
        if self._fetches is None:
            return
        problem = await asyncio.to_thread(self._fetches.problem)
        if problem:
            # An engine that does not answer has lost nothing.
            return
        for datalab in await self._catalogue.datalabs():
            for version in datalab.versions:
                tried = self._tried.get(version.digest)
                if not version.ready and (tried is None or self._clock() - tried > AGAIN_S):
                    self._tried[version.digest] = self._clock()
                    await self._fetch(datalab.name, version, self._fetches)

    async def _fetch(self, datalab: str, version: Version, fetches: Fetches) -> None:
        try:
            await asyncio.to_thread(fetches.fetch, datalab, version)
        except CupolaError as error:
            log.warning("a version is not here", datalab=datalab, version=version.label, error=str(error))
        else:
            log.info("a version was fetched", datalab=datalab, version=version.label)

    async def recommend(self, name: str, words: str) -> Version | None:
        """Mark a version as the one that a click starts.

        Parameters
        ----------
        name
            Of the datalab.
        words
            The version's label or the beginning of its digest; ``newest``: the newest one, whichever it is.

        Returns
        -------
        :
            The version; nothing for ``newest``.

        Raises
        ------
        NotFoundError
            There is no such datalab or version.
        InputError
            Several versions fit.
        UnavailableError
            It cannot be written down.
        """
        datalab = await self._catalogue.datalab(name)
        chosen = None if words == NEWEST else _chosen(datalab.title, datalab.versions, words)
        try:
            await asyncio.to_thread(self._versions.recommend, name, chosen.digest if chosen else None)
        except OSError as exc:
            raise UnavailableError(
                f"The choice cannot be written to {exc.filename}: {exc.strerror}."
            ) from exc
        return chosen

    async def prune(self, in_use: Iterable[str], *, keep: int) -> list[Kept]:
        """Remove old versions: all but the recommended one, the newest `keep` and those that somebody counts on.

        Parameters
        ----------
        in_use
            Digests of versions that sessions or jobs were made with.
        keep
            How many of each datalab stay in any case, at least 1.

        Returns
        -------
        :
            Every version, with what became of it.
        """
        wanted = set(in_use)
        done = []
        for datalab in await self._catalogue.datalabs():
            for number, version in enumerate(datalab.versions):
                why: str | None
                if version.digest == datalab.recommended:
                    why = "recommended"
                elif number < max(keep, 1):
                    why = "one of the newest"
                elif version.digest in wanted:
                    why = "a session or a job was made with it"
                else:
                    why = await self._remove(datalab.name, version)
                done.append(Kept(datalab.name, version, why))
        return done

    async def _remove(self, datalab: str, version: Version) -> str | None:
        """Remove a version; return why it stays."""
        try:
            await asyncio.to_thread(self._versions.remove, datalab, version)
        except (CupolaError, OSError) as exc:
            return f"it could not be removed: {exc}"
        return None


def _chosen(title: str, versions: list[Version], words: str) -> Version:
    digest = words if words.startswith("sha256:") else f"sha256:{words}"
    fitting = [version for version in versions if version.label == words or version.digest.startswith(digest)]
    if not fitting:
        known = ", ".join(version.label for version in versions) or "none"
        raise NotFoundError(f"{title} has no version {words}; it has: {known}.")
    if len(fitting) > 1:
        labels = ", ".join(f"{version.label} ({version.digest[7:19]})" for version in fitting)
        raise InputError(f"Several versions of {title} fit {words}: {labels}.")
    return fitting[0]
