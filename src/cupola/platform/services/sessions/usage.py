"""What running sessions use just now."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import CupolaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from cupola.models.resources import Usage

    class Meter(Protocol):
        """What measures."""

        def usages(self, sessions: Sequence[str]) -> dict[str, Usage]:
            """Return what each of the running sessions uses; one that nobody can measure is left out."""


__all__ = ["UsageService"]

log = structlog.get_logger("cupola.portal")

_FRESH_S = 2.0
"""Pages that many people look at cost one look in this time."""
_PATIENCE_S = 3.0
"""An engine that takes longer shows no figures; the page does not wait for it."""


class UsageService:
    """Knows what sessions use; a look that fails shows nothing rather than breaking a page.

    Parameters
    ----------
    meter
        Measures; it may block.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, meter: Meter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._known: dict[str, tuple[float, Usage | None]] = {}
        self._looks: dict[frozenset[str], asyncio.Task[dict[str, Usage]]] = {}

    async def usages(self, sessions: Sequence[str]) -> dict[str, Usage]:
        """Return what each of `sessions` uses, by id; those that nobody can measure are left out."""
        now = self._clock()
        self._known = {name: seen for name, seen in self._known.items() if now - seen[0] < _FRESH_S}
        asked = frozenset(name for name in sessions if name not in self._known)
        if asked:
            look = self._looks.get(asked)
            if look is None:
                look = asyncio.create_task(asyncio.to_thread(self._meter.usages, sorted(asked)))
                self._looks[asked] = look
                look.add_done_callback(lambda done: self._keep(asked, done))
            # Shielded: a look that hangs is not begun again by each page that asks.
            await asyncio.wait([look], timeout=_PATIENCE_S)
        known = {name: self._known[name][1] for name in sessions if name in self._known}
        return {name: usage for name, usage in known.items() if usage is not None}

    def _keep(self, asked: frozenset[str], look: asyncio.Task[dict[str, Usage]]) -> None:
        self._looks.pop(asked, None)
        if look.cancelled():
            return
        error = look.exception()
        if error is not None:
            if not isinstance(error, CupolaError):
                log.error("usage cannot be measured", error=repr(error))
            return
        at = self._clock()
        self._known.update({name: (at, look.result().get(name)) for name in asked})
