"""What can be seen of sessions from outside and inside: what they tell, the hub's word, the processor, their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.models.job import JobState
from cupola.platform.services.sessions.idleness import BUSY_CORES, FRESH_S, Sight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cupola.models.activity import Activity
    from cupola.models.resources import Usage
    from cupola.models.session import Session
    from cupola.platform.services.sessions.hub import SessionHub
    from cupola.platform.services.sessions.stops import Switchboard, Told
    from cupola.platform.services.sessions.usage import UsageService
    from cupola.platform.storage.database.jobs import JobStore
    from cupola.platform.storage.database.sessions import StoredSession

__all__ = ["Sights"]

_GOING_ON = {JobState.QUEUED, JobState.RUNNING}
"""A job that its owner holds goes on by nobody's work."""
_WEB = "cupola.lab.app"


class Sights:
    """Looks at sessions.

    Parameters
    ----------
    switchboard
        What they tell.
    at_hub
        When the hub last told of all sessions.
    meter
        What they use.
    jobs
        What computes for them elsewhere.
    clock
        Seconds that only go up, as `at_hub` uses them.
    """

    def __init__(
        self,
        *,
        switchboard: Switchboard,
        at_hub: SessionHub,
        meter: UsageService,
        jobs: JobStore,
        clock: Callable[[], float],
    ) -> None:
        self._switchboard, self._at_hub, self._meter = switchboard, at_hub, meter
        self._jobs, self._clock = jobs, clock
        self._first: dict[str, float] = {}

    async def of(self, sessions: Sequence[StoredSession]) -> dict[str, Sight]:
        """Return what can be seen of each, by its id.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        names = {stored.session.id for stored in sessions}
        self._first = {name: at for name, at in self._first.items() if name in names}
        told = {name: self._switchboard.told(name) for name in names}
        usages = await self._meter.usages([one.session.id for one in sessions if _measured(one, told)])
        working = await self._with_jobs(sessions)
        return {
            one.session.id: self._sight(
                one, told[one.session.id], usages.get(one.session.id), one.session.id in working
            )
            for one in sessions
        }

    @staticmethod
    def is_web(stored: StoredSession) -> bool:
        """Return whether a session is a tool of its own, which tells nothing of itself."""
        return stored.plan.container is not None and _WEB in stored.plan.container.command

    def _sight(self, stored: StoredSession, told: Told | None, usage: Usage | None, working: bool) -> Sight:
        session, clock = stored.session, self._switchboard.clock()
        activity = told.activity if told else None
        by_itself = told.processor.cores if told and activity and activity.cpu_seconds is not None else None
        cores = [one for one in (by_itself, usage.cores if usage else None) if one is not None]
        sees = self._hub_heard() and bool(cores) and (told is not None or self.is_web(stored))
        first = self._first.setdefault(session.id, clock)
        if not sees and clock - first < FRESH_S:
            return Sight(known=None)  # it has just begun, or the portal has
        return Sight(
            known=sees,
            busy=working or any(one > BUSY_CORES for one in cores) or bool(activity and activity.computes),
            mark=_last_used(session, activity),
            unused=activity.idle_seconds if activity else None,
            cores=max(cores, default=0.0),
        )

    def _hub_heard(self) -> bool:
        return self._at_hub.heard is not None and self._clock() - self._at_hub.heard < FRESH_S

    async def _with_jobs(self, sessions: Sequence[StoredSession]) -> set[str]:
        """Return which sessions have a job that goes on: one whose session has ended counts for all of its owner's."""
        names = {stored.session.id for stored in sessions}
        jobs = [stored.job for stored in await self._jobs.active() if stored.job.state in _GOING_ON]
        theirs = {job.session for job in jobs if job.session in names}
        owners = {job.owner for job in jobs if job.session not in names}
        return {one.session.id for one in sessions if one.session.id in theirs or one.session.owner in owners}


def _last_used(session: Session, activity: Activity | None) -> datetime | None:
    """Return when a session was last used, by somebody's clock; nothing where the session tells for how long it was not.

    A page that is only open asks its server all the time, and the hub takes that for a use: it counts where the session
    does not know better.
    """
    if activity is None:
        return session.last_activity
    # Computed from the same, it would be a little different each time.
    return None if activity.idle_seconds is not None else activity.seen or session.last_activity


def _measured(stored: StoredSession, told: dict[str, Told | None]) -> bool:
    """Return whether somebody else must say what a session uses: a container, or one that does not tell."""
    known = told.get(stored.session.id)
    return stored.plan.container is not None or known is None or known.activity.cpu_seconds is None
