"""Versions that are registered and not on this machine: fetched while whoever launched one watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cupola.exceptions import CupolaError
from cupola.platform.storage.docker.images import in_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cupola.models.datalab import Version
    from cupola.models.session import Session
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["FetchService", "RegisteredVersions"]

_TELL_S = 1.0
"""Whoever waits is told this often how far it is."""
_OF_ALL = 0.18
"""The share of a start's progress that fetching gets: the hub begins at 20 per cent."""


class RegisteredVersions(Protocol):
    """Where versions are written down, and what brings them here."""

    def versions(self, datalab: str) -> list[BuiltVersion]:
        """Return the versions of a datalab, with whether they are here."""

    def fetch(self, datalab: str, version: Version, watch: Callable[[float], None] | None = None) -> None:
        """Fetch one; `watch` is called with the part that is done, 0 to 1."""


@dataclass
class _Fetch:
    """How far one fetch is."""

    done: float = 0.0

    def watch(self, done: float) -> None:
        # From another thread: a number is replaced in one go.
        self.done = max(self.done, done)


class FetchService:
    """Fetches versions for sessions that wait for them.

    Parameters
    ----------
    versions
        Knows and fetches them.
    """

    def __init__(self, versions: RegisteredVersions) -> None:
        self._versions = versions
        # One fetch for all who wait for the same version.
        self._fetches: dict[str, tuple[_Fetch, asyncio.Task[None]]] = {}

    async def have(self, session: Session, tell: Callable[[str, int], Awaitable[None]]) -> str | None:
        """Have the version of `session` on this machine; return why that cannot be, if it cannot.

        Whoever is cancelled meanwhile leaves the fetch to the others, and to the next launch.

        Parameters
        ----------
        session
            What waits.
        tell
            Gets a sentence and the progress of the whole start in per cent.
        """
        found = await asyncio.to_thread(self._versions.versions, session.datalab)
        version = next((built.version for built in found if built.version.digest == session.version), None)
        if version is None or version.ready or not in_registry(version):
            # What is gone altogether is the hub's to refuse.
            return None
        fetch, task = self._begun(session.datalab, version)
        while not task.done():
            await tell(
                f"Fetching version {version.label} from its registry: {fetch.done:.0%}",
                round(100 * _OF_ALL * fetch.done),
            )
            await asyncio.wait({task}, timeout=_TELL_S)
        try:
            task.result()
        except CupolaError as error:
            return str(error)
        return None

    def _begun(self, datalab: str, version: Version) -> tuple[_Fetch, asyncio.Task[None]]:
        if version.digest not in self._fetches:
            fetch = _Fetch()
            task = asyncio.create_task(
                asyncio.to_thread(self._versions.fetch, datalab, version, fetch.watch),
                name=f"fetch {datalab} {version.label}",
            )
            self._fetches[version.digest] = fetch, task
            task.add_done_callback(lambda _: self._fetches.pop(version.digest, None))
        return self._fetches[version.digest]
