"""Planned stops: sessions that nobody uses, or that ran long enough, are announced, snapshotted and hibernated.

Nothing that computes is stopped silently, and nobody is stopped on a guess: what cannot be seen is not idle. What was
announced is written down before anybody is told, so that a portal that was killed keeps its word.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import ConflictError, CupolaError, NotFoundError
from cupola.models.activity import StopKind
from cupola.models.base import now
from cupola.models.session import SessionState
from cupola.platform.services.sessions.idleness import Idleness
from cupola.platform.services.sessions.life import step_hibernated
from cupola.platform.services.sessions.stops import Announced
from cupola.platform.services.sessions.stoptexts import (
    notice_of,
    reason_after,
    reason_before,
    what_is_kept,
)
from cupola.platform.storage.database.stops import StoredStop

if TYPE_CHECKING:
    from cupola.config import IdleSettings
    from cupola.models.activity import Activity, PlannedStop, SnapshotTold
    from cupola.models.person import Person
    from cupola.models.session import Session
    from cupola.platform.services.sessions.hub import Bells, SessionHub
    from cupola.platform.services.sessions.idleness import Sight
    from cupola.platform.services.sessions.maintenance import Maintenances
    from cupola.platform.services.sessions.sessions import SessionService
    from cupola.platform.services.sessions.sights import Sights
    from cupola.platform.services.sessions.stops import Switchboard
    from cupola.platform.storage.database.notifications import NotificationStore
    from cupola.platform.storage.database.sessions import SessionStore, StoredSession
    from cupola.platform.storage.database.stops import StopStore

__all__ = ["IdleService"]

log = structlog.get_logger("cupola.portal")

SNAPSHOT_S = 30.0
"""So long a session that is hibernated may write down its variables."""
_SLOWEST_LOOK_S = 10.0
_QUICKEST_LOOK_S = 0.2
_TELL_AGAIN_S = 30.0
"""After a start of the portal: until then every session has told of itself, and may be asked for a snapshot."""
_PORTAL_AWAY_S = 3600.0
"""A portal that was away for longer knows too little: it announces anew."""
_ASLEEP = {StopKind.HIBERNATE}


class IdleService:
    """Announces and carries out planned stops.

    Parameters
    ----------
    store, stops
        The sessions, and what was announced to them.
    sessions
        Finds and restarts them.
    at_hub
        Stops them.
    bells
        Ring at each change.
    switchboard
        What sessions tell and are told.
    sights
        Sees whether they are idle.
    maintenances
        The announced end of the platform.
    notices
        Tells their owners.
    settings
        When.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: SessionStore,
        stops: StopStore,
        sessions: SessionService,
        at_hub: SessionHub,
        bells: Bells,
        switchboard: Switchboard,
        sights: Sights,
        maintenances: Maintenances,
        notices: NotificationStore,
        settings: IdleSettings,
    ) -> None:
        self._store, self._stops, self._sessions = store, stops, sessions
        self._at_hub, self._bells, self._switchboard = at_hub, bells, switchboard
        self._sights, self._maintenances, self._notices = sights, maintenances, notices
        self._after, self._warn, self._longest = settings.hibernate_after, settings.warn, settings.longest
        self._idle: dict[str, Idleness] = {}
        self._ages: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._restored = False
        self._looking = asyncio.Lock()

    # -- what sessions and people do --------------------------------------------------------------------------

    async def tell(self, session: Session, activity: Activity, wait: float = 0.0) -> PlannedStop | None:
        """Take what a session tells, and return the stop that is announced to it.

        Parameters
        ----------
        session, activity
            Who tells what.
        wait
            How many seconds the answer may be held back until there is something to say.
        """
        self._switchboard.tell(session.id, activity)
        if (idle := self._idle.get(session.id)) is not None:
            # Now, not at the next look: by then a short cell may have ended.
            idle.used(0.0 if activity.computes else activity.idle_seconds)
        if (announced := self._switchboard.announced.get(session.id)) and self._is_over(announced, activity):
            await self._withdraw(session.id)
        return await self._switchboard.answer(session.id, wait)

    async def keep(self, person: Person, session: str) -> Session:
        """Put off the stop of a session until nothing has gone on in it for a whole time again.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        ConflictError
            If it does not run, its stop has begun, or the stop is none that can be put off.
        """
        await self._sessions.own(person, session)
        announced = self._switchboard.announced.get(session)
        if announced is not None and not announced.keepable:
            raise ConflictError(f"This stop cannot be put off: {announced.reason} Save your work.")
        await self._stops.keep(session)
        self._idle[session] = Idleness()
        self._switchboard.withdraw(session)
        self._bells.ring(session)
        return await self._sessions.own(person, session)

    async def hibernate(self, person: Person, session: str) -> Session:
        """Begin to hibernate a session; one that is hibernated already stays as it is.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        ConflictError
            If it does not run.
        """
        async with self._looking:
            found = await self._sessions.own(person, session)
            if found.hibernated is not None or session in self._under_way:
                return found
            if found.state is not SessionState.READY:
                raise ConflictError(f"{found.title} does not run: there is nothing to hibernate.")
            reason = f"{person.name} hibernates it."
            asked = Announced(StopKind.HIBERNATE, reason, due=self._switchboard.clock(), by=person.name)
            await self._write_down(session, asked)
            self._begin(session, asked)
        return await self._sessions.own(person, session)

    async def wake(self, person: Person, session: str) -> Session:
        """Let a hibernated session begin anew with its choices; whoever asks twice gets the same answer.

        One that ended in another way gets a new one in its place, as by a restart.

        Raises
        ------
        NotFoundError
            If the person has no such session, or its datalab or version is gone.
        ConflictError
            If it is just being stopped, or its version cannot run any more.
        LimitError
            If the person's profile or what is free does not allow it.
        """
        found = await self._sessions.own(person, session)
        if found.state is SessionState.STOPPING:
            raise ConflictError(f"{found.title} is just being stopped: wake it when it has ended.")
        if found.state.active:
            return found
        if found.hibernated is None:
            return await self._sessions.restart(person, session)
        for forgotten in (self._idle, self._ages):
            forgotten.pop(session, None)
        return await self._sessions.wake(person, session)

    # -- the timer --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again; no failure ends it."""
        shortest = min(one for one in (self._after, self._longest, self._warn) if one is not None)
        period = min(_SLOWEST_LOOK_S, max(_QUICKEST_LOOK_S, shortest / 20))
        while True:
            try:
                await self.look()
            except CupolaError as error:
                log.warning("sessions could not be looked at", error=str(error))
            except Exception:
                log.exception("sessions could not be looked at")
            await asyncio.sleep(period)

    async def look(self) -> None:
        """Look at all sessions once: announce, withdraw, and begin what is due.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        async with self._looking:
            active = {stored.session.id: stored for stored in await self._store.active()}
            ready = {key: one for key, one in active.items() if one.session.state is SessionState.READY}
            if not self._restored:
                await self._restore(ready)
            self._forget_others(active, ready)
            sights = await self._sights.of(list(ready.values()))
            maintenance = await self._maintenances.due(self._switchboard.clock())
            for name, stored in ready.items():
                self._idle.setdefault(name, Idleness()).look(self._switchboard.clock(), sights[name])
                try:
                    await self._consider(stored, maintenance, sights[name])
                except (ConflictError, NotFoundError) as error:
                    log.info("a session ended meanwhile", session=name, reason=str(error))

    async def aclose(self) -> None:
        """Let go of what is under way; the next portal takes it up."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _restore(self, ready: dict[str, StoredSession]) -> None:
        """Take up what an earlier portal announced; where the time came while none was there, it is announced anew."""
        clock, moment = self._switchboard.clock(), now()
        await self._maintenances.restore(clock, moment)
        for row in await self._stops.all():
            if row.session not in ready or not self._still_meant(row):
                await self._stops.withdraw(row.session)
                continue
            left = min((row.at - moment).total_seconds(), (row.at - row.announced).total_seconds())
            if row.by is not None:
                left = _TELL_AGAIN_S
            elif left < -_PORTAL_AWAY_S:
                await self._stops.withdraw(row.session)
                continue
            elif left <= 0:
                left = self._warn
            announced = Announced(row.kind, row.reason, due=clock + left, by=row.by, keepable=_keepable(row))
            self._switchboard.announce(row.session, announced)
            self._idle[row.session] = Idleness(self._enough)
        self._restored = True

    def _still_meant(self, row: StoredStop) -> bool:
        """Return whether the settings, which may have changed since, still ask for a stop that was announced."""
        if row.by is not None:
            return True
        meant = {StopKind.HIBERNATE: self._after, StopKind.AGE: self._longest}
        return meant.get(row.kind) is not None  # maintenance is announced anew by its own row

    def _forget_others(self, active: dict[str, StoredSession], ready: dict[str, StoredSession]) -> None:
        for name in set(self._switchboard.announced) - set(active):
            self._switchboard.forget(name)
        self._idle = {name: idle for name, idle in self._idle.items() if name in ready}
        self._ages = {name: age for name, age in self._ages.items() if name in ready}

    @property
    def _enough(self) -> float:
        """After so many idle seconds a stop is announced."""
        after = self._after or 0.0
        return max(after - self._warn, after / 2)

    async def _consider(self, stored: StoredSession, maintenance: Announced | None, sight: Sight) -> None:
        name, clock = stored.session.id, self._switchboard.clock()
        if name in self._under_way:
            return
        announced = self._switchboard.announced.get(name)
        idle = self._idle[name]
        if maintenance is not None and not _comes_first(announced, maintenance):
            await self._announce(stored.session, maintenance.copy())
        elif announced is None:
            if (wanted := self._wanted(stored, idle)) is not None:
                await self._announce(stored.session, wanted)
        elif announced.kind is StopKind.MAINTENANCE and maintenance is None:
            await self._withdraw(name)  # an administrator thought better of it
        elif _unasked(announced) and idle.seconds < self._enough:
            log.info("a session is not idle any more", session=name, **asdict(sight))
            await self._withdraw(name)
        elif announced.due <= clock and (idle.seen or not _unasked(announced)):
            self._begin(name, announced)

    def _wanted(self, stored: StoredSession, idle: Idleness) -> Announced | None:
        """Return the stop that is to be announced to a session, if one is."""
        clock, session = self._switchboard.clock(), stored.session
        started = session.started or session.created
        # By the clock that only goes up since the first look: one that is set makes no session old.
        first = self._ages.setdefault(session.id, clock - max(0.0, (now() - started).total_seconds()))
        words = {"kept": self._keeps(session.id), "web": self._sights.is_web(stored)}
        if self._longest is not None and clock - first >= self._longest - self._warn:
            reason = reason_before(StopKind.AGE, self._longest, **words)
            return Announced(StopKind.AGE, reason, due=clock + self._warn, keepable=False)
        if self._after is not None and idle.seen and idle.seconds >= self._enough:
            reason = reason_before(StopKind.HIBERNATE, idle.seconds, **words)
            return Announced(StopKind.HIBERNATE, reason, due=clock + self._warn)
        return None

    def _keeps(self, session: str) -> bool:
        told = self._switchboard.told(session)
        return told is not None and told.activity.guardian

    def _is_over(self, announced: Announced, activity: Activity) -> bool:
        """Return whether what a session tells ends an announced hibernation at once."""
        if not _unasked(announced):
            return False
        unused = activity.idle_seconds
        return activity.computes or (unused is not None and unused < self._enough)

    async def _announce(self, session: Session, announced: Announced) -> None:
        await self._write_down(session.id, announced)
        left = announced.due - self._switchboard.clock()
        about = notice_of(session, announced.kind, announced.reason, left)
        await self._notices.session_told(session, about)

    async def _write_down(self, session: str, announced: Announced) -> None:
        moment = now()
        left = timedelta(seconds=max(0.0, announced.due - self._switchboard.clock()))
        row = StoredStop(
            session=session,
            kind=announced.kind,
            reason=announced.reason,
            by=announced.by,
            announced=moment,
            at=moment + left,
        )
        await self._stops.announce(row)
        self._switchboard.announce(session, announced)
        self._bells.ring(session)

    async def _withdraw(self, session: str) -> None:
        await self._stops.withdraw(session)
        self._switchboard.withdraw(session)
        self._bells.ring(session)

    # -- the stop ---------------------------------------------------------------------------------------------

    def _begin(self, session: str, announced: Announced) -> None:
        task = asyncio.create_task(self._carry_out(session, announced), name=f"hibernate {session}")
        self._under_way[session] = task
        task.add_done_callback(lambda _: self._under_way.pop(session, None))

    async def _carry_out(self, session: str, announced: Announced) -> None:
        """Have a session write down its variables, then stop it; the next look tries again what fails."""
        try:
            stored = await self._store.get(session)
            if stored is None:
                return
            snapshot = await self._switchboard.snapshot(session, announced, SNAPSHOT_S)
            if self._switchboard.announced.get(session) is not announced:
                return  # its owner keeps it, or came back
            told = self._switchboard.told(session)
            if told is not None and self._is_over(announced, told.activity):
                await self._withdraw(session)
                return
            await self._stop(stored, announced, snapshot)
        except CupolaError as error:
            log.warning("a session is not hibernated yet", session=session, error=str(error))
        except Exception:
            log.exception("a session is not hibernated yet", session=session)

    async def _stop(self, stored: StoredSession, announced: Announced, snapshot: SnapshotTold | None) -> None:
        name = stored.session.id
        seconds = (self._longest if announced.kind is StopKind.AGE else self._after) or 0.0
        kept = snapshot is not None or self._keeps(name)
        what = what_is_kept(
            kept=kept, web=self._sights.is_web(stored), done=snapshot is not None, told=snapshot
        )
        reason = reason_after(announced.kind, seconds, what, by=announced.by, told=announced.reason)
        step = step_hibernated("Hibernating", at=now(), reason=reason)
        after = await self._stops.carry_out(name, step)
        if after is None or after.state is not SessionState.STOPPING:
            self._switchboard.withdraw(name)
            return
        self._bells.ring(name)
        self._at_hub.stop(after, reason)
        if announced.by is None:
            await self._notices.session_told(after, notice_of(after, announced.kind, reason, None))


def _unasked(announced: Announced) -> bool:
    """Return whether a stop is for idleness alone: then any activity ends it."""
    return announced.by is None and announced.kind in _ASLEEP


def _comes_first(announced: Announced | None, maintenance: Announced) -> bool:
    """Return whether a stop that is announced to a session makes the platform's own no news."""
    if announced is None:
        return False
    if announced.kind is StopKind.MAINTENANCE:
        return announced.due == maintenance.due
    return announced.due <= maintenance.due


def _keepable(row: StoredStop) -> bool:
    return row.kind in _ASLEEP
