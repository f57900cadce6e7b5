"""Sessions: who may launch what, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

from cupola.exceptions import ConflictError, InputError, NotFoundError
from cupola.models.activity import StopKind
from cupola.models.base import Page, now
from cupola.models.session import (
    EndCause,
    LaunchRequest,
    Plan,
    Session,
    SessionEvent,
    SessionReport,
    SessionState,
)
from cupola.platform.services.prices import cost_so_far
from cupola.platform.services.sessions.ends import final_state, loss_inside, sentence, starved
from cupola.platform.services.sessions.launches import other_volumes
from cupola.platform.services.sessions.life import first_event, since_start, step_aside, step_woken
from cupola.platform.services.sessions.sizes import Bigger, bigger, most
from cupola.platform.services.sessions.stops import SHORT_WAIT_S, Announced
from cupola.platform.storage.files.jobs import end_of_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from cupola.models.person import Person
    from cupola.models.resources import Resources, Usage
    from cupola.platform.services.sessions.capacity import CapacityService
    from cupola.platform.services.sessions.hub import Bells, SessionHub
    from cupola.platform.services.sessions.launches import Launches
    from cupola.platform.services.sessions.stops import Switchboard
    from cupola.platform.services.sessions.usage import UsageService
    from cupola.platform.storage.database.sessions import SessionStore, StoredSession

__all__ = ["SessionService", "request_of"]

_LOOK_S = 5.0
"""Another process may write the row; whoever waits looks by himself this often."""
_LOG_BYTES = 65_536
_GROW = {EndCause.OUT_OF_MEMORY, EndCause.CRASH}
"""Ends that more memory may prevent."""


class SessionService:
    """Everything that can be done with sessions.

    Parameters
    ----------
    store
        The table of sessions.
    at_hub
        Starts and stops them.
    bells
        Ring at each change.
    launches
        Decides what a new one gets.
    capacity
        What is free.
    meter
        What they use.
    switchboard
        Asks them for snapshots before they end, and knows which stops are announced.
    base_url
        Where everything lies on the platform's address; begins and ends with a slash.
    frozen
        Where the kernels of hibernated sessions lie, a folder for each.
    running_log
        Returns what a container has printed so far, where sessions are containers; it may block.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: SessionStore,
        at_hub: SessionHub,
        bells: Bells,
        launches: Launches,
        capacity: CapacityService,
        meter: UsageService,
        switchboard: Switchboard,
        base_url: str,
        frozen: Path,
        running_log: Callable[[str], str] | None = None,
    ) -> None:
        self._store = store
        self._at_hub = at_hub
        self._bells = bells
        self._launches = launches
        self._capacity = capacity
        self._meter = meter
        self._switchboard = switchboard
        self._base_url = base_url
        self._frozen = frozen
        self._running_log = running_log

    async def launch(self, person: Person, request: LaunchRequest, *, key: str | None = None) -> Session:
        """Begin a session; the answer does not wait until it is ready.

        Parameters
        ----------
        person, request
            Who wants what.
        key
            Any text that is the same for each try of one wish: a double click launches once.

        Raises
        ------
        NotFoundError
            If there is no such datalab, version or volume.
        ConflictError
            If the datalab or the version cannot run.
        InputError
            If a variable cannot be set.
        LimitError
            If the person's profile or what is free does not allow it.
        """
        new = await self._launches.prepare(person, request, key=key)
        admit = await self._capacity.admission(person.profile)
        kept = await self._store.insert(new, first_event(new.session), admit=admit)
        if kept.session.id == new.session.id:
            self._at_hub.start(kept.session)
        return self._present(kept)

    async def restart(
        self,
        person: Person,
        session: str,
        resources: Resources | None = None,
        version: str | None = None,
    ) -> Session:
        """Begin a session with the same choices in place of this one, which is stopped if it still runs.

        Whoever asks twice gets the same answer, until that session has ended too. One that tells what goes on in it
        is asked to write down its variables first.

        Parameters
        ----------
        person, session
            Whose session it is.
        resources, version
            Another size, another version; the same where nothing is said.

        Raises
        ------
        NotFoundError
            If the person has no such session, or its datalab or version is gone.
        ConflictError
            If it is just being stopped, or its version cannot run any more.
        LimitError
            If the person's profile or what is free does not allow it.
        """
        old = await self._find(person, session)
        for number in itertools.count(1):
            key = f"restart {session} {number}"
            twin = await self._store.by_key(person.name, key)
            if twin is None:
                break
            if twin.session.state.active:
                return self._present(twin)
        request = request_of(old.session, resources, version)
        new = await self._launches.prepare(person, request, key=key, again=True)
        reason = f"Restarted by {person.name}."
        kept = await self._store.insert(
            new,
            first_event(new.session),
            admit=await self._capacity.admission(person.profile),
            instead_of=(session, step_aside("Stopping", at=now(), reason=reason)),
        )
        if kept.session.id == new.session.id:
            self._bells.ring(session)
            before = await self._store.get(session)
            if before is not None and before.session.state is SessionState.STOPPING:
                self._at_hub.stop(
                    before.session, reason, first=self._kept_first(session, StopKind.VERSION, reason)
                )
            self._at_hub.start(kept.session, after=session)
        return self._present(kept)

    async def wake(self, person: Person, session: str) -> Session:
        """Let a hibernated session begin anew with its choices; one that runs again stays as it is.

        Raises
        ------
        NotFoundError
            If the person has no such session, or its datalab or version is gone.
        ConflictError
            If its version cannot run any more.
        LimitError
            If the person's profile or what is free does not allow it.
        """
        old = await self._find(person, session)
        new = await self._launches.prepare(
            person, request_of(old.session), key=old.request_key, again=True, name=session
        )
        new = new.model_copy(
            update={"spent": cost_so_far(old.session, old.rate, spent=old.spent) or old.spent}
        )
        step = step_woken(new.session, "Waking up", at=now())
        kept = await self._store.wake(new, step, admit=await self._capacity.admission(person.profile))
        if kept is None:
            return await self.own(person, session)
        self._switchboard.forget(session)
        self._bells.ring(session)
        self._at_hub.start(kept.session)
        return self._present(kept)

    async def bigger(self, person: Person, sessions: Sequence[Session]) -> dict[str, Bigger]:
        """Return the next sensible size for those of `sessions` that a larger one may help, by id.

        Those are the ones that ended for want of memory, or may have, and those that run and lost a program by it.

        Raises
        ------
        UnavailableError
            If the engine does not tell what is free.
        """
        small = [one for one in sessions if _too_small(one)]
        if not small:
            return {}
        capacity = await self._capacity.capacity()
        largest = most(person.profile, capacity)
        return {
            one.id: bigger(one.resources, largest, capacity.free_memory_mib, person.profile.name)
            for one in small
            if one.resources is not None
        }

    async def sessions(self, person: Person, *, cursor: str | None = None, limit: int = 50) -> Page[Session]:
        """Return one page of the person's sessions, the newest first.

        Raises
        ------
        InputError
            If `cursor` is none of ours.
        """
        page = await self._store.page(person.name, cursor=cursor, limit=limit)
        return Page(items=[self._present(stored) for stored in page.items], next=page.next)

    async def session(self, person: Person, session: str) -> Session:
        """Return one session of the person.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        found = self._present(await self._find(person, session))
        if found.state is not SessionState.READY:
            return found
        return found.model_copy(update={"usage": (await self._meter.usages([session])).get(session)})

    async def usages(self, sessions: Sequence[Session]) -> dict[str, Usage]:
        """Return what those of `sessions` use that run, by id: one look for a whole page."""
        return await self._meter.usages([one.id for one in sessions if one.state is SessionState.READY])

    def keeping(self, sessions: Sequence[Session]) -> set[str]:
        """Return which of `sessions` keep outputs and variables over their end, as they told themselves; by id."""
        told = {one.id: self._switchboard.told(one.id) for one in sessions}
        return {name for name, last in told.items() if last is not None and last.activity.guardian}

    async def usage(self, person: Person, session: str) -> Usage:
        """Return what a session uses.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        ConflictError
            If it does not run, or nobody can measure it.
        """
        found = await self.session(person, session)
        if found.usage is None:
            raise ConflictError(f"{found.title} does not run just now: there is nothing to measure.")
        return found.usage

    async def rename(self, person: Person, session: str, title: str) -> Session:
        """Give a session another title.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        InputError
            If the title is empty.
        """
        stored = await self._find(person, session)
        title = " ".join(title.split())
        if not title:
            raise InputError("A title has at least one letter: type one.")
        await self._store.rename(session, title)
        renamed = stored.session.model_copy(update={"title": title})
        return self._present(stored.model_copy(update={"session": renamed}))

    async def stop(self, person: Person, session: str) -> Session:
        """Begin to stop a session; one that ended or is stopping already stays as it is.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        stored = await self._find(person, session)
        if stored.session.state.active and stored.session.state is not SessionState.STOPPING:
            reason = f"Stopped by {person.name}."
            after = await self._at_hub.move(session, SessionState.STOPPING, "Stopping", reason=reason)
            if after.state is SessionState.STOPPING:
                self._at_hub.stop(after, reason, first=self._kept_first(session, StopKind.STOP, reason))
            stored = stored.model_copy(update={"session": after})
        return self._present(stored)

    async def delete(self, person: Person, session: str) -> None:
        """Forget a session that ended.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        ConflictError
            If it has not ended.
        """
        stored = await self._find(person, session)
        if not await self._store.delete(session):
            raise ConflictError(f"{stored.session.title} has not ended: stop it first.")
        await asyncio.to_thread(shutil.rmtree, self._frozen / session, ignore_errors=True)
        self._bells.ring(session)

    async def history(self, person: Person, session: str) -> list[SessionEvent]:
        """Return what happened to a session so far.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        await self._find(person, session)
        return await self._store.events(session)

    async def log(self, person: Person, session: str) -> str:
        """Return the end of what a session's process printed; empty where it printed nothing yet.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        stored = await self._find(person, session)
        if stored.plan.container is not None and stored.session.state.active and self._running_log:
            # The engine keeps it while there is a container; at its end the hub writes it into the file.
            return (await asyncio.to_thread(self._running_log, session))[-_LOG_BYTES:]
        return await asyncio.to_thread(end_of_text, stored.plan.log, longest=_LOG_BYTES)

    async def events(self, person: Person, session: str, after: int = 0) -> AsyncIterator[SessionEvent]:
        """Yield what happened to a session since the event number `after`, then what happens, until it is ready or ended.

        What was before its last wake is left out.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        await self._find(person, session)
        while True:
            # In this order: whatever happens after the look at the row rings the bell.
            bell = self._bells.watch(session)
            stored = await self._store.get(session)
            for event in since_start(await self._store.events(session, after)):
                after = event.number
                yield event
            if (
                stored is None
                or stored.session.state is SessionState.READY
                or not stored.session.state.active
            ):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), _LOOK_S)

    async def plan(self, session: str) -> Plan:
        """Return what the spawner needs to start a session.

        Raises
        ------
        NotFoundError
            If there is no such session.
        ConflictError
            If it is not to run.
        """
        stored = await self._store.get(session)
        if stored is None:
            raise NotFoundError(f"There is no session {session}: launch one from the catalogue.")
        if stored.session.state not in {SessionState.REQUESTED, SessionState.STARTING, SessionState.READY}:
            raise ConflictError(f"The session {session} has ended: launch a new one from the catalogue.")
        await self._at_hub.move(session, SessionState.STARTING, "The hub prepares the session", progress=20)
        return stored.plan

    async def report(self, session: str, report: SessionReport) -> Session:
        """Take what the spawner tells, and return the session; what comes too late changes nothing.

        An end that comes with the state ``ready`` is that of a program in the session, which itself goes on.

        Raises
        ------
        NotFoundError
            If there is no such session.
        """
        if report.state is SessionState.READY and report.end is not None:
            return await self._at_hub.note(session, loss_inside(report.end))
        state = final_state(report)
        reason = None if state.active else sentence(report)
        return await self._at_hub.move(
            session, state, report.message, progress=report.progress, reason=reason, end=report.end
        )

    async def reconcile(self) -> None:
        """Bring all sessions to what the hub says.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        await self._at_hub.reconcile()

    async def active(self) -> list[str]:
        """Return the ids of the sessions of everybody that have not ended."""
        return [stored.session.id for stored in await self._store.active()]

    async def aclose(self) -> None:
        """Stop talking with the hub; sessions run on."""
        await self._at_hub.aclose()

    def _kept_first(self, session: str, kind: StopKind, reason: str) -> Callable[[], Awaitable[object]]:
        """Return what asks a session for a snapshot and waits a little: the end itself writes what it can, too."""
        stop = Announced(kind, reason, due=self._switchboard.clock(), keepable=False)
        return lambda: self._switchboard.snapshot(session, stop, SHORT_WAIT_S)

    async def own(self, person: Person, session: str) -> Session:
        """Return one session of the person without measuring it.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        return self._present(await self._find(person, session))

    async def _find(self, person: Person, session: str) -> StoredSession:
        stored = await self._store.get(session)
        # That somebody else has one of this id is nobody's business.
        if stored is None or stored.session.owner != person.name:
            raise NotFoundError(f"You have no session {session!r}: the page Sessions shows those you have.")
        return stored

    def _present(self, stored: StoredSession) -> Session:
        session = stored.session
        changes: dict[str, object] = {"cost": cost_so_far(session, stored.rate, spent=stored.spent)}
        if session.state is SessionState.READY:
            place = f"{self._base_url}user/{quote(session.owner, safe='@')}/{session.id}"
            changes["url"] = place + "/" + stored.plan.ready_path.lstrip("/")
            changes["planned"] = self._switchboard.of(session.id)
        return session.model_copy(update=changes)


def request_of(
    session: Session, resources: Resources | None = None, version: str | None = None
) -> LaunchRequest:
    """Return the choices that `session` was launched with, in another size or version where one is said."""
    return LaunchRequest(
        datalab=session.datalab,
        version=version or session.version,
        title=session.title,
        volumes=other_volumes(session.volumes),
        clean=session.clean,
        resources=resources or session.resources,
        environment=session.environment,
    )


def _too_small(session: Session) -> bool:
    if session.state is SessionState.READY:
        return starved(session)
    return not session.state.active and session.end is not None and session.end.cause in _GROW
