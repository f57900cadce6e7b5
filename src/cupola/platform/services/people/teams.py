"""Teams: who is in one, who may change that, and how people come in.

The tables here are the truth. The hub's groups and the mounts of running sessions follow them, see `teamwatch`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import (
    ConflictError,
    CupolaError,
    InputError,
    LimitError,
    NotAllowedError,
    NotFoundError,
)
from cupola.models.base import now
from cupola.models.team import Invitation, Member, Role, Team
from cupola.platform.storage.database.teams import StoredInvitation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from cupola.config import StatePaths
    from cupola.models.person import Person
    from cupola.models.session import Session
    from cupola.models.team import NewInvitation, NewTeam
    from cupola.platform.services.people.teamwatch import TeamWatch
    from cupola.platform.storage.database.teams import TeamStore
    from cupola.platform.storage.hub.groups import HubGroups

__all__ = ["TeamService"]

log = structlog.get_logger("cupola.portal")

_MOST_TEAMS = 20
"""Teams that a person may own: each takes a name that nobody else can have."""
_MOST_INVITATIONS = 100
"""Open invitations of a team."""
_TOKEN_BYTES = 32
_LONGEST_TOKEN = 100
_GONE = "This invitation has ended or was withdrawn: ask a member of the team who owns it for a new one."


class TeamService:
    """Everything that can be done with teams.

    Parameters
    ----------
    store
        The tables.
    groups
        The hub's groups, and whom the hub knows.
    watch
        Brings the hub and running sessions in step.
    paths
        Where the volumes of teams lie.
    volumes
        Names of the platform's own volumes: a team's name is also its volume's.
    pages
        The address of the portal's pages, for links; ends with a slash.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: TeamStore,
        groups: HubGroups,
        watch: TeamWatch,
        paths: StatePaths,
        volumes: Collection[str],
        pages: str,
    ) -> None:
        self._store = store
        self._groups = groups
        self._watch = watch
        self._paths = paths
        self._volumes = frozenset(volumes)
        self._pages = pages
        self.listeners: list[Callable[[str], Awaitable[None]]] = []
        """Are told the name of each team whose members changed."""

    async def create(self, person: Person, new: NewTeam) -> Team:
        """Make a team with its volume; `person` becomes its owner.

        Raises
        ------
        ConflictError
            If the name is taken: by a team, a volume, a group of the hub, or the files of an earlier team.
        LimitError
            If the person owns too many teams.
        UnavailableError
            If the hub does not answer.
        """
        moment = now()
        team = Team(
            **new.model_dump(),
            created=moment,
            members=[Member(person=person.name, role=Role.OWNER, since=moment)],
        )
        taken = ConflictError(f"The name {new.name} is taken: choose another one.")
        group = await self._groups.get(new.name)
        # The files of a team outlive it, and must not come to whoever takes its name next.
        files = await asyncio.to_thread(os.path.lexists, self._paths.team(new.name))
        if new.name in self._volumes or files or (group is not None and not group.ours):
            raise taken
        if not await self._store.insert(team, check=_limit_of_teams):
            raise taken
        try:
            await self._watch.prepare(team.name)
        except CupolaError:
            await self._store.delete(team.name)
            raise
        await self._watch.follow(team.name)
        log.info("team made", team=team.name, by=person.name)
        return team

    async def teams(self, person: Person) -> list[Team]:
        """Return the teams that `person` is in, by name."""
        return await self._store.of(person.name)

    async def team(self, person: Person, name: str) -> Team:
        """Return one team.

        Raises
        ------
        NotFoundError
            If the person is in no team of this name.
        """
        return await self._seen_by(person, name)

    async def describe(self, person: Person, name: str, *, title: str, description: str) -> Team:
        """Give a team another title and description.

        Raises
        ------
        NotFoundError, NotAllowedError
            If the person is not in it, or does not own it.
        """
        await self._owned_by(person, name)
        await self._store.describe(name, title=title, description=description)
        return await self._seen_by(person, name)

    async def names_of(self, person: str) -> list[str]:
        """Return the names of the teams that `person` is in, in order."""
        return list(await self._store.roles(person))

    async def roles_of(self, person: str) -> dict[str, Role]:
        """Return what `person` may do in which team."""
        return await self._store.roles(person)

    async def members_of(self, team: str) -> dict[str, Role]:
        """Return who is in a team, with what they may do; nobody where there is no such team."""
        found = await self._store.get(team)
        return {member.person: member.role for member in found.members} if found is not None else {}

    async def role(self, person: str, team: str) -> Role | None:
        """Return what `person` may do in a team; nothing for whoever is not in it."""
        return (await self._store.roles(person)).get(team)

    # --- coming in

    async def invite(self, person: Person, name: str, new: NewInvitation) -> Invitation:
        """Invite one person, or whoever is given the link of the answer.

        A link works until it expires or is withdrawn, for each person once.

        Raises
        ------
        NotFoundError, NotAllowedError
            If the inviting person is not in the team, or does not own it.
        InputError
            If the hub knows nobody of the invited name.
        ConflictError
            If the invited person is in the team already.
        LimitError
            If the team has too many open invitations.
        """
        team = await self._owned_by(person, name)
        invited = None if new.person is None else await self._known(new.person)
        if any(member.person == invited for member in team.members):
            raise ConflictError(f"{invited} is in {team.title} already: change the role instead.")
        token = secrets.token_urlsafe(_TOKEN_BYTES) if invited is None else None
        moment = now()
        invitation = Invitation(
            id=secrets.token_hex(8),
            team=team.name,
            team_title=team.title,
            person=invited,
            role=new.role,
            by=person.name,
            created=moment,
            expires=moment + timedelta(days=new.days),
        )
        stored = StoredInvitation(
            invitation=invitation, token_hash=None if token is None else _hash(token), used_by=[]
        )
        await self._store.invite(stored, check=_limit_of_invitations)
        log.info("invited", team=name, by=person.name, person=invited, role=new.role)
        link = None if token is None else f"{self._pages}invitations/{token}"
        return invitation.model_copy(update={"link": link})

    async def invitations(self, person: Person, name: str) -> list[Invitation]:
        """Return the open invitations of a team, without their links.

        Raises
        ------
        NotFoundError, NotAllowedError
            If the person is not in the team, or does not own it.
        """
        await self._owned_by(person, name)
        return [stored.invitation for stored in await self._store.invitations(at=now(), team=name)]

    async def invitations_to(self, person: Person) -> list[Invitation]:
        """Return the open invitations to `person`."""
        return [stored.invitation for stored in await self._store.invitations(at=now(), person=person.name)]

    async def invitation(self, person: Person, token: str) -> Invitation:
        """Return the invitation behind a link.

        Raises
        ------
        NotFoundError
            If there is none (any more), or this person came in by it before and left.
        """
        stored = await self._by_token(token)
        # Whoever opens the link again from a mail is to read that all is well.
        if await self.role(person.name, stored.invitation.team) is None:
            _check(stored, person.name)
        return stored.invitation

    async def accept(
        self, person: Person, *, invitation: str | None = None, token: str | None = None
    ) -> Team:
        """Come into a team; whoever is in it already keeps the role.

        Parameters
        ----------
        person
            Who comes in.
        invitation, token
            The id of an invitation to this person, or the token of a link.

        Raises
        ------
        NotFoundError
            If there is no such invitation (any more), or it is another person's.
        """
        if invitation is not None:
            stored = await self._store.invitation(invitation)
        else:
            stored = await self._by_token(token or "")
        if stored is None or (invitation is not None and stored.invitation.person != person.name):
            raise NotFoundError(_GONE)
        moment = now()
        member = Member(person=person.name, role=stored.invitation.role, since=moment)
        team = await self._store.accept(
            stored.invitation.id,
            person.name,
            check=lambda current: _check(current, person.name),
            change=lambda members: {person.name: member, **members},
        )
        if team is None:
            raise NotFoundError(_GONE)
        await self._follow(team.name)
        log.info("joined", team=team.name, person=person.name, role=member.role)
        return team

    async def withdraw(self, person: Person, name: str, invitation: str) -> None:
        """Withdraw an invitation of a team: from now on nobody comes in by it.

        Raises
        ------
        NotFoundError, NotAllowedError
            If there is no such invitation, or the person is not in the team or does not own it.
        """
        await self._owned_by(person, name)
        if not await self._store.withdraw(invitation, team=name):
            raise NotFoundError("There is no such invitation any more: the team's page shows the open ones.")

    async def decline(self, person: Person, invitation: str) -> None:
        """Turn down an invitation to this person.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        if not await self._store.withdraw(invitation, person=person.name):
            raise NotFoundError("There is no such invitation to you any more.")

    # --- being in

    async def change_role(self, person: Person, name: str, member: str, role: Role) -> Team:
        """Give a member another role.

        Raises
        ------
        NotFoundError, NotAllowedError
            If there is no such team or member, or the person does not own the team.
        ConflictError
            If the team would have no owner.
        """
        await self._owned_by(person, name)

        def change(members: dict[str, Member]) -> dict[str, Member]:
            _still_owned_by(members, person, name)
            before = _member(members, member, name)
            return _with_owner({**members, member: before.model_copy(update={"role": role})})

        return await self._change(name, change)

    async def remove(self, person: Person, name: str, member: str) -> Team:
        """Remove a member; running sessions of theirs that mount the team's volume are stopped.

        Raises
        ------
        NotFoundError, NotAllowedError
            If there is no such team or member, or the person does not own the team.
        ConflictError
            If the team would have no owner.
        """
        await self._owned_by(person, name)

        def change(members: dict[str, Member]) -> dict[str, Member]:
            _still_owned_by(members, person, name)
            return _without(members, member, name)

        return await self._change(name, change)

    async def leave(self, person: Person, name: str) -> None:
        """Leave a team; one's running sessions that mount its volume are stopped.

        Raises
        ------
        NotFoundError
            If the person is in no such team.
        ConflictError
            If the team would have no owner.
        """
        await self._change(name, lambda members: _without(members, person.name, name))

    async def delete(self, person: Person, name: str) -> str:
        """Delete a team; sessions that mount its volume are stopped. Its files stay.

        Returns
        -------
        str
            Where its files stay, in a sentence.

        Raises
        ------
        NotFoundError, NotAllowedError
            If the person is not in the team, or does not own it.
        """
        team = await self._owned_by(person, name)
        await self._store.delete(name)
        log.info("team deleted", team=name, by=person.name)
        await self._follow(name)
        return (
            f"{team.title} is deleted. Its files stay in {self._paths.team(name)} on the server, where only "
            "administrators reach them; the name is free again when that folder is gone."
        )

    async def affected(self, person: Person, name: str, member: str | None = None) -> list[Session]:
        """Return the running sessions that mount a team's volume: those of `member`, or of everybody.

        Raises
        ------
        NotFoundError
            If the person is in no such team.
        """
        await self._seen_by(person, name)
        return [
            session
            for session in await self._watch.mounting(name)
            if member is None or session.owner == member
        ]

    async def reconcile(self) -> None:
        """Bring the hub, the folders and running sessions in step with the tables.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        await self._watch.reconcile()

    async def _change(self, name: str, change: Callable[[dict[str, Member]], dict[str, Member]]) -> Team:
        _, after = await self._store.change_members(name, change)
        await self._follow(name)
        return after

    async def _follow(self, name: str) -> None:
        """Let everything follow the members of a team."""
        await self._watch.enforce()
        await self._watch.follow(name)
        for listener in self.listeners:
            await listener(name)

    async def _seen_by(self, person: Person, name: str) -> Team:
        team = await self._store.get(name)
        # That others have a team of this name is nobody's business. Administrators look after all of them.
        if team is None or not (person.admin or _role(team, person.name)):
            raise NotFoundError(f"You are in no team {name!r}: the page Teams shows those you are in.")
        return team

    async def _owned_by(self, person: Person, name: str) -> Team:
        team = await self._seen_by(person, name)
        if not (person.admin or _role(team, person.name) is Role.OWNER):
            raise NotAllowedError(f"Only an owner of {team.title} can do this: ask one of them.")
        return team

    async def _known(self, name: str) -> str:
        known = await self._groups.person(name.strip()) if name.strip() else None
        if known is None:
            raise InputError(
                f"Nobody here is called {name!r}: check the name, or invite by link whoever has not signed in yet."
            )
        return known

    async def _by_token(self, token: str) -> StoredInvitation:
        stored = None
        if token and len(token) <= _LONGEST_TOKEN:
            stored = await self._store.invitation(token_hash=_hash(token))
        if stored is None:
            raise NotFoundError(_GONE)
        return stored


def _check(stored: StoredInvitation, person: str) -> None:
    """Raise if the invitation does not let `person` in (any more)."""
    if stored.invitation.expires <= now():
        raise NotFoundError(_GONE)
    if person in stored.used_by:
        raise NotFoundError("You came in by this invitation before, and it works once: ask for a new one.")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _role(team: Team, person: str) -> Role | None:
    return next((member.role for member in team.members if member.person == person), None)


def _member(members: dict[str, Member], name: str, team: str) -> Member:
    if name not in members:
        raise NotFoundError(f"{name!r} is not in the team {team}: its page shows who is.")
    return members[name]


def _without(members: dict[str, Member], name: str, team: str) -> dict[str, Member]:
    _member(members, name, team)
    return _with_owner({key: member for key, member in members.items() if key != name})


def _with_owner(members: dict[str, Member]) -> dict[str, Member]:
    if not any(member.role is Role.OWNER for member in members.values()):
        raise ConflictError("A team needs an owner: make somebody else one first, or delete the team.")
    return members


def _still_owned_by(members: dict[str, Member], person: Person, team: str) -> None:
    """Raise if the person's own role was taken away since it was looked at."""
    mine = members.get(person.name)
    if not person.admin and (mine is None or mine.role is not Role.OWNER):
        raise NotAllowedError(f"Only an owner of {team} can do this: ask one of them.")


def _limit_of_teams(owned: int) -> None:
    if owned >= _MOST_TEAMS:
        raise LimitError(
            f"You own {owned} teams, which is the most: delete one, or give it to another owner."
        )


def _limit_of_invitations(open_ones: int) -> None:
    if open_ones >= _MOST_INVITATIONS:
        raise LimitError(
            f"The team has {open_ones} open invitations, which is the most: withdraw some first."
        )
