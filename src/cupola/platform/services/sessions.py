"""Sessions: who may launch what, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from cupola.exceptions import ConflictError, LimitError, NotFoundError
from cupola.models.base import Page, now
from cupola.models.session import (
    LaunchRequest,
    Plan,
    Session,
    SessionEvent,
    SessionReport,
    SessionState,
)
from cupola.platform.storage.database.sessions import StoredSession
from cupola.platform.storage.files.jobs import end_of_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cupola.models.person import Person
    from cupola.platform.services.catalogue import CatalogueService
    from cupola.platform.services.sessionhub import Bells, SessionHub
    from cupola.platform.services.sessionplaces import SessionPlaces
    from cupola.platform.services.volumes import VolumeService
    from cupola.platform.storage.database.sessions import SessionStore

__all__ = ["SessionService"]

_LOOK_S = 5.0
"""Another process may write the row; whoever waits looks by himself this often."""
_LOG_BYTES = 65_536
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without those that look alike."""


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
    catalogue, volumes
        What can be launched, with which data.
    places
        Makes the plans.
    base_url
        Where everything lies on the platform's address; begins and ends with a slash.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: SessionStore,
        at_hub: SessionHub,
        bells: Bells,
        catalogue: CatalogueService,
        volumes: VolumeService,
        places: SessionPlaces,
        base_url: str,
    ) -> None:
        self._store = store
        self._at_hub = at_hub
        self._bells = bells
        self._catalogue = catalogue
        self._volumes = volumes
        self._places = places
        self._base_url = base_url

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
            If the datalab cannot run.
        LimitError
            If the person's profile does not allow one more session.
        """
        datalab = await self._catalogue.datalab(request.datalab)
        built = await self._catalogue.version(request.datalab, request.version)
        if request.volumes is not None:
            chosen = await self._volumes.chosen(person, request.volumes)
        else:
            chosen = await self._volumes.chosen(person, datalab.volumes or None, skip_missing=True)
        session = Session(
            id=_new_id(datalab.name),
            owner=person.name,
            datalab=datalab.name,
            version=built.version.digest,
            title=request.title or datalab.title,
            state=SessionState.REQUESTED,
            created=now(),
            volumes=[volume.name for volume in chosen.volumes],
            clean=request.clean,
            notices=chosen.notices,
        )
        plan = await self._places.plan(person, session, datalab=datalab, built=built, volumes=chosen.volumes)
        stored = StoredSession(session=session, plan=plan, request_key=key)
        kept = await self._store.insert(stored, _first_event(session), check=_limit(person))
        if kept.session.id == session.id:
            self._at_hub.start(kept.session)
        return self._present(kept)

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
        return self._present(await self._find(person, session))

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
                self._at_hub.stop(after, reason)
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
        return await asyncio.to_thread(end_of_text, stored.plan.log, longest=_LOG_BYTES)

    async def events(self, person: Person, session: str, after: int = 0) -> AsyncIterator[SessionEvent]:
        """Yield what happened to a session since the event number `after`, then what happens, until it is ready or ended.

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
            for event in await self._store.events(session, after):
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

    async def report(self, session: str, report: SessionReport) -> None:
        """Take what the spawner tells; what comes too late changes nothing.

        Raises
        ------
        NotFoundError
            If there is no such session.
        """
        reason = None if report.state.active else report.message
        await self._at_hub.move(
            session, report.state, report.message, progress=report.progress, reason=reason
        )

    async def reconcile(self) -> None:
        """Bring all sessions to what the hub says.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        await self._at_hub.reconcile()

    async def aclose(self) -> None:
        """Stop talking with the hub; sessions run on."""
        await self._at_hub.aclose()

    async def _find(self, person: Person, session: str) -> StoredSession:
        stored = await self._store.get(session)
        # That somebody else has one of this id is nobody's business.
        if stored is None or stored.session.owner != person.name:
            raise NotFoundError(f"You have no session {session!r}: the page Sessions shows those you have.")
        return stored

    def _present(self, stored: StoredSession) -> Session:
        session = stored.session
        if session.state is not SessionState.READY:
            return session
        place = f"{self._base_url}user/{quote(session.owner, safe='@')}/{session.id}"
        path = "/" + stored.plan.ready_path.lstrip("/")
        return session.model_copy(update={"url": place + path})


def _first_event(session: Session) -> SessionEvent:
    return SessionEvent(
        session=session.id,
        number=1,
        time=session.created,
        state=session.state,
        message="Asking the hub for a place",
        progress=0,
    )


def _limit(person: Person) -> Callable[[int], None]:
    def check(active: int) -> None:
        if active >= person.profile.sessions:
            raise LimitError(
                f"You have {active} sessions and may have {person.profile.sessions} at a time: stop one first."
            )

    return check


def _new_id(datalab: str) -> str:
    """Return an id that is also a server name at the hub: small letters, digits, single hyphens, at most 30."""
    return f"{datalab[:20].rstrip('-')}-{''.join(secrets.choice(_ID_LETTERS) for _ in range(8))}"
