"""Talking with the hub about sessions: start, stop, and what became of them while nobody listened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import NotFoundError, UnavailableError
from cupola.models.base import now
from cupola.models.session import EndCause, Session, SessionEnd, SessionState
from cupola.platform.services.sessions.life import step_note, step_to
from cupola.platform.storage.hub.client import RefusedError, Started

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from cupola.platform.services.datalabs.fetches import FetchService
    from cupola.platform.storage.database.sessions import SessionStore
    from cupola.platform.storage.hub.client import HubClient, HubServer

__all__ = ["SessionHub"]

log = structlog.get_logger("cupola.portal")

_START_S = 300.0
"""A start that takes longer, waiting for its turn included, has failed. The hub gives up after 180 s."""
_STOP_S = 120.0
_AGAIN_S = 1.0
"""Pause before the hub is asked again."""
_LOOK_S = 2.0
"""Another portal may move a row without ringing here."""

NOT_STARTED = "The session did not start within 5 minutes: launch it again."
INTERRUPTED = "The platform was restarted while the session started: launch it again."
GONE = "The session's process ended without a word: its log tells more."


class SessionHub:
    """Brings the sessions at the hub and the rows in the database together.

    Parameters
    ----------
    store
        The rows.
    hub
        The hub.
    bells
        Are rung at each change.
    fetches
        Brings versions here that are in a registry only, where there are such.
    """

    def __init__(
        self, *, store: SessionStore, hub: HubClient, bells: Bells, fetches: FetchService | None = None
    ) -> None:
        self._fetches = fetches
        self._store = store
        self._hub = hub
        self._bells = bells
        self.heard: float | None = None
        """When the hub last told of all its servers, in seconds that only go up."""
        # One task per session: a stop takes the place of a start.
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def move(  # noqa: PLR0913 - as `step_to`
        self,
        session: str,
        state: SessionState,
        message: str,
        *,
        progress: int | None = None,
        reason: str | None = None,
        end: SessionEnd | None = None,
    ) -> Session:
        """Take a session one step further and tell whoever watches."""
        after = await self._store.move(
            session, step_to(state, message, at=now(), progress=progress, reason=reason, end=end)
        )
        self._bells.ring(session)
        return after

    async def note(self, session: str, sentence: str) -> Session:
        """Tell of something that happened in a session that goes on."""
        after = await self._store.move(session, step_note(sentence, at=now()))
        self._bells.ring(session)
        return after

    def start(self, session: Session, *, after: str | None = None) -> None:
        """Let the hub start a session; this returns at once.

        Parameters
        ----------
        session
            What is to start.
        after
            The session whose place it takes: that one's end is awaited, since both cannot hold one GPU.
        """
        self._do(session.id, self._start(session, after))

    def stop(
        self, session: Session, reason: str, *, first: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Let the hub stop a session, also one that is just starting; this returns at once.

        Parameters
        ----------
        session, reason
            Which, and why.
        first
            What is awaited before, such as a snapshot. A portal that is started again does not wait for it once more.
        """
        self._do(session.id, self._stop(session, reason, first))

    async def aclose(self) -> None:
        """Stop talking. The next portal takes up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reconcile(self) -> None:
        """Bring every row to what the hub says.

        Raises
        ------
        UnavailableError
            If the hub does not answer; nothing was changed then.
        """
        # The rows first: a session launched after this moment is none of this round's business.
        rows = [stored.session for stored in await self._store.active()]
        servers = await self._hub.active_servers()
        self.heard = time.monotonic()
        for session in rows:
            if session.id in self._tasks:
                continue
            try:
                await self._settle(session, servers.get((session.owner, session.id)))
            except NotFoundError:
                continue
        await self._store.touch(
            {
                session.id: server.last_activity
                for session in rows
                if (server := servers.get((session.owner, session.id))) and server.last_activity
            }
        )
        await self._remove_orphans({session.id for session in rows}, servers)

    async def _settle(self, session: Session, server: HubServer | None) -> None:
        """Bring one row, whose task nobody has, to what the hub says."""
        if session.state is SessionState.STOPPING:
            self.stop(session, "Stopped.")
        elif server is not None and server.ready:
            await self.move(session.id, SessionState.READY, "The session runs.")
        elif server is not None and server.pending == "stop":
            self.stop(session, "Stopped at the hub.")
        elif server is not None and session.state is not SessionState.READY:
            self.start(session)
        elif server is not None:
            return  # the hub is just looking after it
        elif session.state is SessionState.REQUESTED:
            # The portal ended between the row and the hub: the person still waits for it.
            self.start(session)
        elif session.state is SessionState.STARTING:
            await self.move(session.id, SessionState.FAILED, INTERRUPTED, reason=INTERRUPTED)
        else:
            end = SessionEnd(cause=EndCause.LOST)
            await self.move(session.id, SessionState.STOPPED, GONE, reason=GONE, end=end)

    async def _remove_orphans(self, active: set[str], servers: dict[tuple[str, str], HubServer]) -> None:
        """Stop what runs at the hub although its row says that it ended."""
        others = {(owner, name) for owner, name in servers if name not in active and name not in self._tasks}
        ours = await self._store.known({name for _, name in others})
        for owner, name in others:
            stored = await self._store.get(name) if name in ours else None
            # Looked at once more: it may have been launched after the rows were read.
            if stored is not None and stored.session.owner == owner and not stored.session.state.active:
                log.warning("an ended session still runs and is stopped", session=name, owner=owner)
                await self._hub.stop(owner, name)

    def _do(self, session: str, work: Coroutine[Any, Any, None]) -> None:
        before = self._tasks.get(session)

        async def run() -> None:
            if before is not None:
                before.cancel()
                await asyncio.gather(before, return_exceptions=True)
            try:
                await work
            except NotFoundError:
                log.info("session was forgotten meanwhile", session=session)
            except UnavailableError as error:
                # Reconcile takes it up again, since no task has it then.
                log.warning("session waits for its next reconcile", session=session, error=str(error))
            except Exception:
                log.exception("session is left to its next reconcile", session=session)

        task = asyncio.create_task(run(), name=f"session {session}")
        self._tasks[session] = task
        task.add_done_callback(lambda done: self._forget(session, done))
        # A task that is cancelled before its first step never awaits its work.
        task.add_done_callback(lambda _: work.close())

    def _forget(self, session: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session) is task:
            del self._tasks[session]

    async def _start(self, session: Session, after: str | None = None) -> None:
        # A large image over a slow line takes longer than any start may.
        failure = await self._fetched(session)
        if failure is None:
            try:
                async with asyncio.timeout(_START_S):
                    if after is not None:
                        await self._until_ended(after)
                    failure = await self._ask_until_answered(session)
            except TimeoutError:
                failure = NOT_STARTED
        if failure is None:
            await self.move(session.id, SessionState.READY, "Ready")
            return
        # The row first: the hub's view of a failed start is of no more use, and may be out of reach.
        await self.move(session.id, SessionState.FAILED, failure, reason=failure)
        try:
            await self._hub.stop(session.owner, session.id)
        except (RefusedError, UnavailableError) as error:
            log.warning("a failed session is left at the hub", session=session.id, error=str(error))

    async def _fetched(self, session: Session) -> str | None:
        """Have the session's version on this machine; return why that cannot be, if it cannot."""
        if self._fetches is None:
            return None

        async def tell(message: str, progress: int) -> None:
            await self.move(session.id, SessionState.STARTING, message, progress=progress)

        return await self._fetches.have(session, tell)

    async def _until_ended(self, session: str) -> None:
        while True:
            bell = self._bells.watch(session)
            stored = await self._store.get(session)
            if stored is None or not stored.session.state.active:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), _LOOK_S)

    async def _ask_until_answered(self, session: Session) -> str | None:
        """Return nothing once the session is ready, else why it cannot be."""
        while True:
            try:
                return await self._ask(session)
            except RefusedError as error:
                return str(error)
            except UnavailableError as error:
                log.info("start waits", session=session.id, reason=str(error))
                after = await self.move(session.id, SessionState.STARTING, str(error), progress=5)
                if not after.state.active:
                    return after.reason
                await asyncio.sleep(_AGAIN_S)

    async def _ask(self, session: Session) -> str | None:
        if await self._hub.start(session.owner, session.id) is Started.READY:
            return None
        try:
            async for step in self._hub.progress(session.owner, session.id):
                if step.ready:
                    return None
                if step.failed:
                    return step.message.removeprefix("Spawn failed: ") or NOT_STARTED
        except RefusedError as error:
            # A hub that was just restarted looks after a session without calling that a start.
            log.info("the hub tells no progress", session=session.id, reason=str(error))
        raise UnavailableError("The hub is looking after the session.")

    async def _stop(
        self, session: Session, reason: str, first: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        if first is not None:
            await first()
        async with asyncio.timeout(_STOP_S):
            while not await self._stopped(session):  # noqa: ASYNC110 - the hub has no event for it
                await asyncio.sleep(_AGAIN_S / 4)
        await self.move(session.id, SessionState.STOPPED, "Stopped", reason=reason)

    async def _stopped(self, session: Session) -> bool:
        """Ask the hub to stop a session; return whether it is gone."""
        try:
            if await self._hub.stop(session.owner, session.id):
                return True
            while (server := await self._hub.server(session.owner, session.id)) is not None:
                if server.pending != "stop":
                    return False
                await asyncio.sleep(_AGAIN_S / 4)
        except RefusedError as error:
            log.warning("the hub does not stop a session yet", session=session.id, reason=str(error))
            return False
        except UnavailableError:
            await asyncio.sleep(_AGAIN_S)
            return False
        return True


class Bells:
    """Wakes whoever waits for a change of something."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    def watch(self, name: str) -> asyncio.Event:
        """Return an event that is set at the next change of `name`. Take it before you look, then wait."""
        return self._waiting.setdefault(name, asyncio.Event())

    def ring(self, name: str) -> None:
        """Tell that `name` changed."""
        event = self._waiting.pop(name, None)
        if event is not None:
            event.set()
