"""The catalogue: which datalabs there are, and in which versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.datalab import Datalab, DatalabKind

if TYPE_CHECKING:
    from cupola.platform.storage.environments import BuiltVersion, EnvironmentStore
    from cupola.platform.storage.files.datalabs import DatalabFolder

__all__ = ["CatalogueService"]


class CatalogueService:
    """Knows the datalabs.

    Parameters
    ----------
    folder
        Their descriptions.
    environments
        What was built of them on this host.
    """

    def __init__(self, *, folder: DatalabFolder, environments: EnvironmentStore) -> None:
        self._folder = folder
        self._environments = environments

    async def datalabs(self) -> list[Datalab]:
        """Return all datalabs by name, also those that cannot run; they say why."""
        return await asyncio.to_thread(
            lambda: [self._complete(datalab) for datalab in self._folder.datalabs()]
        )

    async def datalab(self, name: str) -> Datalab:
        """Return one datalab.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        """
        for datalab in await self.datalabs():
            if datalab.name == name:
                return datalab
        raise NotFoundError(f"There is no datalab {name!r}: the catalogue shows which there are.")

    async def version(self, name: str, digest: str | None = None) -> BuiltVersion:
        """Return a version of a datalab that can start here at once; the recommended one if none is named.

        Raises
        ------
        NotFoundError
            If there is no such datalab or version.
        ConflictError
            If it cannot run.
        """
        datalab = await self.datalab(name)
        if datalab.unavailable:
            raise ConflictError(f"{datalab.title} cannot run: {datalab.unavailable}")
        wanted = digest or datalab.recommended
        for built in await asyncio.to_thread(self._environments.versions, name):
            if built.version.digest == wanted:
                if not built.version.ready:
                    raise ConflictError(
                        f"Version {built.version.label} of {datalab.title} is still being built."
                    )
                return built
        raise NotFoundError(
            f"{datalab.title} has no version {wanted}: its page in the catalogue shows which it has."
        )

    def _complete(self, datalab: Datalab) -> Datalab:
        """Return `datalab` with its versions."""
        if datalab.unavailable:
            return datalab
        versions = [built.version for built in self._environments.versions(datalab.name)]
        versions.sort(key=lambda version: version.created, reverse=True)
        recommended = next((version.digest for version in versions if version.ready), None)
        return datalab.model_copy(
            update={
                "versions": versions,
                "recommended": recommended,
                "unavailable": _why_not(datalab, built=recommended is not None),
            }
        )


def _why_not(datalab: Datalab, *, built: bool) -> str | None:
    if datalab.kind is not DatalabKind.JUPYTERLAB:
        return "Sessions here are processes of one Jupyter server each, and this is another kind of program."
    if not built:
        return "None of its versions is built on this machine yet: `cupola up` builds them at its start."
    return None
