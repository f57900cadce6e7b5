"""The tables of stops that are announced: of one session, and of the whole platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.activity import StopKind
from cupola.models.base import Model, Time
from cupola.models.session import Session, SessionState
from cupola.platform.storage.database.sessions import Step, take_step
from cupola.platform.storage.database.tables import maintenance, planned_stops, sessions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.platform.storage.database.connection import Database

__all__ = ["StopStore", "StoredMaintenance", "StoredStop"]

_ONE = 1


class StoredStop(Model):
    """What was announced to the owner of a session."""

    session: str
    kind: StopKind
    reason: str
    by: str | None = None
    """Who wished it; nothing where nobody did."""
    announced: Time
    at: Time


class StoredMaintenance(Model):
    """The announced end of the whole platform."""

    reason: str
    by: str
    announced: Time
    at: Time


class StopStore:
    """Keeps what was announced in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[StoredStop]:
        """Return what is announced, of all sessions."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(planned_stops))).mappings().all()
        return [StoredStop.model_validate(dict(row)) for row in rows]

    async def announce(self, stop: StoredStop) -> None:
        """Write down an announcement; it takes the place of an earlier one.

        Raises
        ------
        NotFoundError
            If there is no such session.
        ConflictError
            If it does not run, or is being stopped already.
        """
        async with self._database.writing() as connection:
            await _only_while_it_runs(connection, stop.session)
            await connection.execute(delete(planned_stops).where(planned_stops.c.session == stop.session))
            await connection.execute(insert(planned_stops).values(**stop.model_dump()))

    async def withdraw(self, session: str) -> None:
        """Forget an announcement; none is no error."""
        async with self._database.writing() as connection:
            await connection.execute(delete(planned_stops).where(planned_stops.c.session == session))

    async def keep(self, session: str) -> None:
        """Forget an announcement on the owner's wish: nothing comes between the look at the session and this.

        Raises
        ------
        NotFoundError
            If there is no such session.
        ConflictError
            If it does not run, or its stop has begun.
        """
        async with self._database.writing() as connection:
            await _only_while_it_runs(connection, session)
            await connection.execute(delete(planned_stops).where(planned_stops.c.session == session))

    async def carry_out(self, session: str, step: Step) -> Session | None:
        """Take the step of an announced stop, unless it was withdrawn meanwhile: then return nothing."""
        async with self._database.writing() as connection:
            gone = delete(planned_stops).where(planned_stops.c.session == session)
            if not (await connection.execute(gone)).rowcount:
                return None
            return await take_step(connection, session, step)

    async def maintenance(self) -> StoredMaintenance | None:
        """Return the announced end of the platform, if there is one."""
        query = select(maintenance.c.reason, maintenance.c.by, maintenance.c.announced, maintenance.c.at)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else StoredMaintenance.model_validate(dict(row))

    async def set_maintenance(self, announced: StoredMaintenance | None) -> None:
        """Write down the end of the platform, or that it does not come; what is announced to sessions is withdrawn."""
        async with self._database.writing() as connection:
            await connection.execute(delete(maintenance))
            ours = planned_stops.c.kind == StopKind.MAINTENANCE
            await connection.execute(delete(planned_stops).where(ours))
            if announced is not None:
                await connection.execute(insert(maintenance).values(id=_ONE, **announced.model_dump()))


async def _only_while_it_runs(connection: AsyncConnection, session: str) -> None:
    query = select(sessions.c.state, sessions.c.title).where(sessions.c.id == session)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFoundError(f"There is no session {session}.")
    state, title = row
    if state == SessionState.STOPPING:
        raise ConflictError(f"{title} is just being stopped: wake or restart it when it has ended.")
    if state != SessionState.READY:
        raise ConflictError(f"{title} does not run: wake or restart it first.")
