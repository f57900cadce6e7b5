"""The Docker engine as the images of datalabs need it: which there are, names, pulls, and runs inside them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import requests

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LABEL_DATALAB", "LABEL_RECIPE", "TIMED_OUT", "Engine", "Image"]

LABEL_DATALAB = "cupola.datalab"
LABEL_RECIPE = "cupola.recipe"
FRESH_S = 3.0
"""So long what the engine said last is taken for true."""
QUICK_S = 20
SLOW_S = 120
PULL_S = 3600
TIMED_OUT = 124
"""The exit code of what was ended because it took too long, as that of ``timeout``."""


@dataclass(frozen=True)
class Image:
    """An image that the engine has."""

    id: str
    tags: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    created: float = 0.0
    """In seconds since 1970."""
    size_bytes: int = 0


class Engine:
    """One Docker engine.

    Parameters
    ----------
    host
        Where it listens: ``unix:///var/run/docker.sock``.
    clock
        Tells the seconds, for the age of what is remembered.
    """

    def __init__(self, host: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: tuple[float, list[Image] | UnavailableError] | None = None

    def images(self, *, fresh: bool = False) -> list[Image]:
        """Return the images it has, newest first; asked again after a few seconds only, unless `fresh`.

        Raises
        ------
        UnavailableError
            If it does not answer.
        """
        # One asks, the others wait for the answer: pages ask many times at once.
        with self._lock:
            if fresh or self._remembered is None or self._clock() - self._remembered[0] > FRESH_S:
                self._remembered = self._clock(), self._ask()
            said = self._remembered[1]
        if isinstance(said, UnavailableError):
            raise said
        return said

    def _ask(self) -> list[Image] | UnavailableError:
        try:
            with self._client() as client:
                found = client.api.images(all=False)
        except UnavailableError as exc:
            return exc
        images = [
            Image(
                id=entry["Id"],
                tags=tuple(tag for tag in entry.get("RepoTags") or () if tag != "<none>:<none>"),
                labels=entry.get("Labels") or {},
                created=float(entry.get("Created", 0)),
                size_bytes=int(entry.get("Size", 0)),
            )
            for entry in found
        ]
        return sorted(images, key=lambda image: image.created, reverse=True)

    def image(self, name: str) -> Image | None:
        """Return the image with a tag or an id, if the engine has it.

        Raises
        ------
        UnavailableError
            If the engine does not answer.
        """
        wanted = name if ":" in name else f"{name}:latest"
        return next((image for image in self.images(fresh=True) if wanted in {image.id, *image.tags}), None)

    def tag(self, image: str, name: str) -> None:
        """Give an image a name, which is taken from the image that had it.

        Raises
        ------
        UnavailableError
            If the engine does not do it.
        """
        repository, _, tag = name.rpartition(":")
        with self._client() as client:
            client.api.tag(image, repository, tag)
        self.forget()

    def remove(self, name: str) -> None:
        """Remove a name or an image; one that is not there is no error.

        Raises
        ------
        UnavailableError
            If the engine does not do it: a container uses it, for instance.
        """
        with self._client(seconds=SLOW_S) as client, contextlib.suppress(docker.errors.ImageNotFound):
            client.api.remove_image(name)
        self.forget()

    def pull(self, name: str, watch: Callable[[float], None] | None = None) -> None:
        """Fetch an image from its registry.

        Parameters
        ----------
        name
            Of the image, with its registry and a tag.
        watch
            Is called with the part that is done, 0 to 1: each layer counts the same.

        Raises
        ------
        UnavailableError
            If it cannot be had; the text is the registry's reason.
        """
        with self._client(seconds=PULL_S) as client:
            repository, _, tag = name.rpartition(":")
            layers: dict[str, float] = {}
            for said in client.api.pull(repository, tag, stream=True, decode=True):
                if "error" in said:
                    # What goes wrong on the way comes with status 200.
                    raise UnavailableError(
                        f"The Docker engine at {self.host} cannot pull {name}: {_one_line(said['error'])}."
                    )
                if (part := _part_of(said)) is not None:
                    layers[said.get("id", "")] = part
                    if watch is not None:
                        watch(sum(layers.values()) / len(layers))
        self.forget()

    def run(self, seconds: float, **options: Any) -> tuple[int, bytes, bytes]:
        """Run a container to its end, remove it, and return its exit code, its output and its errors.

        Parameters
        ----------
        seconds
            How long it may take; then it is killed and the exit code is :data:`TIMED_OUT`.
        options
            As ``docker.DockerClient.containers.create`` takes them.

        Raises
        ------
        UnavailableError
            If the engine does not do it.
        """
        with self._client(seconds=SLOW_S) as client:
            container = client.containers.create(**options)
            try:
                container.start()
                try:
                    code = int(container.wait(timeout=seconds)["StatusCode"])
                except (
                    requests.ConnectionError,
                    requests.Timeout,
                ):  # so its library tells that the time is over
                    container.kill()
                    code = TIMED_OUT
                return code, container.logs(stderr=False), container.logs(stdout=False)
            finally:
                container.remove(force=True, v=True)

    def sweep(self, label: str) -> None:
        """Remove the containers with a label: what a killed build has left running.

        Raises
        ------
        UnavailableError
            If the engine does not do it.
        """
        with self._client(seconds=SLOW_S) as client:
            for entry in client.api.containers(all=True, filters={"label": label}):
                client.api.remove_container(entry["Id"], force=True, v=True)

    def forget(self) -> None:
        """Ask anew at the next question."""
        with self._lock:
            self._remembered = None

    @contextlib.contextmanager
    def _client(self, *, seconds: float = QUICK_S) -> Iterator[docker.DockerClient]:
        """Open a connection; whatever the engine refuses becomes one sentence."""
        client = None
        try:
            # The library leaves a socket open where nobody listens.
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
                probe.settimeout(seconds)
                probe.connect(self.host.removeprefix("unix://"))
            client = docker.DockerClient(base_url=self.host, timeout=seconds, version="auto")
            yield client
        except docker.errors.APIError as exc:
            raise UnavailableError(
                f"The Docker engine at {self.host} refuses: {_one_line(exc.explanation or exc)}"
            ) from exc
        except (docker.errors.DockerException, requests.RequestException, OSError) as exc:
            raise UnavailableError(
                f"The Docker engine at {self.host} does not answer ({_one_line(exc)}): start it, or name another "
                "one as docker.host in cupola.yaml."
            ) from exc
        finally:
            if client is not None:
                client.close()


_STEPS = {"Pulling fs layer": 0.0, "Waiting": 0.0, "Pull complete": 1.0, "Already exists": 1.0}
_DOWNLOADED = 0.8
"""Of a layer's work, downloading it is so much, and unpacking it the rest."""


def _part_of(said: dict[str, Any]) -> float | None:
    """Return how much of a layer is done after a line of a pull; nothing if the line is about no layer."""
    status = said.get("status", "")
    detail = said.get("progressDetail") or {}
    part = detail.get("current", 0) / detail["total"] if detail.get("total") else 0.0
    if status == "Downloading":
        return _DOWNLOADED * part
    if status in {"Verifying Checksum", "Download complete"}:
        return _DOWNLOADED
    if status == "Extracting":
        return _DOWNLOADED + (1 - _DOWNLOADED) * part
    return _STEPS.get(status)


def _one_line(said: object) -> str:
    text = str(said)
    for known in ("Permission denied", "No such file or directory", "Connection refused"):
        if known in text:
            return known.lower()
    return " ".join(text.split()).rstrip(".")[:300]
