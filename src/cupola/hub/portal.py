"""What the hub asks and tells the portal."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from cupola.client import AsyncClient
from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from cupola.models.session import Plan, Session, SessionReport

__all__ = ["Portal", "portal"]

FIRST_WAIT = 0.5
"""In seconds; doubled at each further try."""


class Portal:
    """The portal as the spawner sees it.

    Parameters
    ----------
    url
        Its REST root, ends in ``/services/cupola/api``.
    token
        The internal token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._client = AsyncClient(url, token, seconds=20)

    async def plan(self, session: str) -> Plan:
        """Return the plan of a session.

        Raises
        ------
        CupolaError
            The portal refuses, with its reason, or does not answer.
        """
        return await self._client.plan(session)

    async def report(self, session: str, report: SessionReport, *, tries: int = 3) -> Session:
        """Tell the portal what a session does; return how it knows the session now.

        Raises
        ------
        CupolaError
            The portal refuses, or did not answer in `tries` tries.
        """
        for attempt in range(tries - 1):
            try:
                return await self._client.report(session, report)
            except UnavailableError:
                await asyncio.sleep(FIRST_WAIT * 2**attempt)
        return await self._client.report(session, report)


@functools.cache
def portal(url: str, token: str) -> Portal:
    """Return the one client of this process: to make one for each call takes longer than the call."""
    return Portal(url, token)
