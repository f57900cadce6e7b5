"""The tables of sessions and of their events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping, delete, func, insert, select, update

from cupola.exceptions import NotFoundError
from cupola.models.base import Model, Page
from cupola.models.session import Plan, Session, SessionEvent, SessionState
from cupola.platform.storage.database.paging import cursor_after, newest_first
from cupola.platform.storage.database.tables import session_events, sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.platform.storage.database.connection import Database

__all__ = ["SessionStore", "StoredSession"]

_ACTIVE = [state for state in SessionState if state.active]


class StoredSession(Model):
    """A session with the plan it starts from."""

    session: Session
    plan: Plan
    rate: float | None = None
    """What it costs per hour, where the platform has prices."""
    request_key: str | None = None
    """What the browser sent so that a double click launches once."""


class SessionStore:
    """Keeps sessions in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self, stored: StoredSession, event: SessionEvent, *, check: Callable[[int], None]
    ) -> StoredSession:
        """Keep a new session, or return the one that was kept with the same key before.

        Parameters
        ----------
        stored, event
            The session and its first event.
        check
            Gets the number of the owner's active sessions and raises if that forbids one more. Nothing comes
            between the count and the insert.
        """
        owner = stored.session.owner
        async with self._database.writing() as connection:
            if stored.request_key is not None:
                twin = select(sessions).where(
                    sessions.c.owner == owner, sessions.c.request_key == stored.request_key
                )
                row = (await connection.execute(twin)).mappings().first()
                if row is not None:
                    return _from_row(row)
            mine = (sessions.c.owner == owner) & sessions.c.state.in_(_ACTIVE)
            check(
                (
                    await connection.execute(select(func.count()).select_from(sessions).where(mine))
                ).scalar_one()
            )
            await connection.execute(insert(sessions).values(**_to_row(stored)))
            await connection.execute(insert(session_events).values(**event.model_dump()))
        return stored

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

    async def move(
        self, session: str, change: Callable[[Session, SessionEvent], tuple[Session, SessionEvent] | None]
    ) -> Session:
        """Take a session one step further, in one transaction.

        Parameters
        ----------
        session
            Its id.
        change
            Gets the session and its last event and returns both anew, or nothing if there is no step to take.

        Raises
        ------
        NotFoundError
            If there is no such session.
        """
        async with self._database.writing() as connection:
            stored = await _find(connection, session)
            if stored is None:
                raise NotFoundError(f"There is no session {session}.")
            latest = (
                select(session_events)
                .where(session_events.c.session == session)
                .order_by(session_events.c.number.desc())
                .limit(1)
            )
            event = SessionEvent.model_validate(dict((await connection.execute(latest)).mappings().one()))
            step = change(stored.session, event)
            if step is None:
                return stored.session
            after, event = step
            row = _to_row(stored.model_copy(update={"session": after}))
            await connection.execute(update(sessions).where(sessions.c.id == session).values(**row))
            await connection.execute(insert(session_events).values(**event.model_dump()))
        return after

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


_OWN = {"plan", "rate", "request_key"}
_LOOKED_UP = {"url", "usage", "cost", "shared_by"}
"""What an answer has and the table has not."""


def _to_row(stored: StoredSession) -> dict[str, Any]:
    return {
        **stored.session.model_dump(exclude=_LOOKED_UP),
        "plan": stored.plan.model_dump(mode="json"),
        "rate": stored.rate,
        "request_key": stored.request_key,
    }


def _from_row(row: RowMapping) -> StoredSession:
    session = {key: value for key, value in row.items() if key not in _OWN}
    return StoredSession.model_validate({"session": session, **{key: row[key] for key in _OWN}})
