"""What can be found out about volumes: whether they are within reach, what lies in them, how much it is."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError, UnavailableError
from cupola.models.base import now
from cupola.platform.services.patience import in_thread
from cupola.platform.storage.files.stac import StacFolder
from cupola.platform.storage.mounts import rclone
from cupola.platform.storage.mounts.probe import probe_bucket, probe_export

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from cupola.models.volume import CollectionSummary, Volume
    from cupola.platform.storage.files.volumenotes import VolumeNotes
    from cupola.platform.storage.mounts.keeper import MountSpec

__all__ = ["Place", "VolumeLooks"]

_SCAN_AGAIN_S = 10.0
_SCAN_FAR_S = 6 * 3600.0
"""A look through a bucket costs its owner a request per folder and document."""
_REACHED_S = 60.0
_OUT_OF_REACH_S = 10.0
_FRESH_S = 1.0
_PROBES = 20
_MEASURE_S = 120.0
_SAMPLES = "sample-archive"


@dataclass(frozen=True)
class Place:
    """A volume and where its files really are."""

    volume: Volume
    spec: MountSpec | None = None
    """How it is mounted, where that is needed."""

    @property
    def far(self) -> bool:
        """Whether another machine has the files."""
        return self.volume.bucket is not None or self.volume.export is not None

    @property
    def key(self) -> str:
        """What tells this place from another one that has had the same name."""
        return str(self.volume.bucket or self.volume.export or self.folder)

    @property
    def folder(self) -> Path:
        """Where the files are on this host, once it is mounted."""
        near = self.spec.folder if self.spec else None
        return near or self.volume.source


class VolumeLooks:
    """Looks at volumes without ever waiting long.

    Parameters
    ----------
    notes
        Where it is kept what was found.
    patience
        Seconds to wait for a disk.
    is_up
        Tells whether a volume is mounted.
    open_way
        Opens what the buckets of people are read through; takes its time.
    """

    def __init__(
        self,
        *,
        notes: VolumeNotes,
        patience: float,
        is_up: Callable[[MountSpec], bool],
        open_way: Callable[[], None],
    ) -> None:
        self._open_way = open_way
        self._notes = notes
        self._patience = patience
        self._is_up = is_up
        self._checks: dict[str, asyncio.Future[str | None]] = {}
        self._scans: dict[str, asyncio.Future[list[CollectionSummary]]] = {}
        self._stac: dict[str, StacFolder] = {}
        self._scanned: dict[str, float] = {}
        self._reached: dict[str, tuple[float, str | None]] = {}
        self._probes = asyncio.Semaphore(_PROBES)
        self._measuring: dict[str, asyncio.Task[None]] = {}
        self._sizes_failed: dict[str, str] = {}

    async def look(self, place: Place, *, fresh: bool = False) -> Volume:
        """Return the volume with what lies in it, or with the reason why nobody can tell.

        Parameters
        ----------
        place
            The volume.
        fresh
            Ask the machine that has it anew, whatever it said a minute ago.
        """
        volume = place.volume
        unavailable = await self.reach(place, fresh=fresh)
        if unavailable is None and (not place.far or (place.spec and self._is_up(place.spec))):
            await self._scan(place)
        note = self._notes.get(volume.name, place.key)
        known: dict[str, object] = {
            "unavailable": unavailable,
            "collections": [] if unavailable and not place.far else note.collections,
            "looking": self._doing(volume.name),
        }
        if note.size_bytes is not None:
            known |= {"size_bytes": note.size_bytes, "size_exact": note.size_exact}
        return volume.model_copy(update=known)

    async def reach(self, place: Place, *, fresh: bool = False) -> str | None:
        """Return why a volume is out of reach, in a sentence; nothing where it is not."""
        name = place.volume.name
        at, unavailable = self._reached.get(name, (0.0, None))
        keep = _FRESH_S if fresh else _REACHED_S if unavailable is None else _OUT_OF_REACH_S
        if place.far and at and time.monotonic() - at < keep:
            return unavailable
        check = self._checks.get(name)
        if check is None:
            # While one look hangs no other one is begun.
            check = (
                asyncio.ensure_future(self._probe(place))
                if place.far
                else in_thread(partial(_why_not, place))
            )
            self._checks[name] = check
            check.add_done_callback(lambda _: self._checks.pop(name, None))
        done, _ = await asyncio.wait([check], timeout=self._patience)
        if done:
            return check.result()
        if place.far:
            return unavailable or f"{_machine(place)} gives no answer yet."
        return f"{place.folder} does not answer: its disk or network may be gone."

    def seen_again(self, name: str) -> None:
        """Forget what was found out about the reach of a volume: something about it changed."""
        self._reached.pop(name, None)
        self._scanned.pop(name, None)

    def forget(self, name: str) -> None:
        """Forget all about a volume."""
        self.seen_again(name)
        self._notes.forget(name)
        self._stac.pop(name, None)
        self._sizes_failed.pop(name, None)

    def is_known(self, place: Place) -> bool:
        """Return whether somebody has looked for collections in it."""
        return self._notes.get(place.volume.name, place.key).looked is not None

    def measure(self, place: Place) -> None:
        """Begin to count the size of a volume."""
        name = place.volume.name
        if name not in self._measuring:
            task = asyncio.create_task(self._measure(place))
            self._measuring[name] = task
            task.add_done_callback(lambda _: self._measuring.pop(name, None))

    async def aclose(self) -> None:
        """Stop counting."""
        for task in list(self._measuring.values()):
            task.cancel()
        await asyncio.gather(*self._measuring.values(), return_exceptions=True)

    def _doing(self, name: str) -> str | None:
        if name in self._measuring:
            return "Its size is being counted."
        if name in self._scans and (stac := self._stac.get(name)):
            return f"Collections are being looked for: {stac.seen:,} folders and documents so far."
        return self._sizes_failed.get(name)

    async def _probe(self, place: Place) -> str | None:
        async with self._probes:
            try:
                await self._open_guarded(place)
                unavailable = await _why_far(place)
            except CupolaError as error:
                unavailable = str(error)
        self._reached[place.volume.name] = (time.monotonic(), unavailable)
        return unavailable

    async def _open_guarded(self, place: Place) -> None:
        if place.spec is not None and place.spec.proxy is not None:
            await in_thread(self._open_way)

    async def _scan(self, place: Place) -> None:
        """Look for collections where the last look is old; wait for what a near disk tells at once."""
        name, key = place.volume.name, place.key
        note = self._notes.get(name, key)
        last = self._scanned.get(name)
        if place.far:
            if note.looked and (now() - note.looked).total_seconds() < _SCAN_FAR_S:
                return
        elif last is not None and time.monotonic() - last < _SCAN_AGAIN_S and note.looked:
            return
        scan = self._scans.get(name)
        if scan is None:
            stac = self._stac.setdefault(name, StacFolder(place.folder))
            scan = in_thread(stac.collections)
            self._scans[name] = scan
            scan.add_done_callback(partial(self._keep_scan, name, key))
        await asyncio.wait([scan], timeout=self._patience)

    def _keep_scan(self, name: str, key: str, scan: asyncio.Future[list[CollectionSummary]]) -> None:
        self._scans.pop(name, None)
        if scan.cancelled() or scan.exception() is not None:
            return
        self._scanned[name] = time.monotonic()
        note = self._notes.get(name, key)
        if note.looked is None or note.collections != scan.result():
            changes = {"looked": now(), "collections": scan.result()}
            self._notes.put(name, note.model_copy(update=changes))

    async def _measure(self, place: Place) -> None:
        name, spec = place.volume.name, place.spec
        self._sizes_failed.pop(name, None)
        try:
            await self._open_guarded(place)
            if spec is not None and spec.bucket is not None:
                remote = rclone.Remote(spec.bucket, spec.keys, spec.proxy)
                size = await asyncio.to_thread(rclone.total_size, remote, seconds=_MEASURE_S)
                exact = True
            else:
                size, exact = await in_thread(partial(_size_of, place.folder, _MEASURE_S))
        except (CupolaError, OSError) as error:
            self._sizes_failed[name] = f"Its size could not be counted: {error}"
            return
        note = self._notes.get(name, place.key)
        changes = {"measured": now(), "size_bytes": size, "size_exact": exact}
        self._notes.put(name, note.model_copy(update=changes))


def _machine(place: Place) -> str:
    volume = place.volume
    if volume.bucket is not None:
        return volume.bucket.endpoint
    return volume.export.server if volume.export else str(volume.source)


def _why_far(place: Place) -> Awaitable[str | None]:
    volume = place.volume
    if volume.bucket is not None:
        return probe_bucket(volume.bucket, proxy=place.spec.proxy if place.spec else None)
    if volume.export is not None:
        return probe_export(volume.export)
    raise UnavailableError(f"The volume {volume.name} lies on no other machine.")


def _why_not(place: Place) -> str | None:
    """Tell why a folder is out of reach, if it is."""
    folder = place.folder
    try:
        if not folder.is_dir():
            if place.volume.name == _SAMPLES:
                return "It is not made yet: `cupola up` makes it at its start."
            return f"There is no folder {folder}: make it, or correct the path in cupola.yaml."
        if not os.access(folder, os.R_OK | os.X_OK):
            return f"{folder} may not be read by the account that runs the platform."
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror})."
    return None


def _size_of(folder: Path, seconds: float) -> tuple[int, bool]:
    """Return the size of all files below `folder`, and whether the time was enough for all of them."""
    until, total = time.monotonic() + seconds, 0
    for _, _, names, handle in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            try:
                total += os.stat(name, dir_fd=handle, follow_symlinks=False).st_size
            except OSError:
                continue
        if time.monotonic() > until:
            return total, False
    return total, True
