"""The batch engines that people choose among, with what each has now.

A scheduler may hang for as long as it likes: whoever asks for the list waits a moment at most, and is told what was known.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError
from cupola.models.engine import EngineInfo, engine_title
from cupola.platform.storage.engine import info_of, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cupola.models.person import Profile
    from cupola.platform.storage.engine import Capacity, Engine

__all__ = ["EngineService"]

FRESH_S = 10.0
"""For so long an answer is good enough: pages ask every few seconds, many people at a time."""
WAIT_S = 2.0
"""Most time that whoever asks for the list waits for an engine."""


@dataclass
class _Known:
    """What is known of one engine."""

    info: EngineInfo
    at: float | None = None
    """When it last answered or refused; nothing: it was never asked to the end."""
    asking: asyncio.Task[None] | None = None
    """The only question that is under way: a second one to a scheduler that hangs would hang as well."""


class EngineService:
    """Knows the engines.

    Parameters
    ----------
    engines
        By name, the default one first.
    used
        Returns how many cores of an engine our own jobs use, for one that cannot tell what is free.
    """

    def __init__(self, engines: Mapping[str, Engine], *, used: Callable[[str], int]) -> None:
        self._engines = engines
        self._used = used
        default = next(iter(engines))
        self._known = {
            name: _Known(
                EngineInfo(name=name, title=engine_title(name), default=name == default, answers=False)
            )
            for name in engines
        }

    async def engines(self, profile: Profile) -> list[EngineInfo]:
        """Return the engines, the default one first; one that hangs is one that does not answer.

        Parameters
        ----------
        profile
            Of whoever asks: what it allows a task may be less than what an engine has.
        """
        asked = [task for name in self._engines if (task := self._ask(name)) is not None]
        if asked:
            await asyncio.wait(asked, timeout=WAIT_S)
        return [_allowed(self._told(known), profile) for known in self._known.values()]

    async def aclose(self) -> None:
        """Wait for no answer any more."""
        for known in self._known.values():
            if known.asking is not None:
                known.asking.cancel()

    def _ask(self, name: str) -> asyncio.Task[None] | None:
        """Ask an engine if its answer is old; return the question that is under way."""
        known = self._known[name]
        if known.asking is not None and not known.asking.done():
            return known.asking
        if known.at is not None and time.monotonic() - known.at < FRESH_S:
            return None
        known.asking = asyncio.create_task(self._look(name))
        return known.asking

    async def _look(self, name: str) -> None:
        known = self._known[name]
        try:
            capacity = await asyncio.to_thread(look_at, self._engines[name])
        except CupolaError as error:
            known.info = known.info.model_copy(update={"answers": False, "problem": str(error)})
        else:
            known.info = self._has(known.info, capacity)
        known.at = time.monotonic()

    def _has(self, known: EngineInfo, capacity: Capacity) -> EngineInfo:
        told = info_of(known.name, capacity, default=known.default)
        if told.free_cores is not None:
            return told
        return told.model_copy(update={"free_cores": max(0, capacity.cores - self._used(known.name))})

    def _told(self, known: _Known) -> EngineInfo:
        late = known.asking is not None and not known.asking.done()
        if not late or not (known.info.answers or known.info.problem is None):
            return known.info
        problem = f"{known.info.title} has not answered for {WAIT_S:g} s: try again in a minute, or take another engine."
        return known.info.model_copy(update={"answers": False, "problem": problem})


def _allowed(info: EngineInfo, profile: Profile) -> EngineInfo:
    """Return an engine with what a task may have of it."""
    if info.task_cores is None or info.task_memory_mib is None:
        return info
    cores, memory = min(info.task_cores, int(profile.cores)), min(info.task_memory_mib, profile.memory_mib)
    return info.model_copy(update={"task_cores": cores, "task_memory_mib": memory})
