"""Volumes: the data areas of this platform, and what of them a session gets."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cupola.exceptions import NotFoundError
from cupola.models.volume import Access, CollectionSummary, Volume, VolumeKind
from cupola.platform.storage.files.stac import StacFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cupola.config import StatePaths, VolumeSettings
    from cupola.models.person import Person

__all__ = ["HOME", "SAMPLES", "Chosen", "VolumeService"]

HOME = "home"
SAMPLES = "sample-archive"
Look = tuple[str | None, list[CollectionSummary]]
"""Why a volume is out of reach, if it is, and what lies in it."""
_PATIENCE_S = 2.0
"""A disk that needs longer to tell whether a folder is there hangs, as a lost network disk does."""


@dataclass(frozen=True)
class Chosen:
    """The volumes of one session."""

    volumes: list[Volume]
    """The home first."""
    notices: list[str]
    """What the owner should know of them, a sentence each."""


class VolumeService:
    """Knows the volumes.

    Parameters
    ----------
    settings
        The volumes of ``cupola.yaml``.
    paths
        Where homes and the sample archive lie.
    samples
        Whether the sample archive is offered.
    patience
        Seconds to wait for a disk.
    """

    def __init__(
        self,
        *,
        settings: Sequence[VolumeSettings],
        paths: StatePaths,
        samples: bool,
        patience: float = _PATIENCE_S,
    ) -> None:
        self._paths = paths
        self._patience = patience
        self._shared = [_from_settings(volume) for volume in settings]
        if samples:
            self._shared.insert(0, _sample_archive(paths.sample_archive))
        self._stac = {volume.name: StacFolder(volume.source) for volume in self._shared}
        self._looks: dict[str, asyncio.Future[Look]] = {}

    async def volumes(self, person: Person) -> list[Volume]:
        """Return the volumes that `person` may use, with what lies in them; one out of reach says so."""
        return [self._home(person), *await asyncio.gather(*(self._look(volume) for volume in self._shared))]

    async def volume(self, person: Person, name: str) -> Volume:
        """Return one volume.

        Raises
        ------
        NotFoundError
            If the person has none of this name.
        """
        if name == HOME:
            return self._home(person)
        for volume in self._shared:
            if volume.name == name:
                return await self._look(volume)
        raise NotFoundError(f"There is no volume {name!r}: the page Data shows which there are.")

    async def chosen(
        self, person: Person, names: Sequence[str] | None, *, skip_missing: bool = False
    ) -> Chosen:
        """Return the volumes that a session or a task of `person` gets; the home is always the first.

        A volume that is out of reach does not stand in the way: it is among them with a notice, and is there when it
        comes back.

        Parameters
        ----------
        person
            Whose session it is.
        names
            The wanted volumes. Nothing: all that are within reach.
        skip_missing
            Leave out unknown names instead of refusing.

        Raises
        ------
        NotFoundError
            If the person has no volume of such a name.
        """
        if names is None or skip_missing:
            offered = await self.volumes(person)
            wanted = [v for v in offered if (v.unavailable is None if names is None else v.name in names)]
        else:
            wanted = [await self.volume(person, name) for name in dict.fromkeys(names)]
        notices = [
            f"The volume {volume.name} is out of reach just now, and is there when it comes back: {volume.unavailable}"
            for volume in wanted
            if volume.unavailable
        ]
        others = [volume for volume in wanted if volume.name != HOME]
        return Chosen([self._home(person), *others], notices)

    def _home(self, person: Person) -> Volume:
        return Volume(
            name=HOME,
            title="Home",
            description="Your own files: they stay when a session ends.",
            kind=VolumeKind.HOME,
            source=self._paths.home(person.name),
            access=Access.WRITE,
        )

    async def _look(self, volume: Volume) -> Volume:
        """Return `volume` with what lies in it, or with the reason why nobody can tell."""
        look = self._looks.get(volume.name)
        if look is None:
            # While one look hangs no other one is begun.
            look = _in_thread_of_its_own(partial(_look_into, volume, self._stac[volume.name]))
            self._looks[volume.name] = look
            look.add_done_callback(lambda _: self._looks.pop(volume.name, None))
        done, _ = await asyncio.wait([look], timeout=self._patience)
        if not done:
            slow = f"{volume.source} does not answer: its disk or network may be gone."
            return volume.model_copy(update={"unavailable": slow})
        unavailable, collections = look.result()
        return volume.model_copy(update={"unavailable": unavailable, "collections": collections})


def _in_thread_of_its_own(work: Callable[[], Look]) -> asyncio.Future[Look]:
    """Begin `work` in a thread that neither takes one that others need nor keeps the process from ending.

    A look at a disk that hangs never ends.
    """
    future: Future[Look] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
            future.set_exception(error)

    threading.Thread(target=run, name="volume", daemon=True).start()
    return asyncio.wrap_future(future)


def _look_into(volume: Volume, stac: StacFolder) -> Look:
    """Tell why a volume is out of reach, if it is, and which collections it holds."""
    source = volume.source
    try:
        if not source.is_dir():
            if volume.name == SAMPLES:
                return "It is not made yet: `cupola up` makes it at its start.", []
            return f"There is no folder {source}: make it, or correct the path in cupola.yaml.", []
        if not os.access(source, os.R_OK | os.X_OK):
            return f"{source} may not be read by the account that runs the platform.", []
        return None, stac.collections()
    except OSError as error:
        return f"{source} cannot be read ({error.strerror}).", []


def _from_settings(settings: VolumeSettings) -> Volume:
    return Volume(
        name=settings.name,
        title=settings.title,
        description=settings.description,
        kind=VolumeKind.ARCHIVE,
        source=settings.path,
        access=settings.access,
        licence=settings.licence,
        citation=settings.citation,
        example=settings.example,
    )


def _sample_archive(path: Path) -> Volume:
    return Volume(
        name=SAMPLES,
        title="Sample archive",
        description="Small made-up images of Earth, a planet and the sky, to try things with.",
        kind=VolumeKind.ARCHIVE,
        source=path,
        licence="CC0-1.0",
    )
