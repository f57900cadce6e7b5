"""The hub's shares: who else than its owner may open a server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from cupola.models.base import Model

if TYPE_CHECKING:
    from cupola.platform.storage.hub.client import HubClient

__all__ = ["Grantee", "HubShares"]


class Grantee(Model):
    """Whom a server is shared with: one of the two."""

    person: str | None = None
    team: str | None = None


class _Name(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str


class _HubShare(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    user: _Name | None = None
    group: _Name | None = None


class HubShares:
    """The shares, as the portal sees them. It grants for the owner of a session, who asked it to.

    Parameters
    ----------
    hub
        The way to the hub.
    """

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def of(self, owner: str, server: str) -> set[Grantee] | None:
        """Return whom a server is shared with; nothing if the hub knows no such server.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        entries = await self._hub.listing(_path(owner, server), missing=HTTPStatus.NOT_FOUND)
        if entries is None:
            return None
        found = [_HubShare.model_validate(entry) for entry in entries]
        return {
            Grantee(person=share.user and share.user.name, team=share.group and share.group.name)
            for share in found
        }

    async def grant(self, owner: str, server: str, grantee: Grantee) -> None:
        """Let somebody open a server; that is all the hub lets them do.

        Raises
        ------
        RefusedError
            If the hub knows no such server, person or team.
        UnavailableError
            If the hub does not answer.
        """
        scope = f"access:servers!server={owner}/{server}"
        await self._hub.ask("POST", _path(owner, server), json={"scopes": [scope], **_who(grantee)})

    async def revoke(self, owner: str, server: str, grantee: Grantee) -> None:
        """Let somebody open a server no more; where it was not shared, nothing happens."""
        await self._hub.ask("PATCH", _path(owner, server), json=_who(grantee), missing=HTTPStatus.NOT_FOUND)


def _who(grantee: Grantee) -> dict[str, str]:
    return {"user": grantee.person} if grantee.person else {"group": grantee.team or ""}


def _path(owner: str, server: str) -> str:
    return f"/shares/{quote(owner, safe='')}/{quote(server, safe='')}"
