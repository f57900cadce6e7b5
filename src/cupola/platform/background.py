"""Timers: what the portal does without being asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import CupolaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from cupola.platform.factory import Factory

__all__ = ["Background"]

log = structlog.get_logger("cupola.portal")

_RECONCILE_S = 20.0
_UNTIL_FIRST_S = 1.0
"""Until the hub answers for the first time it is asked this often: at a start of everything it comes up after us."""


class Background:
    """Runs the timers of one portal while it is entered.

    Parameters
    ----------
    factory
        Has the services.
    period
        Seconds between two rounds.
    """

    def __init__(self, factory: Factory, *, period: float = _RECONCILE_S) -> None:
        self._factory = factory
        self._period = period
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._every("sessions", self._factory.sessions.reconcile)),
            asyncio.create_task(self._every("jobs", self._factory.jobs.reconcile)),
            asyncio.create_task(self._every("volumes", self._factory.volumes.reconcile)),
            asyncio.create_task(self._every("versions", self._factory.builds.keep_ready)),
            asyncio.create_task(self._every("quotas", self._factory.quotas.watch)),
            asyncio.create_task(self._every("teams", self._factory.teams.reconcile)),
            asyncio.create_task(self._every("shares", self._factory.shares.expire)),
            asyncio.create_task(self._factory.deliverer.run()),
            asyncio.create_task(self._factory.idle.run()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _every(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` at once and then again and again; no failure ends it."""
        worked = False
        while True:
            try:
                await work()
                worked = True
            except CupolaError as error:
                log.warning("reconcile failed", what=name, error=str(error))
            except Exception:
                log.exception("reconcile failed", what=name)
            await asyncio.sleep(self._period if worked else min(self._period, _UNTIL_FIRST_S))
