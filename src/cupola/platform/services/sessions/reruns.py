"""From a version's digest back to its datalab: what made a product can make it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import NotFoundError

if TYPE_CHECKING:
    from datetime import datetime

    from cupola.models.datalab import Datalab, Version
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.storage.database.sessions import SessionStore

__all__ = ["Rerun", "Reruns"]


@dataclass(frozen=True)
class Rerun:
    """Where a version can be launched again."""

    datalab: Datalab
    version: Version | None
    """Exactly that version; nothing where it is gone."""
    nearest: Version | None
    """What comes closest, where it is gone: the newest that is not newer, else the oldest there is."""


class Reruns:
    """Finds the datalab of a version.

    Parameters
    ----------
    catalogue
        What can be launched.
    store
        What was launched: it knows versions that are gone.
    """

    def __init__(self, *, catalogue: CatalogueService, store: SessionStore) -> None:
        self._catalogue = catalogue
        self._store = store

    async def find(self, digest: str, *, datalab: str | None = None, made: datetime | None = None) -> Rerun:
        """Return where the version `digest` can be launched.

        Parameters
        ----------
        digest
            The version, as products and sessions name it.
        datalab
            Whose version it was, where that is known: it helps if the version is gone.
        made
            When it was used, where that is known.

        Raises
        ------
        NotFoundError
            If no datalab has this version, and nobody knows whose it was.
        """
        everything = await self._catalogue.datalabs()
        for found in everything:
            for version in found.versions:
                if version.digest == digest:
                    return Rerun(found, version, None)
        first = await self._store.first_with(digest)
        if first is not None:
            datalab, made = first.datalab, made or first.created
        for found in everything:
            if found.name == datalab:
                return Rerun(found, None, _nearest(found.versions, made))
        raise NotFoundError(
            f"No datalab here has the version {digest[:19]}, and none of the sessions here ran it: it was made on another "
            "platform, or its datalab is gone. The catalogue shows what there is."
        )


def _nearest(versions: list[Version], made: datetime | None) -> Version | None:
    """Return the newest ready version that was there at the time `made`; the oldest ready one if none was."""
    ready = sorted((version for version in versions if version.ready), key=lambda version: version.created)
    if made is None:
        return ready[-1] if ready else None
    before = [version for version in ready if version.created <= made]
    return before[-1] if before else ready[0] if ready else None
