"""The catalogue: which datalabs there are, and in which versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from cupola.config import Compute
from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.datalab import BuildWhen, Datalab, DatalabKind
from cupola.platform.storage.docker.images import in_registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.models.datalab import Version
    from cupola.models.packages import Contents
    from cupola.platform.storage.environments import BuiltVersion
    from cupola.platform.storage.files.datalabs import DatalabFolder

__all__ = ["CatalogueService", "VersionStore"]


class VersionStore(Protocol):
    """What was built: locked environments or images."""

    def versions(self, datalab: str) -> list[BuiltVersion]:
        """Return the versions of a datalab, newest first."""

    def contents(self, datalab: str, built: BuiltVersion) -> Contents | None:
        """Return what a version holds, where that is known."""

    def recommended(self, datalab: str) -> str | None:
        """Return the digest that an operator has marked."""

    def problem(self) -> str | None:
        """Return why none can start just now, in a sentence."""

    def building(self, datalab: str) -> bool:
        """Tell whether somebody builds it just now."""


class CatalogueService:
    """Knows the datalabs.

    Parameters
    ----------
    folder
        Their descriptions.
    versions
        What was built of them.
    compute
        What sessions run in.
    """

    def __init__(
        self, *, folder: DatalabFolder, versions: VersionStore, compute: Compute = Compute.PROCESS
    ) -> None:
        self._folder = folder
        self._versions = versions
        self._compute = compute

    async def picture(self, name: str) -> bytes:
        """Return the picture of a datalab, as SVG.

        Raises
        ------
        NotFoundError
            If there is no such datalab, or it has none.
        """
        found = await asyncio.to_thread(self._folder.picture, name)
        if found is None:
            raise NotFoundError(f"The datalab {name!r} has no picture.")
        return found

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

    async def version(self, name: str, digest: str | None = None, *, fetched: bool = False) -> BuiltVersion:
        """Return a version of a datalab that can start here; the recommended one if none is named.

        Parameters
        ----------
        name, digest
            Of the datalab, and of the version.
        fetched
            Whether the caller fetches it where it is in a registry only; else it can start at once.

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
        for built in await asyncio.to_thread(self._versions.versions, name):
            if built.version.digest == wanted:
                if not built.version.ready and not (fetched and in_registry(built.version)):
                    raise ConflictError(_not_here(datalab, built.version))
                return built
        raise NotFoundError(
            f"{datalab.title} has no version {wanted}: its page in the catalogue shows which it has."
        )

    async def contents(self, name: str, built: BuiltVersion) -> Contents | None:
        """Return what a version of a datalab holds; nothing where that is not known."""
        return await asyncio.to_thread(self._versions.contents, name, built)

    def _complete(self, datalab: Datalab) -> Datalab:
        """Return `datalab` with its versions."""
        if datalab.unavailable:
            return datalab
        versions = [built.version for built in self._versions.versions(datalab.name)]
        versions.sort(key=lambda version: version.created, reverse=True)
        recommended = _recommended(versions, self._versions.recommended(datalab.name))
        return datalab.model_copy(
            update={
                "versions": versions,
                "recommended": recommended,
                "unavailable": self._why_not(datalab, versions, ready=recommended is not None),
            }
        )

    def _why_not(self, datalab: Datalab, versions: Sequence[Version], *, ready: bool) -> str | None:
        """Return why a datalab cannot run with this driver, in a sentence."""
        if self._compute is Compute.PROCESS and datalab.kind is not DatalabKind.JUPYTERLAB:
            return (
                "Sessions here are processes of one Jupyter server each, and this is another kind of program; it runs "
                "where cupola.yaml says `compute: docker`."
            )
        problem = self._versions.problem()
        if problem or ready:
            return problem
        if self._versions.building(datalab.name):
            return "It is being built just now, which takes some minutes: look again later."
        if self._compute is Compute.PROCESS:
            return "None of its versions is built on this machine yet: `cupola up` builds them at its start."
        return _why_no_image(datalab, built=bool(versions))


def _not_here(datalab: Datalab, version: Version) -> str:
    """Return that a version cannot start now, and the way out, in a sentence."""
    where = f"Version {version.label} of {datalab.title} is not on this machine"
    if in_registry(version):
        return f"{where} now, so it must be fetched first: try again in a while, or choose another version."
    return f"{where} any more and in no registry: choose another version."


def _why_no_image(datalab: Datalab, *, built: bool) -> str:
    """Return why the engine has no image of a datalab, in a sentence."""
    if built:
        return (
            "The engine has the image of none of its versions any more: "
            f"`cupola build {datalab.name}` makes a new one."
        )
    if datalab.build is BuildWhen.ON_REQUEST:
        return f"It is built on request only: `cupola build {datalab.name}` builds it."
    return (
        "None of its versions is built yet: the platform builds them one after the other, and "
        f"`cupola build {datalab.name}` builds this one at once."
    )


def _recommended(versions: Sequence[Version], marked: str | None) -> str | None:
    """Return what one click starts: what an operator marked, else the newest one that passed its check."""
    ready = [version for version in versions if version.ready]
    # What has to be fetched first takes minutes: only where nothing is here, one click does that too.
    for able in (ready, [version for version in versions if in_registry(version)]):
        for chosen in (
            [version for version in able if version.digest == marked],
            [version for version in able if version.verified],
            able,
        ):
            if chosen:
                return chosen[0].digest
    return None
