"""What sessions tell of themselves, what they are answered, and the snapshots that they are asked for before a stop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cupola.models.activity import Activity, PlannedStop, SnapshotTold, StopKind
from cupola.models.base import now
from cupola.platform.services.sessions.idleness import FRESH_S, Processor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHORT_WAIT_S", "Announced", "Switchboard", "Told"]

SHORT_WAIT_S = 10.0
"""So long somebody who stops or restarts a session waits for its snapshot at most."""
LONGEST_ANSWER_S = 25.0
"""So long an answer is held back at most, until there is something to say."""
_MOST_SESSIONS = 10_000


@dataclass
class Told:
    """The last word of one session."""

    activity: Activity
    at: float
    """Seconds that only go up."""
    processor: Processor = field(default_factory=Processor)


@dataclass
class Announced:
    """A stop that was announced to one session."""

    kind: StopKind
    reason: str
    due: float
    """When, in seconds that only go up: a clock that is set moves no stop."""
    by: str | None = None
    keepable: bool = True
    wish: str | None = None
    """The snapshot that it is asked for."""

    def copy(self) -> Announced:
        """Return the same for another session."""
        return replace(self)

    def shown(self, moment: float) -> PlannedStop:
        """Return it as people and sessions see it at `moment`."""
        left = max(0.0, self.due - moment)
        return PlannedStop(
            at=now() + timedelta(seconds=left),
            reason=self.reason,
            kind=self.kind,
            seconds=round(left, 1),
            keepable=self.keepable,
            snapshot=self.wish,
        )


class Switchboard:
    """Between the portal and the sessions: sessions ask, so what they are to know waits here for their next question.

    Parameters
    ----------
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = clock()
        """When this portal began to listen."""
        self.announced: dict[str, Announced] = {}
        self._told: dict[str, Told] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._answers: dict[str, asyncio.Event] = {}

    def tell(self, session: str, activity: Activity) -> None:
        """Take what a session tells."""
        before = self._told.pop(session, None)
        told = Told(activity, self.clock(), before.processor if before else Processor())
        told.processor.tell(told.at, activity)
        self._told[session] = told
        while len(self._told) > _MOST_SESSIONS:
            self._told.pop(next(iter(self._told)))
        if (waiting := self._answers.pop(session, None)) is not None:
            waiting.set()

    def told(self, session: str) -> Told | None:
        """Return the last word of a session, if it is not too old."""
        told = self._told.get(session)
        return told if told is not None and self.clock() - told.at < FRESH_S else None

    def forget(self, session: str) -> None:
        """Forget a session that has ended."""
        self._told.pop(session, None)
        self.withdraw(session)

    def announce(self, session: str, announced: Announced) -> None:
        """Let a session know of a stop."""
        self.announced[session] = announced
        self._tell_news(session)

    def withdraw(self, session: str) -> None:
        """Let a session know that no stop comes."""
        if self.announced.pop(session, None) is not None:
            self._tell_news(session)

    def of(self, session: str) -> PlannedStop | None:
        """Return the stop that is announced to a session."""
        announced = self.announced.get(session)
        return None if announced is None else announced.shown(self.clock())

    async def answer(self, session: str, wait: float = 0.0) -> PlannedStop | None:
        """Return what a session is to know, at once or, with `wait`, at the next news within so many seconds."""
        if wait > 0:
            news = self._news.setdefault(session, asyncio.Event())
            wish = self.announced[session].wish if session in self.announced else None
            told = self._told.get(session)
            done = told.activity.snapshot.wish if told and told.activity.snapshot else None
            if wish is None or wish == done:  # else there is something to do at once
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), min(wait, LONGEST_ANSWER_S))
        return self.of(session)

    async def snapshot(self, session: str, announced: Announced, seconds: float) -> SnapshotTold | None:
        """Ask a session for a snapshot and wait for it.

        Parameters
        ----------
        session
            Which.
        announced
            Why; the session is answered this, with the wish.
        seconds
            How long its answer is awaited.

        Returns
        -------
        :
            What it told; nothing where it has nothing to keep, does not answer in time, or the stop was withdrawn.
        """
        told = self.told(session)
        if told is None or not told.activity.guardian:
            return None
        wish = secrets.token_hex(8)
        announced.wish = wish
        self.announce(session, announced)
        try:
            async with asyncio.timeout(seconds):
                while self.announced.get(session) is announced:
                    waiting = self._answers.setdefault(session, asyncio.Event())
                    told = self.told(session)
                    if told and (done := told.activity.snapshot) is not None and done.wish == wish:
                        return done
                    await waiting.wait()
        except TimeoutError:
            return None
        return None

    def _tell_news(self, session: str) -> None:
        for events in (self._news, self._answers):
            if (event := events.pop(session, None)) is not None:
                event.set()
