"""The tables of teams, their members and invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping, delete, func, insert, select, update

from cupola.exceptions import NotFoundError
from cupola.models.base import Model
from cupola.models.team import Invitation, Member, Role, Team
from cupola.platform.storage.database.tables import invitations, members, teams, volumes

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.platform.storage.database.connection import Database

__all__ = ["StoredInvitation", "TeamStore"]


class StoredInvitation(Model):
    """An invitation with what only the platform knows of it."""

    invitation: Invitation
    token_hash: str | None = None
    """Of the link's token, in hexadecimal; nothing where it is for a person."""
    used_by: list[str]
    """Who came in by it: nobody does so twice."""


class TeamStore:
    """Keeps teams in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, team: Team, *, check: Callable[[int], None]) -> bool:
        """Keep a new team with its members. Returns whether the name was free.

        Parameters
        ----------
        team
            The team; its first member is its first owner.
        check
            Gets the number of teams that this person owns already, and raises if that forbids one more.
        """
        first = team.members[0].person
        owned = (members.c.person == first) & (members.c.role == Role.OWNER)
        async with self._database.writing() as connection:
            count = select(func.count()).select_from(members).where(owned)
            check((await connection.execute(count)).scalar_one())
            # A team's name is its volume's too, so that it may not be that of a volume which somebody added.
            added = select(volumes.c.name).where(volumes.c.name == team.name)
            if await _find(connection, team.name) is not None or (await connection.execute(added)).first():
                return False
            await connection.execute(insert(teams).values(**team.model_dump(exclude={"members"})))
            for member in team.members:
                await connection.execute(insert(members).values(team=team.name, **member.model_dump()))
        return True

    async def get(self, name: str) -> Team | None:
        """Return the team of this name, or nothing."""
        async with self._database.reading() as connection:
            return await _find(connection, name)

    async def of(self, person: str) -> list[Team]:
        """Return the teams that `person` is in, by name."""
        mine = select(members.c.team).where(members.c.person == person)
        return await self._some(teams.c.name.in_(mine))

    async def all(self) -> list[Team]:
        """Return all teams, by name."""
        return await self._some(None)

    async def roles(self, person: str) -> dict[str, Role]:
        """Return what `person` may do in which team."""
        query = select(members.c.team, members.c.role).where(members.c.person == person)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(members.c.team))).all()
        return {row.team: Role(row.role) for row in rows}

    async def describe(self, name: str, *, title: str, description: str) -> None:
        """Give a team another title and description."""
        query = update(teams).where(teams.c.name == name).values(title=title, description=description)
        async with self._database.writing() as connection:
            await connection.execute(query)

    async def change_members(
        self, name: str, change: Callable[[dict[str, Member]], dict[str, Member]]
    ) -> tuple[Team, Team]:
        """Change who is in a team, in one transaction.

        Parameters
        ----------
        name
            The team's.
        change
            Gets the members by name and returns them anew, or raises.

        Returns
        -------
        tuple[Team, Team]
            The team before and after.

        Raises
        ------
        NotFoundError
            If there is no such team.
        """
        async with self._database.writing() as connection:
            return await _change_members(connection, name, change)

    async def delete(self, name: str) -> None:
        """Forget a team with its members and invitations."""
        async with self._database.writing() as connection:
            await connection.execute(delete(teams).where(teams.c.name == name))

    async def invite(self, stored: StoredInvitation, *, check: Callable[[int], None]) -> None:
        """Keep a new invitation; an older one of the same team to the same person goes.

        Parameters
        ----------
        stored
            The invitation.
        check
            Gets the number of the team's invitations, and raises if that forbids one more.
        """
        new = stored.invitation
        same_team = invitations.c.team == new.team
        async with self._database.writing() as connection:
            if await _find(connection, new.team) is None:
                raise NotFoundError(f"There is no team {new.team} any more.")
            if new.person is not None:
                await connection.execute(
                    delete(invitations).where(same_team, invitations.c.person == new.person)
                )
            await connection.execute(delete(invitations).where(invitations.c.expires <= new.created))
            count = select(func.count()).select_from(invitations).where(same_team)
            check((await connection.execute(count)).scalar_one())
            row = new.model_dump(exclude={"team_title", "link"})
            row |= {"token_hash": stored.token_hash, "used_by": stored.used_by}
            await connection.execute(insert(invitations).values(**row))

    async def invitations(
        self, *, at: datetime, team: str | None = None, person: str | None = None
    ) -> list[StoredInvitation]:
        """Return what has not expired `at` this time: the invitations of a team, or those to a person."""
        query = _invitations().where(invitations.c.expires > at).order_by(invitations.c.created)
        if team is not None:
            query = query.where(invitations.c.team == team)
        if person is not None:
            query = query.where(invitations.c.person == person)
        async with self._database.reading() as connection:
            return [_invitation(row) for row in (await connection.execute(query)).mappings()]

    async def invitation(
        self, name: str | None = None, *, token_hash: str | None = None
    ) -> StoredInvitation | None:
        """Return the invitation with the id `name`, or with this hash of its token, or nothing."""
        mine = invitations.c.id == name if name is not None else invitations.c.token_hash == token_hash
        async with self._database.reading() as connection:
            row = (await connection.execute(_invitations().where(mine))).mappings().first()
        return None if row is None else _invitation(row)

    async def accept(
        self,
        invitation: str,
        person: str,
        *,
        check: Callable[[StoredInvitation], None],
        change: Callable[[dict[str, Member]], dict[str, Member]],
    ) -> Team | None:
        """Let `person` in by an invitation, in one transaction.

        Parameters
        ----------
        invitation, person
            Who comes in by which invitation.
        check
            Gets the invitation as it is now, and raises if it does not let this person in.
        change
            As for `change_members`.

        Returns
        -------
        Team | None
            The team after it; nothing if the invitation is gone.
        """
        async with self._database.writing() as connection:
            query = _invitations().where(invitations.c.id == invitation)
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            stored = _invitation(row)
            check(stored)
            _, after = await _change_members(connection, stored.invitation.team, change)
            mine = invitations.c.id == invitation
            if stored.invitation.person is not None:
                await connection.execute(delete(invitations).where(mine))
            else:
                used = [*stored.used_by, person]
                await connection.execute(update(invitations).where(mine).values(used_by=used))
        return after

    async def withdraw(self, invitation: str, *, team: str | None = None, person: str | None = None) -> bool:
        """Forget an invitation of this team, or to this person. Returns whether there was one."""
        mine = invitations.c.id == invitation
        mine &= invitations.c.team == team if team is not None else invitations.c.person == person
        async with self._database.writing() as connection:
            return (await connection.execute(delete(invitations).where(mine))).rowcount > 0

    async def _some(self, which: Any) -> list[Team]:
        query = select(teams).order_by(teams.c.name)
        people = select(members).order_by(members.c.since, members.c.person)
        if which is not None:
            query = query.where(which)
            people = people.where(members.c.team.in_(select(teams.c.name).where(which)))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
            found: dict[str, list[Member]] = {row["name"]: [] for row in rows}
            for row in (await connection.execute(people)).mappings():
                found[row["team"]].append(_member(row))
        return [Team.model_validate({**row, "members": found[row["name"]]}) for row in rows]


async def _find(connection: AsyncConnection, name: str) -> Team | None:
    row = (await connection.execute(select(teams).where(teams.c.name == name))).mappings().first()
    if row is None:
        return None
    people = select(members).where(members.c.team == name).order_by(members.c.since, members.c.person)
    found = [_member(each) for each in (await connection.execute(people)).mappings()]
    return Team.model_validate({**row, "members": found})


async def _change_members(
    connection: AsyncConnection, name: str, change: Callable[[dict[str, Member]], dict[str, Member]]
) -> tuple[Team, Team]:
    team = await _find(connection, name)
    if team is None:
        raise NotFoundError(f"There is no team {name!r}: the page Teams shows those you are in.")
    before = {member.person: member for member in team.members}
    after = change(dict(before))
    for person, member in before.items():
        if after.get(person) != member:
            gone = (members.c.team == name) & (members.c.person == person)
            await connection.execute(delete(members).where(gone))
    for person, member in after.items():
        if before.get(person) != member:
            await connection.execute(insert(members).values(team=name, **member.model_dump()))
    ordered = sorted(after.values(), key=lambda member: (member.since, member.person))
    return team, team.model_copy(update={"members": ordered})


def _member(row: RowMapping) -> Member:
    return Member(person=row["person"], role=Role(row["role"]), since=row["since"])


def _invitations() -> Any:
    return select(invitations, teams.c.title.label("team_title")).join(
        teams, teams.c.name == invitations.c.team
    )


def _invitation(row: RowMapping) -> StoredInvitation:
    public = {key: value for key, value in row.items() if key not in {"token_hash", "used_by"}}
    return StoredInvitation(
        invitation=Invitation.model_validate(public), token_hash=row["token_hash"], used_by=row["used_by"]
    )
