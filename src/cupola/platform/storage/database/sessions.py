"""The tables of sessions and of their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping, delete, insert, select, update

from cupola.exceptions import NotFoundError
from cupola.models.base import Model, Page
from cupola.models.resources import Resources
from cupola.models.session import Plan, Session, SessionEvent, SessionState
from cupola.platform.storage.database.paging import cursor_after, newest_first
from cupola.platform.storage.database.tables import session_events, sessions

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.platform.storage.database.connection import Database

__all__ = ["Admit", "Held", "SessionStore", "Step", "StoredSession", "take_step"]

_ACTIVE = [state for state in SessionState if state.active]


class StoredSession(Model):
    """A session with the plan it starts from."""

    session: Session
    plan: Plan
    rate: float | None = None
    """What it costs per hour, where the platform has prices."""
    spent: float = 0.0
    """What it had cost when it was woken last."""
    request_key: str | None = None
    """What the browser sent so that a double click launches once."""


class Held(Model):
    """What an active session holds."""

    session: str
    owner: str
    resources: Resources | None
    """Nothing: it has no limits."""
    gpus: list[int]


Admit = Callable[[StoredSession, Sequence[Held]], StoredSession]
"""Gets a new session and what all others hold; returns it with what it gets, or raises."""
Step = Callable[[Session, SessionEvent], tuple[Session, SessionEvent | None] | None]
"""Gets a session and its last event; returns it anew with the next event, or nothing if there is no step."""


class SessionStore:
    """Keeps sessions in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        stored: StoredSession,
        event: SessionEvent,
        *,
        admit: Admit,
        instead_of: tuple[str, Step] | None = None,
    ) -> StoredSession:
        """Keep a new session, or return the one that was kept with the same key before.

        Parameters
        ----------
        stored, event
            The session and its first event.
        admit
            Decides about it. Nothing comes between what it is told and the insert.
        instead_of
            The id of the session that it takes the place of, and the step that ends that one: it holds nothing any
            more, and either both happen or neither.

        Raises
        ------
        NotFoundError
            If there is no session that it could take the place of.
        """
        session, key = stored.session, stored.request_key
        async with self._database.writing() as connection:
            if key is not None and (twin := await _by_key(connection, session.owner, key)):
                return twin
            if instead_of is not None:
                await take_step(connection, *instead_of)
            held = await _held(connection)
            stored = admit(stored, [one for one in held if not instead_of or one.session != instead_of[0]])
            await connection.execute(insert(sessions).values(**_to_row(stored)))
            await connection.execute(insert(session_events).values(**event.model_dump()))
        return stored

    async def wake(self, stored: StoredSession, change: Step, *, admit: Admit) -> StoredSession | None:
        """Let a session begin anew with another plan; return nothing where it takes no such step.

        Parameters
        ----------
        stored
            The session as it is to be kept, with its new plan.
        change
            The step, from the session as it was kept.
        admit
            Decides about it, as for a new one.

        Raises
        ------
        NotFoundError
            If there is no such session.
        """
        async with self._database.writing() as connection:
            before = await _there(connection, stored.session.id)
            step = change(before.session, await _last_event(connection, stored.session.id))
            if step is None:
                return None
            stored = admit(stored.model_copy(update={"session": step[0]}), await _held(connection))
            await _keep(connection, stored, step[1])
        return stored

    async def by_key(self, owner: str, key: str) -> StoredSession | None:
        """Return the session that `owner` asked for with this key, or nothing."""
        async with self._database.reading() as connection:
            return await _by_key(connection, owner, key)

    async def held(self) -> list[Held]:
        """Return what the active sessions of everybody hold."""
        async with self._database.reading() as connection:
            return await _held(connection)

    async def get(self, session: str) -> StoredSession | None:
        """Return the session with this id, or nothing."""
        async with self._database.reading() as connection:
            return await _find(connection, session)

    async def page(self, owner: str, *, cursor: str | None = None, limit: int = 50) -> Page[StoredSession]:
        """Return one page of the sessions of `owner`, the newest first.

        Raises
        ------
        InputError
            If `cursor` is none that this method handed out.
        """
        query = newest_first(sessions, select(sessions).where(sessions.c.owner == owner), cursor, limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = [_from_row(row) for row in rows]
        last = found[limit - 1].session if len(found) > limit else None
        return Page(items=found[:limit], next=last and cursor_after(last.created, last.id))

    async def active(self) -> list[StoredSession]:
        """Return the sessions of everybody that hold resources, the oldest first."""
        query = (
            select(sessions).where(sessions.c.state.in_(_ACTIVE)).order_by(sessions.c.created, sessions.c.id)
        )
        async with self._database.reading() as connection:
            return [_from_row(row) for row in (await connection.execute(query)).mappings().all()]

    async def known(self, ids: set[str]) -> set[str]:
        """Return which of `ids` are sessions that were ever kept here, ended ones too."""
        query = select(sessions.c.id).where(sessions.c.id.in_(ids))
        async with self._database.reading() as connection:
            return set((await connection.execute(query)).scalars())

    async def move(self, session: str, change: Step) -> Session:
        """Take a session one step further, in one transaction.

        Parameters
        ----------
        session
            Its id.
        change
            The step.

        Raises
        ------
        NotFoundError
            If there is no such session.
        """
        async with self._database.writing() as connection:
            return await take_step(connection, session, change)

    async def rename(self, session: str, title: str) -> None:
        """Give a session another title."""
        async with self._database.writing() as connection:
            query = update(sessions).where(sessions.c.id == session).values(title=title)
            await connection.execute(query)

    async def change_notices(self, session: str, change: Callable[[list[str]], list[str]]) -> None:
        """Change what the owner of a session is told, in one transaction."""
        async with self._database.writing() as connection:
            stored = await _find(connection, session)
            if stored is not None:
                notices = change(list(stored.session.notices))
                query = update(sessions).where(sessions.c.id == session).values(notices=notices)
                await connection.execute(query)

    async def first_with(self, version: str) -> Session | None:
        """Return the first session that ran a version, or nothing: it says which datalab's it was, and since when."""
        query = (
            select(sessions)
            .where(sessions.c.version == version)
            .order_by(sessions.c.created, sessions.c.id)
            .limit(1)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _from_row(row).session

    async def touch(self, moments: dict[str, datetime]) -> None:
        """Note when sessions were last active, by id."""
        if not moments:
            return
        async with self._database.writing() as connection:
            for session, moment in moments.items():
                query = update(sessions).where(sessions.c.id == session).values(last_activity=moment)
                await connection.execute(query)

    async def events(self, session: str, after: int = 0) -> list[SessionEvent]:
        """Return the events of a session with a number above `after`, in order."""
        query = (
            select(session_events)
            .where(session_events.c.session == session, session_events.c.number > after)
            .order_by(session_events.c.number)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [SessionEvent.model_validate(dict(row)) for row in rows]

    async def delete(self, session: str) -> bool:
        """Forget a session that ended, with its events. Returns whether there was one that had ended."""
        ended = (sessions.c.id == session) & sessions.c.state.not_in(_ACTIVE)
        async with self._database.writing() as connection:
            return (await connection.execute(delete(sessions).where(ended))).rowcount > 0


async def _find(connection: AsyncConnection, session: str) -> StoredSession | None:
    row = (await connection.execute(select(sessions).where(sessions.c.id == session))).mappings().first()
    return None if row is None else _from_row(row)


async def _by_key(connection: AsyncConnection, owner: str, key: str) -> StoredSession | None:
    query = select(sessions).where(sessions.c.owner == owner, sessions.c.request_key == key)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else _from_row(row)


async def _held(connection: AsyncConnection) -> list[Held]:
    query = select(
        sessions.c.id, sessions.c.owner, sessions.c.resources, sessions.c.plan["container", "gpus"]
    ).where(sessions.c.state.in_(_ACTIVE))
    rows = (await connection.execute(query)).all()
    return [
        Held(session=session, owner=owner, resources=resources, gpus=gpus or [])
        for session, owner, resources, gpus in rows
    ]


async def take_step(connection: AsyncConnection, session: str, change: Step) -> Session:
    """Take a session one step further, in a transaction of the caller's.

    Raises
    ------
    NotFoundError
        If there is no such session.
    """
    stored = await _there(connection, session)
    step = change(stored.session, await _last_event(connection, session))
    if step is None:
        return stored.session
    after, event = step
    await _keep(connection, stored.model_copy(update={"session": after}), event)
    return after


async def _there(connection: AsyncConnection, session: str) -> StoredSession:
    stored = await _find(connection, session)
    if stored is None:
        raise NotFoundError(f"There is no session {session}.")
    return stored


async def _last_event(connection: AsyncConnection, session: str) -> SessionEvent:
    latest = (
        select(session_events)
        .where(session_events.c.session == session)
        .order_by(session_events.c.number.desc())
        .limit(1)
    )
    return SessionEvent.model_validate(dict((await connection.execute(latest)).mappings().one()))


async def _keep(connection: AsyncConnection, stored: StoredSession, event: SessionEvent | None) -> None:
    row = _to_row(stored)
    await connection.execute(update(sessions).where(sessions.c.id == stored.session.id).values(**row))
    if event is not None:
        await connection.execute(insert(session_events).values(**event.model_dump()))


_OWN = {"plan", "rate", "spent", "request_key"}
_LOOKED_UP = {"url", "usage", "cost", "shared_by", "shared_access", "planned"}
"""What an answer has and the table has not."""


def _to_row(stored: StoredSession) -> dict[str, Any]:
    return {
        **stored.session.model_dump(exclude=_LOOKED_UP),
        "plan": stored.plan.model_dump(mode="json"),
        "rate": stored.rate,
        "spent": stored.spent,
        "request_key": stored.request_key,
    }


def _from_row(row: RowMapping) -> StoredSession:
    session = {key: value for key, value in row.items() if key not in _OWN}
    return StoredSession.model_validate({"session": session, **{key: row[key] for key in _OWN}})
