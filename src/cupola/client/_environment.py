"""The client that a session or a script finds in its environment."""

from __future__ import annotations

import os

from cupola.client._sync import Client
from cupola.exceptions import NotSignedInError

__all__ = ["from_environment"]

URL, TOKENS = "CUPOLA_API_URL", ("CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN")


def from_environment() -> Client:
    """Return a client for the platform that this session belongs to.

    ``CUPOLA_API_URL`` names the portal; the token is ``CUPOLA_TOKEN``, or the session's own.

    Raises
    ------
    NotSignedInError
        One of them is missing: this is no session of a platform.
    """
    url = os.environ.get(URL)
    token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), None)
    if not url or not token:
        raise NotSignedInError(
            "this is no session of a Cupola platform: open a notebook from its catalogue, or set "
            f"{URL} (ends in /services/cupola/api) and {TOKENS[0]} (a token of yours)"
        )
    return Client(url, token)
