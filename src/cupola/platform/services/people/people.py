"""People: who holds a token, and what they may use."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from cupola.exceptions import NotAllowedError, NotSignedInError
from cupola.models.person import Person, Profile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from cupola.config import NamedProfileSettings, ProfileSettings
    from cupola.platform.storage.hub.client import HubClient

__all__ = ["PeopleService", "Profiles"]

_REMEMBERED_S = 15.0
"""A token that is revoked at the hub works here at most this long."""
_MOST = 4096
"""Tokens remembered at a time."""


class Profiles:
    """Knows what each person may use.

    Parameters
    ----------
    usual
        What holds for everybody.
    named
        What holds for certain people instead; where several fit, the first counts.
    """

    def __init__(self, usual: ProfileSettings, named: Sequence[NamedProfileSettings] = ()) -> None:
        self._usual = Profile.model_validate(usual.model_dump())
        self._named = list(named)

    def of(self, person: str, teams: Collection[str]) -> Profile:
        """Return the profile of `person`, a member of `teams`."""
        for named in self._named:
            if person in named.people or not set(teams).isdisjoint(named.teams):
                said = named.model_dump(exclude={"people", "teams"}, exclude_none=True)
                return self._usual.model_copy(update=said)
        return self._usual


class PeopleService:
    """Knows people by their tokens.

    Parameters
    ----------
    hub
        Is asked about tokens.
    access_scopes
        A token needs one of these.
    profiles
        What everybody may use.
    teams
        Returns the teams of a person; without it they are the groups that the hub knows.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self,
        *,
        hub: HubClient,
        access_scopes: frozenset[str],
        profiles: Profiles,
        teams: Callable[[str], Awaitable[list[str]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._access_scopes = access_scopes
        self._profiles = profiles
        self._teams = teams
        self._clock = clock
        # By hash: a dump of the memory shows no token that was not just used.
        self._known: OrderedDict[str, tuple[float, Person, bool]] = OrderedDict()

    async def person(self, token: str) -> Person:
        """Return who holds `token`.

        Raises
        ------
        NotSignedInError
            If nobody does (any more).
        NotAllowedError
            If the token does not open this platform, or belongs to a program.
        UnavailableError
            If the hub does not answer.
        """
        return (await self._holder(token))[0]

    async def is_session(self, token: str) -> bool:
        """Tell whether `token` is that of a session, which whoever works in it can read: guests, and any library.

        Raises
        ------
        NotSignedInError
            If nobody holds it (any more).
        NotAllowedError
            If it does not open this platform, or belongs to a program.
        UnavailableError
            If the hub does not answer.
        """
        return (await self._holder(token))[1]

    async def _holder(self, token: str) -> tuple[Person, bool]:
        """Return who holds `token`, and whether as a session of theirs."""
        key = _key(token)
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            self._known.move_to_end(key)
            return known[1], known[2]
        self._known.pop(key, None)
        user = await self._hub.user_of(token)
        if user.kind != "user":
            raise NotAllowedError(f"{user.name} is a program of the platform: use the token of a person.")
        if not self._access_scopes & set(user.scopes):
            raise NotAllowedError(
                "This token does not open this platform: make one with the scope it asks for."
            )
        teams = sorted(user.groups if self._teams is None else await self._teams(user.name))
        profile = self._profiles.of(user.name, teams)
        session = _is_session(user.name, user.scopes)
        # Nobody becomes an administrator by being let into an administrator's session.
        admin = user.admin and not session
        person = Person(name=user.name, admin=admin, teams=teams, profile=profile)
        self._known[key] = (self._clock() + _REMEMBERED_S, person, session)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return person, session

    async def sign_in(self, *, code: str, verifier: str, redirect_uri: str) -> str:
        """Return the token of the person whom the hub sent back with `code`.

        Raises
        ------
        NotSignedInError
            If the hub does not accept the code, or its token opens nothing.
        """
        token = await self._hub.exchange(code=code, verifier=verifier, redirect_uri=redirect_uri)
        await self.person(token)
        return token

    def forget_person(self, name: str) -> None:
        """Ask the hub anew the next time that a token of `name` comes."""
        for key in [key for key, (_, person, _) in self._known.items() if person.name == name]:
            del self._known[key]

    def forget(self, token: str) -> None:
        """Ask the hub anew the next time `token` comes."""
        self._known.pop(_key(token), None)


def _is_session(name: str, scopes: list[str]) -> bool:
    """Tell whether `scopes` are those of a session: it opens itself alone, a person opens all of theirs."""
    if {"access:servers", f"access:servers!user={name}"} & set(scopes):
        return False
    return any(scope.startswith("access:servers!server=") for scope in scopes)


def _key(token: str) -> str:
    if not token:
        raise NotSignedInError("Nobody is signed in: sign in first.")
    return hashlib.sha256(token.encode()).hexdigest()
