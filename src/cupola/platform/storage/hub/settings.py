"""What the hub tells a service that it starts, from the environment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HubSettings"]


@dataclass(frozen=True)
class HubSettings:
    """How the portal reaches the hub, and where the hub put the portal."""

    api_url: str
    """The hub's REST root, without a slash at the end."""
    api_token: str = field(repr=False)
    """The portal's own token."""
    internal_token: str = field(repr=False)
    """What hub and portal know and nobody else."""
    client_id: str
    """The portal's name as an OAuth client; also the name of its cookie."""
    prefix: str
    """Where the portal lies on the platform's address; begins and ends with a slash."""
    base_url: str
    """Where everything lies on the platform's address; begins and ends with a slash."""
    service_url: str
    """Where the portal listens, without a slash at the end: sessions of this host reach it there."""
    access_scopes: frozenset[str]
    """A token needs one of these to get in."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> HubSettings:
        """Read the settings.

        Raises
        ------
        StartError
            If a variable is missing: the portal was not started by the hub.
        """

        def value(name: str) -> str:
            text = environment.get(name, "")
            if not text:
                raise StartError(
                    f"The portal is started by the hub, and {name} is not set: start everything with `cupola up`."
                )
            return text

        return cls(
            api_url=value("JUPYTERHUB_API_URL").rstrip("/"),
            api_token=value("JUPYTERHUB_API_TOKEN"),
            internal_token=value("CUPOLA_INTERNAL_TOKEN"),
            client_id=value("JUPYTERHUB_CLIENT_ID"),
            prefix=value("JUPYTERHUB_SERVICE_PREFIX"),
            base_url=environment.get("JUPYTERHUB_BASE_URL") or "/",
            service_url=value("JUPYTERHUB_SERVICE_URL").rstrip("/"),
            access_scopes=_scopes(value("JUPYTERHUB_OAUTH_ACCESS_SCOPES")),
        )


def _scopes(text: str) -> frozenset[str]:
    try:
        scopes = json.loads(text)
    except ValueError as error:
        raise StartError(
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES is no JSON: start everything with `cupola up`."
        ) from error
    # An empty set would let nobody in, and a change of its meaning everybody: say so at the start.
    if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise StartError("JUPYTERHUB_OAUTH_ACCESS_SCOPES names no scope: start everything with `cupola up`.")
    return frozenset(scopes)
