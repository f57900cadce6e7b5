"""One question to a scheduler for all jobs that want to know something at about the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.models.job import TaskState
    from cupola.platform.storage.engine import Array, Engine

__all__ = ["Polls"]

_GATHER_S = 0.1
"""What is asked within this time is asked together."""


class Polls:
    """Gathers the questions of many jobs to one engine.

    Parameters
    ----------
    engine
        Who is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted: dict[str, tuple[Array, str]] = {}
        self._round: asyncio.Task[dict[str, dict[int, TaskState]]] | None = None

    async def ask(self, array: Array, native: str) -> dict[int, TaskState] | None:
        """Return what the engine knows of the tasks of an array; nothing where it has not got it (any more).

        Raises
        ------
        UnavailableError
            The engine does not answer.
        """
        self._wanted[array.tag] = (array, native)
        if self._round is None:
            self._round = asyncio.create_task(self._ask_for_all())
        # One who gives up waiting must not take the question away from the others.
        return (await asyncio.shield(self._round)).get(array.tag)

    async def _ask_for_all(self) -> dict[str, dict[int, TaskState]]:
        await asyncio.sleep(_GATHER_S)
        wanted, self._wanted, self._round = list(self._wanted.values()), {}, None
        return await asyncio.to_thread(self._engine.poll, wanted)
