"""The Docker engine, as the hub's side uses it."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import TYPE_CHECKING, Any

from cupola.exceptions import UnavailableError
from cupola.models.containers import JOB_LABEL, PLATFORM_LABEL, SESSION_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

__all__ = ["Found", "answering", "containers_of", "engine_client", "reason_of", "sessions_of"]

SECONDS = 60
"""How long the engine may take for one answer; stopping a container takes longer only by what it is given."""


@functools.cache
def engine_client(host: str) -> docker.DockerClient:
    """Return a client of the engine at `host`; the one client of this process, safe to use from several threads.

    Raises
    ------
    UnavailableError
        Nothing answers there, or this account may not use it.
    """
    import docker
    import docker.errors

    try:
        # First without the library, which leaves a socket open where nobody answers.
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(SECONDS)
            knock.connect(host.removeprefix("unix://"))
        return docker.DockerClient(base_url=host, version="auto", timeout=SECONDS, max_pool_size=32)
    except (docker.errors.DockerException, OSError) as exc:
        raise UnavailableError(
            f"no Docker engine answers at {host} ({reason_of(exc)}); start it (`systemctl start docker`), or name "
            "another as docker.host in cupola.yaml"
        ) from exc


@contextlib.contextmanager
def answering(what: str) -> Iterator[None]:
    """Turn an engine's refusal into one sentence that begins with `what`.

    Raises
    ------
    UnavailableError
        The engine refused or did not answer.
    """
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as exc:
        raise UnavailableError(f"{what}: {reason_of(exc)}; look at the log of the Docker engine") from exc


def reason_of(error: Exception) -> str:
    """Return what an engine's error says, without the noise around it."""
    explanation = getattr(error, "explanation", None)
    text = str(explanation or error).strip().splitlines() or [type(error).__name__]
    for told in ("Permission denied", "No such file or directory", "Connection refused"):
        if told in str(error) and explanation is None:
            return told.lower()
    return text[0].rstrip(".")


class Found:
    """A container of a session that is there, running or not.

    Parameters
    ----------
    identity
        Its id.
    session
        The session's id.
    job
        Whether it is one of a job; `session` is the job's id then.
    """

    def __init__(self, identity: str, session: str, *, job: bool = False) -> None:
        self.identity = identity
        self.session = session
        self.job = job


def containers_of(host: str, key: str) -> list[Found]:
    """Return the containers of a platform, of sessions and of jobs, found by their labels alone.

    Parameters
    ----------
    host
        Where the engine listens.
    key
        The platform's.

    Raises
    ------
    UnavailableError
        The engine does not answer.
    """
    found = []
    for row in _rows(host, f"{PLATFORM_LABEL}={key}"):
        labels = row["Labels"]
        if JOB_LABEL in labels:
            found.append(Found(row["Id"], labels[JOB_LABEL], job=True))
        elif SESSION_LABEL in labels:
            found.append(Found(row["Id"], labels[SESSION_LABEL]))
    return found


def sessions_of(host: str, key: str, session: str) -> list[Found]:
    """Return the containers of one session: mostly one, none after its end.

    Raises
    ------
    UnavailableError
        The engine does not answer.
    """
    rows = _rows(host, f"{PLATFORM_LABEL}={key}", f"{SESSION_LABEL}={session}")
    return [Found(row["Id"], session) for row in rows if JOB_LABEL not in row["Labels"]]


def _rows(host: str, *labels: str) -> list[dict[str, Any]]:
    client = engine_client(host)
    with answering("the containers cannot be listed"):
        rows: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": list(labels)})
    return rows
