"""Which volumes are mounted on this host just now: those that sessions use, and no others."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import CupolaError
from cupola.platform.services.patience import in_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cupola.platform.storage.mounts.keeper import MountKeeper, MountSpec
    from cupola.platform.storage.mounts.way import GuardedWay

__all__ = ["VolumeMounts", "back_notice", "gone_notice", "notices_after"]

log = structlog.get_logger("cupola.portal")

_WAIT_S = 5.0
"""How long a launch waits for a mount; one that needs longer is there later, and its owner is told."""


def gone_notice(name: str, why: str) -> str:
    """Return what the owner of a session reads of a volume that is away."""
    return f"The volume {name} is out of reach just now, and is there when it comes back: {why}"


def back_notice(name: str) -> str:
    """Return what the owner of a session reads of a volume that was away."""
    return f"The volume {name} is there again: its files are at ~/volumes/{name}."


def notices_after(notices: Sequence[str], reach: Mapping[str, str | None]) -> list[str]:
    """Return the notices of a session anew.

    Parameters
    ----------
    notices
        What it was told so far.
    reach
        By volume why it is out of reach, or nothing.
    """
    kept = list(notices)
    for name, why in reach.items():
        gone = f"The volume {name} is out of reach"
        place = next((number for number, text in enumerate(kept) if text.startswith(gone)), None)
        if why is not None:
            kept = [text for text in kept if text != back_notice(name) and not text.startswith(gone)]
            kept.insert(len(kept) if place is None else min(place, len(kept)), gone_notice(name, why))
        elif place is not None:
            kept[place] = back_notice(name)
    return kept


class VolumeMounts:
    """Mounts what is wanted and takes away what nobody uses.

    Parameters
    ----------
    keeper
        Does it.
    way
        What the buckets of people are read through.
    idle
        Seconds after which a mount that nobody uses is taken away.
    """

    def __init__(self, *, keeper: MountKeeper, way: GuardedWay, idle: float) -> None:
        self._keeper = keeper
        self._way = way
        self._idle = idle
        self._tries: dict[str, asyncio.Future[None]] = {}
        self._wanted: dict[str, float] = {}
        self._prepared: asyncio.Lock = asyncio.Lock()
        self._ready = False

    @property
    def shared(self) -> bool:
        """Whether containers see what is mounted after their start."""
        return self._keeper.shared

    def is_up(self, spec: MountSpec) -> bool:
        """Return whether `spec` is mounted."""
        return self._keeper.is_up(spec)

    def open_way(self) -> None:
        """See to it that people's buckets can be reached; takes its time."""
        self._way.open()

    async def prepare(self) -> None:
        """Make the folders of the mounts, once.

        Raises
        ------
        OSError
            If they cannot be made.
        """
        async with self._prepared:
            if not self._ready:
                await asyncio.to_thread(self._keeper.prepare)
                self._ready = True

    async def want(self, specs: Sequence[MountSpec], *, seconds: float = _WAIT_S) -> dict[str, str]:
        """See to it that volumes are mounted, at once or a little later.

        Parameters
        ----------
        specs
            What is wanted.
        seconds
            How long to wait for all of them together.

        Returns
        -------
        :
            By name why one is not mounted yet.
        """
        if not specs:
            return {}
        try:
            await self.prepare()
        except OSError as error:
            return {
                spec.name: f"the folder of the mounts cannot be made ({error.strerror})" for spec in specs
            }
        tries = {}
        for spec in specs:
            self._wanted[spec.name] = time.monotonic()
            tries[spec.name] = self._try(spec)
        if seconds > 0:
            await asyncio.wait(tries.values(), timeout=seconds)
        problems = {}
        for name, one in tries.items():
            if not one.done():
                problems[name] = "It is still being mounted."
            elif (failure := one.exception()) is not None:
                problems[name] = str(failure)
        return problems

    async def make_places(self, specs: Sequence[MountSpec]) -> None:
        """Make the empty folders that containers are given for volumes that are not mounted yet."""
        for spec in specs:
            try:
                await asyncio.to_thread(self._keeper.make_place, spec.name)
            except OSError as error:
                log.warning("no place for a mount", volume=spec.name, error=str(error))

    async def tend(self, specs: Mapping[str, MountSpec], *, used: Collection[str], busy: bool) -> None:
        """Mend what is used, take away what is not, and what is no volume any more.

        Parameters
        ----------
        specs
            All volumes that can be mounted, by name.
        used
            Names of the volumes of running sessions.
        busy
            Whether jobs run: they may use what no session uses.
        """
        if used or self._ready:
            await self.want([specs[name] for name in used if name in specs])
        for name in await asyncio.to_thread(self._keeper.known):
            recent = time.monotonic() - self._wanted.setdefault(name, time.monotonic()) < self._idle
            if name in specs and (name in used or busy or recent):
                continue
            await self.drop(name, forget=name not in specs)

    async def drop(self, name: str, *, forget: bool = False) -> None:
        """Take a mount away; with `forget` also what is kept of its files on this host."""
        self._wanted.pop(name, None)
        work = in_thread(partial(self._keeper.unmount, name, forget=forget))
        done, _ = await asyncio.wait([work], timeout=_WAIT_S)
        if done and isinstance(error := work.exception(), CupolaError):
            log.warning("a mount stays", volume=name, error=str(error))

    def _try(self, spec: MountSpec) -> asyncio.Future[None]:
        """Begin to mount, unless somebody is at it."""
        one = self._tries.get(spec.name)
        if one is None:
            one = in_thread(partial(self._mount, spec))
            self._tries[spec.name] = one
            one.add_done_callback(partial(self._tried, spec.name))
        return one

    def _mount(self, spec: MountSpec) -> None:
        if spec.proxy is not None:
            self._way.open()
        self._keeper.mount(spec)

    def _tried(self, name: str, one: asyncio.Future[None]) -> None:
        self._tries.pop(name, None)
        # Nobody may be waiting any more: then this is where it is heard of.
        if not one.cancelled() and (error := one.exception()) is not None:
            log.warning("a volume could not be mounted", volume=name, error=str(error))
