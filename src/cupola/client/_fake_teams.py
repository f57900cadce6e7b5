"""The teams and shares of the portal in memory."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.base import Model, now
from cupola.models.share import NewShare, Share
from cupola.models.team import Member, NewTeam, Role, Team, TeamText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.models.session import Session

__all__ = ["FakeTeams"]


class FakeTeams:
    """Teams and shares of one person.

    Parameters
    ----------
    person
        Who makes them.
    """

    def __init__(self, person: str) -> None:
        self.person = person
        self.teams: dict[str, Team] = {}
        self.shares: dict[str, Share] = {}
        self.shared: list[Session] = []
        """What others share with this person."""
        self._numbers = itertools.count(1)

    def routes(self) -> dict[tuple[str, str], Callable[..., httpx.Response]]:
        """Return what answers at which address."""
        one = "([^/]+)"
        return {
            ("GET", "/api/teams"): lambda _: _page(list(self.teams.values())),
            ("POST", "/api/teams"): self._make,
            ("GET", f"/api/teams/{one}"): lambda _, name: _json(self._team(name)),
            ("PATCH", f"/api/teams/{one}"): self._describe,
            ("DELETE", f"/api/teams/{one}"): self._delete,
            ("GET", "/api/shared"): lambda _: _page(self.shared),
            ("GET", f"/api/sessions/{one}/shares"): lambda _, session: _page(
                [share for share in self.shares.values() if share.session == session]
            ),
            ("POST", f"/api/sessions/{one}/shares"): self._share,
            ("DELETE", f"/api/sessions/{one}/shares/{one}"): self._end,
        }

    def _team(self, name: str) -> Team:
        if name not in self.teams:
            raise NotFoundError(f"there is no team {name!r}")
        return self.teams[name]

    def _make(self, request: httpx.Request) -> httpx.Response:
        new = NewTeam.model_validate_json(request.content)
        if new.name in self.teams:
            raise ConflictError(f"the name {new.name} is taken")
        moment = now()
        owner = Member(person=self.person, role=Role.OWNER, since=moment)
        self.teams[new.name] = Team(**new.model_dump(), created=moment, members=[owner])
        return _json(self.teams[new.name], 201)

    def _describe(self, request: httpx.Request, name: str) -> httpx.Response:
        text = TeamText.model_validate_json(request.content)
        self.teams[name] = self._team(name).model_copy(update=text.model_dump())
        return _json(self.teams[name])

    def _delete(self, _: httpx.Request, name: str) -> httpx.Response:
        self._team(name)
        del self.teams[name]
        return httpx.Response(204)

    def _share(self, request: httpx.Request, session: str) -> httpx.Response:
        new, moment = NewShare.model_validate_json(request.content), now()
        share = Share(
            id=f"share-{next(self._numbers)}",
            session=session,
            owner=self.person,
            person=new.person,
            team=new.team,
            access=new.access,
            created=moment,
            expires=moment + timedelta(hours=new.hours),
        )
        self.shares[share.id] = share
        return _json(share, 201)

    def _end(self, _: httpx.Request, session: str, share: str) -> httpx.Response:
        if share not in self.shares or self.shares[share].session != session:
            raise NotFoundError(f"there is no share {share!r}")
        del self.shares[share]
        return httpx.Response(204)


def _json(content: Model, status: int = 200) -> httpx.Response:
    return httpx.Response(
        status, content=content.model_dump_json(), headers={"Content-Type": "application/json"}
    )


def _page(content: Iterable[Model]) -> httpx.Response:
    items = [thing.model_dump(mode="json") for thing in content]
    return httpx.Response(200, json={"items": items, "next": None})
