"""Shares: a running session that its owner opens for others, for a time.

The table is the truth: `access` answers from it at once. The hub, which lets people through to a session, follows it. A
share with a team is granted there to each of its members: up to JupyterHub 6.1 a token, and so every browser, gets nothing of
what is shared with its person's groups.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from cupola.exceptions import (
    ConflictError,
    CupolaError,
    InputError,
    LimitError,
    NotFoundError,
    UnavailableError,
)
from cupola.models.base import now
from cupola.models.datalab import DatalabKind
from cupola.models.session import Session, SessionState
from cupola.models.share import Share, ShareAccess
from cupola.models.team import Role
from cupola.platform.storage.hub.client import RefusedError
from cupola.platform.storage.hub.shares import Grantee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.models.person import Person
    from cupola.models.share import NewShare
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.services.people.teams import TeamService
    from cupola.platform.storage.database.sessions import SessionStore, StoredSession
    from cupola.platform.storage.database.shares import ShareStore
    from cupola.platform.storage.hub.groups import HubGroups
    from cupola.platform.storage.hub.shares import HubShares

__all__ = ["ShareService"]

log = structlog.get_logger("cupola.portal")

_MOST = 50
"""Shares of one session."""
_ROUNDS = 15
"""Every so many rounds of the timer the hub is asked about all sessions, not only those that changed."""


class ShareService:
    """Everything that can be done with shares.

    Parameters
    ----------
    store, sessions
        The tables.
    teams
        Who is in which team.
    catalogue
        What kind of tool a session runs.
    hub, groups
        The hub's shares, and whom the hub knows.
    base_url
        Where everything lies on the platform's address; begins and ends with a slash.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        store: ShareStore,
        sessions: SessionStore,
        teams: TeamService,
        catalogue: CatalogueService,
        hub: HubShares,
        groups: HubGroups,
        base_url: str,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._teams = teams
        self._catalogue = catalogue
        self._hub = hub
        self._groups = groups
        self._base_url = base_url
        # Sessions that the hub may see otherwise than the table.
        self._unsure: set[str] = set()
        self._round = 0

    async def share(self, person: Person, session: str, new: NewShare) -> Share:
        """Let somebody, or a team, into a running session for a time; this takes the place of an earlier share.

        Raises
        ------
        NotFoundError
            If the person has no such session, or is in no such team.
        ConflictError
            If the session does not run.
        InputError
            If nobody has that name, or the tool cannot be shared that way.
        LimitError
            If the session is shared with too many.
        UnavailableError
            If the hub does not answer; nothing is shared then.
        """
        stored = await self._owned_by(person, session)
        if stored.session.state is not SessionState.READY:
            raise ConflictError(f"{stored.session.title} does not run: share it when it is ready.")
        if new.access is ShareAccess.VIEW and not await self._can_be_viewed(stored):
            raise InputError("This tool cannot be looked at without being used: share it with full access.")
        share = Share(
            id=secrets.token_hex(8),
            session=session,
            owner=person.name,
            person=await self._visitor(person, new),
            team=new.team,
            access=new.access,
            created=(moment := now()),
            expires=moment + timedelta(hours=new.hours),
        )
        await self._store.insert(share, check=_limit)
        log.info("shared", **share.model_dump(include={"session", "owner", "person", "team", "access"}))
        try:
            await self._follow(session)
        except CupolaError:
            await self._store.delete(session, share.id)
            self._unsure.add(session)
            raise
        return share

    async def shares(self, person: Person, session: str) -> list[Share]:
        """Return with whom a session is shared.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        await self._owned_by(person, session)
        return await self._store.of_session(session, at=now())

    async def revoke(self, person: Person, session: str, share: str) -> None:
        """End a share: from now on the session lets nobody in by it, and closes what is open within a minute.

        Raises
        ------
        NotFoundError
            If there is no such share of the person's.
        """
        await self._owned_by(person, session)
        if not await self._store.delete(session, share):
            raise NotFoundError("There is no such share any more: the session's page shows those there are.")
        log.info("share revoked", session=session, share=share, by=person.name)
        await self._follow_later(session)

    async def shared_with(self, person: Person) -> list[Session]:
        """Return the running sessions of others that `person` may open, without what is their owner's business."""
        roles = await self._teams.roles_of(person.name)
        found: dict[str, list[Share]] = {}
        for share in await self._store.with_person(person.name, list(roles), at=now()):
            found.setdefault(share.session, []).append(share)
        shown = []
        for session, shares in found.items():
            stored = await self._sessions.get(session)
            if stored is None or stored.session.owner == person.name:
                continue
            access = await self._strongest(stored, shares, person.name, roles)
            if access is not None and stored.session.state is SessionState.READY:
                shown.append(self._present(stored, access))
        return shown

    async def access(self, session: str, visitor: str) -> ShareAccess | None:
        """Return what `visitor` may do in a session just now; nothing for whoever is to stay outside."""
        stored = await self._sessions.get(session)
        if stored is None or not stored.session.state.active:
            return None
        if stored.session.owner == visitor:
            return ShareAccess.FULL
        roles = await self._teams.roles_of(visitor)
        return await self._strongest(stored, await self._store.of_session(session, at=now()), visitor, roles)

    async def access_asked_by(self, person: Person, session: str, visitor: str) -> ShareAccess | None:
        """Answer the session itself, which asks with its owner's name.

        Raises
        ------
        NotFoundError
            If the person has no such session.
        """
        await self._owned_by(person, session)
        return await self.access(session, visitor)

    async def can_be_viewed(self, session: str) -> bool:
        """Tell whether a session can be looked at without being used."""
        stored = await self._sessions.get(session)
        return stored is not None and await self._can_be_viewed(stored)

    async def expire(self) -> None:
        """Forget what is past, and bring the hub in step with the table.

        Raises
        ------
        UnavailableError
            If the hub does not answer; what was to be done is done at the next call then.
        """
        self._unsure |= await self._store.delete_past(at=now())
        active = {stored.session.id for stored in await self._sessions.active()}
        # Teams change without us.
        self._unsure |= {share.session for share in await self._store.all() if share.team is not None}
        if self._round % _ROUNDS == 0:
            self._unsure |= active
        # The hub forgets the shares of a session that ended by itself.
        self._unsure &= active
        for session in sorted(self._unsure):
            await self._follow(session)
        self._round += 1

    async def _follow(self, session: str) -> None:
        """Bring the hub in step with the shares of one session."""
        stored = await self._sessions.get(session)
        if stored is None:
            self._unsure.discard(session)
            return
        owner = stored.session.owner
        self._unsure.add(session)
        there = await self._hub.of(owner, session)
        if there is not None:
            # Looked at after the hub was: a share that ends meanwhile is not granted once more.
            wanted = {Grantee(person=name) for name in await self._visitors(stored)}
            for grantee in there - wanted:
                await self._hub.revoke(owner, session, grantee)
            for grantee in wanted - there:
                await self._hub.grant(owner, session, grantee)
        self._unsure.discard(session)

    async def _visitors(self, stored: StoredSession) -> set[str]:
        """Return all who may open a session beside its owner."""
        shares = await self._store.of_session(stored.session.id, at=now())
        members: dict[str, dict[str, Role]] = {
            share.team: await self._teams.members_of(share.team) for share in shares if share.team
        }
        found = {share.person for share in shares if share.person}
        found |= {name for team in members.values() for name in team}
        found.discard(stored.session.owner)
        allowed = set()
        for name in found:
            roles = {team: there[name] for team, there in members.items() if name in there}
            if await self._strongest(stored, shares, name, roles) is not None:
                allowed.add(name)
        return allowed

    async def follow_team(self, team: str) -> None:
        """Bring the hub in step after a team changed; if it does not let us now, the timer does it."""
        touched = {share.session for share in await self._store.all() if share.team == team}
        if not touched:  # it was deleted, with its shares
            touched = {stored.session.id for stored in await self._sessions.active()}
        for session in sorted(touched):
            await self._follow_later(session)

    async def _follow_later(self, session: str) -> None:
        """Bring the hub in step; if it does not let us now, the timer does it."""
        try:
            await self._follow(session)
        except (RefusedError, UnavailableError) as error:
            log.warning("the hub learns of a share later", session=session, error=str(error))

    async def _strongest(
        self, stored: StoredSession, shares: Sequence[Share], visitor: str, roles: dict[str, Role]
    ) -> ShareAccess | None:
        allowed = {_allows(share, visitor, roles) for share in shares}
        if ShareAccess.FULL in allowed:
            return ShareAccess.FULL
        if ShareAccess.VIEW in allowed and await self._can_be_viewed(stored):
            return ShareAccess.VIEW
        return None

    async def _can_be_viewed(self, stored: StoredSession) -> bool:
        """Tell whether the tool can be looked at without being used: only a Jupyter server knows the difference."""
        try:
            datalab = await self._catalogue.datalab(stored.session.datalab)
        except NotFoundError:  # taken out of the catalogue while it runs
            return False
        return datalab.kind is DatalabKind.JUPYTERLAB

    async def _visitor(self, person: Person, new: NewShare) -> str | None:
        """Return the person to share with; raise unless exactly one person or team is named that it is possible with."""
        if (new.person is None) == (new.team is None):
            raise InputError("Name one person or one team to share with.")
        if new.team is not None:
            if new.team not in await self._teams.roles_of(person.name):
                raise NotFoundError(
                    f"You are in no team {new.team!r}: the page Teams shows those you are in."
                )
            return None
        name = (new.person or "").strip()
        known = await self._groups.person(name) if name else None
        if known is None:
            raise InputError(
                f"Nobody here is called {name!r}: check the name; they must have signed in once."
            )
        if known == person.name:
            raise InputError("This session is yours already: name somebody else.")
        return known

    async def _owned_by(self, person: Person, session: str) -> StoredSession:
        stored = await self._sessions.get(session)
        # Nobody can share what is not theirs, administrators neither: it is the owner's account that acts in it.
        if stored is None or stored.session.owner != person.name:
            raise NotFoundError(f"You have no session {session!r}: the page Sessions shows those you have.")
        return stored

    def _present(self, stored: StoredSession, access: ShareAccess) -> Session:
        session = stored.session
        place = f"{self._base_url}user/{quote(session.owner, safe='@')}/{session.id}"
        return session.model_copy(
            update={
                "url": place + "/" + stored.plan.ready_path.lstrip("/"),
                "environment": {},
                "notices": [],
                "shared_by": session.owner,
                "shared_access": access,
            }
        )


def _allows(share: Share, visitor: str, roles: dict[str, Role]) -> ShareAccess | None:
    if share.person is not None:
        return share.access if share.person == visitor else None
    role = roles.get(share.team or "")
    if role is None:
        return None
    # A session acts with its owner's rights, also in the team's volume: who may only read there only looks on.
    return ShareAccess.VIEW if role is Role.READER else share.access


def _limit(others: int) -> None:
    if others >= _MOST:
        raise LimitError(
            f"The session is shared with {others} already, which is the most: share it with a team."
        )
