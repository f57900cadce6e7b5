"""What the containers of running sessions print. Making and ending them is the hub's."""

from __future__ import annotations

import contextlib

import docker
import docker.errors
import requests

from cupola.exceptions import UnavailableError
from cupola.models.containers import container_name

__all__ = ["SessionContainers"]

_SECONDS = 10
_LINES = 1000


class SessionContainers:
    """Looks into the containers of one platform's sessions.

    Parameters
    ----------
    host
        Where the engine listens.
    key
        The platform's.
    """

    def __init__(self, *, host: str, key: str) -> None:
        self._host = host
        self._key = key

    def log(self, session: str) -> str:
        """Return the end of what a running session has printed; empty where it does not run.

        Raises
        ------
        UnavailableError
            If the engine does not answer.
        """
        try:
            with contextlib.closing(
                docker.DockerClient(base_url=self._host, version="auto", timeout=_SECONDS)
            ) as client:
                said: bytes = client.api.logs(container_name(self._key, session), tail=_LINES)
        except docker.errors.NotFound:
            return ""
        except (docker.errors.DockerException, requests.RequestException) as exc:
            reason = " ".join(str(getattr(exc, "explanation", None) or exc).split())[:300].rstrip(".")
            raise UnavailableError(
                f"The Docker engine at {self._host} does not answer ({reason}): start it, then look again."
            ) from exc
        return said.decode(errors="replace")
