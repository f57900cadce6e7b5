"""What follows from the tables of teams: groups at the hub, folders, and the end of sessions that mount too much."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import ConflictError, NotFoundError, UnavailableError
from cupola.models.session import SessionState
from cupola.models.team import Role
from cupola.models.volume import Access

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from cupola.models.session import Plan, Session
    from cupola.models.team import Team
    from cupola.platform.services.sessions.hub import SessionHub
    from cupola.platform.storage.database.sessions import SessionStore
    from cupola.platform.storage.database.shares import ShareStore
    from cupola.platform.storage.database.teams import TeamStore
    from cupola.platform.storage.hub.groups import HubGroup, HubGroups

__all__ = ["TeamWatch", "team_mounts"]

log = structlog.get_logger("cupola.portal")


class TeamWatch:
    """Brings hub, folders and running sessions in step with the teams.

    Parameters
    ----------
    teams, sessions, shares
        The tables.
    groups
        The hub's groups.
    at_hub
        Stops sessions.
    prepare
        Makes the folder of a team's volume, or finds it.
    folder
        The folder of all team volumes.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        teams: TeamStore,
        sessions: SessionStore,
        shares: ShareStore,
        groups: HubGroups,
        at_hub: SessionHub,
        prepare: Callable[[str], Awaitable[None]],
        folder: Path,
    ) -> None:
        self._teams = teams
        self._sessions = sessions
        self._shares = shares
        self._groups = groups
        self._at_hub = at_hub
        self._prepare = prepare
        self._folder = folder
        # One change of the groups at a time: an older look at the tables must not undo a newer one.
        self._at_groups = asyncio.Lock()

    async def prepare(self, team: str) -> None:
        """Make the folder of a team's volume.

        Raises
        ------
        UnavailableError
            If it cannot be made.
        """
        await self._prepare(team)

    async def follow(self, name: str) -> None:
        """Bring the hub's group of one team in step; where the hub does not let us, the next reconcile does."""
        try:
            async with self._at_groups:
                team, group = await self._teams.get(name), await self._groups.get(name)
                await self._settle(name, team, group)
        except (ConflictError, UnavailableError) as error:
            log.warning("a team's group waits for its next reconcile", team=name, error=str(error))

    async def reconcile(self) -> None:
        """Bring everything in step.

        Raises
        ------
        UnavailableError
            If the hub does not answer; sessions are looked at all the same.
        """
        await self.enforce()
        teams = {team.name: team for team in await self._teams.all()}
        for name in teams:
            try:
                await self._prepare(name)
            except UnavailableError as error:
                log.warning("a team's folder cannot be made", team=name, error=str(error))
        async with self._at_groups:
            groups = await self._groups.all()
            teams = {team.name: team for team in await self._teams.all()}
            for name in sorted(teams.keys() | groups.keys()):
                try:
                    await self._settle(name, teams.get(name), groups.get(name))
                except ConflictError as error:
                    log.warning("a team's group is out of step", team=name, error=str(error))

    async def _settle(self, name: str, team: Team | None, group: HubGroup | None) -> None:
        if group is not None and not group.ours:
            if team is not None:
                log.error("a group of the hub has the name of a team, and is left alone", team=name)
            return
        if team is None:
            await self._shares.delete_with_team(name)
            if group is not None and group.marked:
                await self._groups.delete(name)
            return
        wanted = {member.person for member in team.members}
        there = set(group.users) if group is not None else set()
        if group is None or not group.marked:
            await self._groups.make(name)
        # First out, then in: a hub that fails half-way has let in nobody too many.
        await self._groups.take_out(name, sorted(there - wanted))
        await self._groups.add(name, sorted(wanted - there))

    async def mounting(self, team: str) -> list[Session]:
        """Return the sessions that mount a team's volume and have not ended."""
        return [
            stored.session
            for stored in await self._sessions.active()
            if team in team_mounts(stored.plan, self._folder)
        ]

    async def enforce(self) -> None:
        """Stop sessions that mount the volume of a team more freely than their owner may (any more).

        A mount cannot be taken out of a running container; its end is the only way.
        """
        roles: dict[str, dict[str, Role]] = {}
        for stored in await self._sessions.active():
            session = stored.session
            mounts = team_mounts(stored.plan, self._folder)
            if not mounts or session.state is SessionState.STOPPING:
                continue
            if session.owner not in roles:
                roles[session.owner] = await self._teams.roles(session.owner)
            for team, access in mounts.items():
                reason = _too_much(team, access, roles[session.owner].get(team))
                if reason is not None:
                    await self._end(session, reason)
                    break

    async def _end(self, session: Session, reason: str) -> None:
        log.info("a session is stopped", session=session.id, owner=session.owner, reason=reason)
        try:
            after = await self._at_hub.move(session.id, SessionState.STOPPING, "Stopping", reason=reason)
        except NotFoundError:
            return  # its owner was faster
        if after.state is SessionState.STOPPING:
            self._at_hub.stop(after, reason)


def _too_much(team: str, access: Access, role: Role | None) -> str | None:
    if role is None:
        return f"Stopped, because it mounts the volume of the team {team}, which you are no longer in."
    if role is Role.READER and access is Access.WRITE:
        return f"Stopped, because you may only read the volume of the team {team} now: launch again to do so."
    return None


def team_mounts(plan: Plan, folder: Path) -> dict[str, Access]:
    """Return which team volumes a session mounts, and whether it may write there.

    Parameters
    ----------
    plan
        What the session was started from.
    folder
        The folder of all team volumes.
    """
    found: dict[str, Access] = {}
    if plan.container is not None:
        for bound in plan.container.mounts:
            if bound.source.parent == folder:
                found[bound.source.name] = Access.READ if bound.read_only else Access.WRITE
    else:
        for mount in plan.mounts:
            if mount.source.parent == folder:
                found[mount.source.name] = mount.access
    return found
