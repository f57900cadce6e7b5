"""What is before a job in its scheduler's queue: asked only for jobs that somebody looks at, and seldom."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cupola.exceptions import CupolaError
from cupola.models.base import now
from cupola.models.engine import engine_title
from cupola.models.job import Job, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.platform.services.jobs.watch import Watch
    from cupola.platform.storage.engine import Engine

__all__ = ["Queues", "sentence"]

SETTLED_S = 3.0
"""Seconds that a job must have waited: most begin before anybody wants to know."""
FRESH_S = 15.0
"""For so long an answer is good enough: panels look each second."""
WAIT_S = 0.5
"""Most time that whoever looks first waits for the answer; the next look has it."""


@dataclass
class _Place:
    ahead: int | None = None
    at: float | None = None
    """When it was last told; nothing: not yet."""
    asking: asyncio.Task[None] | None = None


class Queues:
    """Knows what is before jobs that wait.

    Parameters
    ----------
    engines
        By name.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines
        # One question at a time to each: a scheduler that hangs takes one thread, however many jobs wait there.
        self._turns = {name: asyncio.Lock() for name in engines}
        self._places: WeakKeyDictionary[Watch, _Place] = WeakKeyDictionary()

    async def told(self, job: Job, watch: Watch | None) -> Job:
        """Return a job with what is before it, where it waits in a scheduler's queue.

        Parameters
        ----------
        job
            The job.
        watch
            Who watches it; nothing where it has ended.
        """
        if watch is None or not _waits(watch):
            return job
        place = self._places.setdefault(watch, _Place())
        if place.asking is None and (place.at is None or time.monotonic() - place.at > FRESH_S):
            place.asking = asyncio.create_task(self._ask(watch, place))
            if place.at is None:
                await asyncio.wait([place.asking], timeout=WAIT_S)
        # It may have begun meanwhile.
        if place.ahead is None or not _waits(watch):
            return job
        return job.model_copy(
            update={"ahead": place.ahead, "waits": sentence(place.ahead, engine_title(job.engine))}
        )

    async def aclose(self) -> None:
        """Ask nothing any more."""
        for place in self._places.values():
            if place.asking is not None:
                place.asking.cancel()

    async def _ask(self, watch: Watch, place: _Place) -> None:
        engine, native = watch.stored.job.engine, watch.stored.native or ""
        try:
            async with self._turns[engine]:
                place.ahead = await asyncio.to_thread(self._engines[engine].ahead, watch.array, native)
        except CupolaError:
            # It is told elsewhere that the engine does not answer.
            place.ahead = None
        finally:
            place.at, place.asking = time.monotonic(), None


def sentence(ahead: int, engine: str) -> str:
    """Say what is before a job in the queue of an engine."""
    if ahead == 0:
        return f"It waits: no task is before it in {engine}'s queue."
    tasks = "1 task is" if ahead == 1 else f"{ahead:,} tasks are"
    return f"It waits: {tasks} before it in {engine}'s queue."


def _waits(watch: Watch) -> bool:
    stored = watch.stored
    return (
        stored.job.state is JobState.QUEUED
        and stored.native is not None
        and not watch.supervised
        and (now() - stored.job.created).total_seconds() > SETTLED_S
    )
