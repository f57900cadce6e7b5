"""The image of a session's version, by the name under which the nodes of a pool get it."""

from __future__ import annotations

import docker
import docker.errors
import requests

from cupola.exceptions import UnavailableError

__all__ = ["NodeImages"]

SECONDS = 30


class NodeImages:
    """Asks the platform's own engine in which registry an image is.

    Parameters
    ----------
    host
        Where that engine listens.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: dict[str, str] = {}

    def reference(self, image: str) -> str:
        """Return ``REGISTRY/NAME@sha256:...`` of an image; the image itself where no registry has it.

        A name with a digest cannot be moved to another image. One in no registry is found by nodes only that have the image
        already, such as this machine.

        Raises
        ------
        UnavailableError
            The engine does not answer, or does not have the image any more.
        """
        if image not in self._known:
            try:
                client = docker.DockerClient(base_url=self._host, timeout=SECONDS, version="auto")
                try:
                    digests = client.images.get(image).attrs.get("RepoDigests") or []
                finally:
                    client.close()
            except (docker.errors.DockerException, requests.RequestException) as error:
                reason = " ".join(str(getattr(error, "explanation", None) or error).split())[:300].rstrip(".")
                raise UnavailableError(
                    f"The Docker engine does not say where nodes get the image of the session ({reason}): try again in a minute."
                ) from error
            self._known[image] = next(iter(digests), image)
        return self._known[image]
