"""The hub's groups: each team is one, so that what the hub shares with a group reaches the team."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cupola.platform.storage.hub.client import HubClient

__all__ = ["HubGroup", "HubGroups"]

_MARK = {"cupola": "team"}
"""The properties of a group that is a team of ours: other groups of the hub are left alone."""


class HubGroup(BaseModel):
    """A group of the hub."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    users: list[str] = []
    roles: list[str] = []
    properties: dict[str, Any] = {}

    @property
    def marked(self) -> bool:
        """Whether it was made for a team."""
        return self.properties.get("cupola") == _MARK["cupola"]

    @property
    def ours(self) -> bool:
        """Whether it is a team's, or can become one: it is empty and gives no rights."""
        return self.marked or not (self.users or self.roles or self.properties)


class HubGroups:
    """The groups, as the portal sees them.

    Parameters
    ----------
    hub
        The way to the hub.
    """

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def all(self) -> dict[str, HubGroup]:
        """Return all groups by name.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        entries = await self._hub.listing("/groups") or []
        return {entry["name"]: HubGroup.model_validate(entry) for entry in entries}

    async def get(self, name: str) -> HubGroup | None:
        """Return one group, or nothing."""
        answer = await self._hub.ask("GET", _path(name), missing=HTTPStatus.NOT_FOUND)
        return None if answer is None else HubGroup.model_validate(answer)

    async def make(self, name: str) -> None:
        """Make the group of a team; one that is there already becomes the team's."""
        await self._hub.ask("POST", _path(name), json={}, missing=HTTPStatus.CONFLICT)
        await self._hub.ask("PUT", f"{_path(name)}/properties", json=_MARK)

    async def add(self, name: str, people: Collection[str]) -> None:
        """Add people; one whom the hub does not know is left out."""
        for person in people:
            # One by one: the hub takes all or none.
            users = {"users": [person]}
            await self._hub.ask("POST", f"{_path(name)}/users", json=users, missing=HTTPStatus.BAD_REQUEST)

    async def take_out(self, name: str, people: Collection[str]) -> None:
        """Remove people; one whom the hub does not know is not in it."""
        for person in people:
            users = {"users": [person]}
            await self._hub.ask("DELETE", f"{_path(name)}/users", json=users, missing=HTTPStatus.BAD_REQUEST)

    async def delete(self, name: str) -> None:
        """Delete a group with all that is shared with it; one that is gone is no error."""
        await self._hub.ask("DELETE", _path(name), missing=HTTPStatus.NOT_FOUND)

    async def person(self, name: str) -> str | None:
        """Return the name of a person as the hub writes it, or nothing if it knows nobody of this name."""
        answer = await self._hub.ask("GET", f"/users/{quote(name, safe='')}", missing=HTTPStatus.NOT_FOUND)
        if answer is None:
            return None
        found = answer.get("name")
        if not isinstance(found, str):
            raise UnavailableError("The hub sent a person without a name: see log/hub.log.")
        return found


def _path(name: str) -> str:
    return f"/groups/{quote(name, safe='')}"
