"""How long nothing has gone on in a session: pure rules, by a clock that only goes up.

Only time that was *known* to be idle counts. Whoever cannot see (no word from the session, a hub that is away, a portal
that has just begun) has seen no idleness; and a clock that was set, or a machine that slept, adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from cupola.models.activity import Activity

__all__ = ["BUSY_CORES", "FRESH_S", "Idleness", "Processor", "Sight"]

FRESH_S = 90.0
"""A session tells every 20 s; after so long without a word nothing is known of it."""
BUSY_CORES = 0.05
"""From so much on a session computes. A Lab with five idle kernels takes about a hundredth of a core."""
_MOST_STEP_S = 60.0
"""A longer pause between two looks was none in which anybody looked: the portal stood still."""
_LEAST_SPAN_S = 5.0
"""Over less than this the seconds of a processor say too little."""


@dataclass(frozen=True)
class Sight:
    """What can be seen of a session at one look."""

    known: bool | None
    """Whether anything can be; nothing: not yet, it may still tell."""
    busy: bool = False
    """Whether it computes, or a job of it does."""
    mark: datetime | None = None
    """When it was last used, by whatever clock: another value than before is a use."""
    unused: float | None = None
    """For how many seconds nobody used it, where the session tells that itself."""
    cores: float = 0.0
    """How busy its processors are."""


class Idleness:
    """How long one session has been idle without a break.

    Parameters
    ----------
    known
        Seconds that are known from before, such as those of a stop that an earlier portal announced.
    """

    def __init__(self, known: float = 0.0) -> None:
        self.seconds = known
        self.seen = False
        """Whether the last look saw anything."""
        self._last: float | None = None
        self._mark: datetime | None = None

    def look(self, at: float, sight: Sight) -> float:
        """Take one look at the time `at` (seconds that only go up) and return for how long it has been idle."""
        step = 0.0 if self._last is None else min(max(0.0, at - self._last), _MOST_STEP_S)
        self._last, self.seen = at, bool(sight.known)
        if sight.known is None:
            return self.seconds
        used = self._mark is not None and sight.mark is not None and sight.mark != self._mark
        self._mark = sight.mark or self._mark
        if not sight.known or sight.busy or used:
            self.seconds = 0.0
        else:
            self.seconds += step
            self.used(sight.unused)
        return self.seconds

    def used(self, ago: float | None) -> None:
        """Take that it was used so many seconds ago; nothing: nobody says when."""
        if ago is not None:
            self.seconds = min(self.seconds, ago)


class Processor:
    """Whether the processor time that a session tells grows."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None
        self.cores = 0.0

    def tell(self, at: float, activity: Activity) -> None:
        """Take what a session told at the time `at`, in seconds that only go up."""
        if activity.cpu_seconds is None:
            return
        if self._before is None:
            self._before = at, activity.cpu_seconds
            return
        span = at - self._before[0]
        if span < _LEAST_SPAN_S:
            return
        # It falls when a program ends, whose time nobody counts any more.
        self.cores = max(0.0, activity.cpu_seconds - self._before[1]) / span
        self._before = at, activity.cpu_seconds
