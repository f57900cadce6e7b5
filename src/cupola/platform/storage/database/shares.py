"""The table of shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import RowMapping, delete, func, insert, or_, select

from cupola.models.session import SessionState
from cupola.models.share import Share
from cupola.platform.storage.database.tables import sessions, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from cupola.platform.storage.database.connection import Database

__all__ = ["ShareStore"]

_ENDED = [state for state in SessionState if not state.active]


class ShareStore:
    """Keeps shares in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, share: Share, *, check: Callable[[int], None]) -> None:
        """Keep a new share; an older one of the same session with the same person or team goes.

        Parameters
        ----------
        share
            The share.
        check
            Gets the number of the session's other shares, and raises if that forbids one more.
        """
        session = shares.c.session == share.session
        same = session & (shares.c.person == share.person if share.person else shares.c.team == share.team)
        async with self._database.writing() as connection:
            await connection.execute(delete(shares).where(same))
            count = select(func.count()).select_from(shares).where(session)
            check((await connection.execute(count)).scalar_one())
            await connection.execute(insert(shares).values(**share.model_dump()))

    async def of_session(self, session: str, *, at: datetime) -> list[Share]:
        """Return the shares of a session that have not expired `at` this time, the oldest first."""
        query = (
            select(shares)
            .where(shares.c.session == session, shares.c.expires > at)
            .order_by(shares.c.created, shares.c.id)
        )
        async with self._database.reading() as connection:
            return [_share(row) for row in (await connection.execute(query)).mappings()]

    async def with_person(self, person: str, teams: Collection[str], *, at: datetime) -> list[Share]:
        """Return what is shared with `person`, or with one of `teams`, and has not expired `at` this time."""
        query = (
            select(shares)
            .where(or_(shares.c.person == person, shares.c.team.in_(teams)), shares.c.expires > at)
            .order_by(shares.c.created, shares.c.id)
        )
        async with self._database.reading() as connection:
            return [_share(row) for row in (await connection.execute(query)).mappings()]

    async def all(self) -> list[Share]:
        """Return all shares, expired ones too."""
        async with self._database.reading() as connection:
            return [_share(row) for row in (await connection.execute(select(shares))).mappings()]

    async def delete(self, session: str, share: str) -> bool:
        """Forget a share of a session. Returns whether there was one."""
        mine = (shares.c.session == session) & (shares.c.id == share)
        async with self._database.writing() as connection:
            return (await connection.execute(delete(shares).where(mine))).rowcount > 0

    async def delete_with_team(self, team: str) -> set[str]:
        """Forget all shares with a team. Returns the ids of the sessions they were of."""
        mine = shares.c.team == team
        async with self._database.writing() as connection:
            found = set((await connection.execute(select(shares.c.session).where(mine))).scalars())
            await connection.execute(delete(shares).where(mine))
        return found

    async def delete_past(self, *, at: datetime) -> set[str]:
        """Forget what has expired `at` this time, and the shares of ended sessions. Returns the sessions' ids."""
        ended = select(sessions.c.id).where(sessions.c.state.in_(_ENDED))
        past = or_(shares.c.expires <= at, shares.c.session.in_(ended))
        async with self._database.writing() as connection:
            found = set((await connection.execute(select(shares.c.session).where(past))).scalars())
            if found:
                await connection.execute(delete(shares).where(past))
        return found


def _share(row: RowMapping) -> Share:
    return Share.model_validate(dict(row))
