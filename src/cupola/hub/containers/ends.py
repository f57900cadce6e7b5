"""How starts of containers fail, and how their remains are put away."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from cupola.exceptions import StartError
from cupola.hub.containers.engine import answering, reason_of
from cupola.hub.drivers.base import NotStartedError
from cupola.models.session import EndCause, SessionEnd

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from cupola.models.session import ContainerPlan

__all__ = ["last_lines", "oom_heard", "remove_container", "why_not_started", "write_log"]

SHOWN_LINES = 20
KEPT_LINES = 2000
FULL = ("no space left on device", "disk quota exceeded")
GONE = (404, 409)
"""The container is not there (any more), or somebody else is just removing it."""


def why_not_started(error: Exception, plan: ContainerPlan) -> NotStartedError:
    """Return an engine's refusal as a sentence for the person who waits for the session."""
    import docker.errors

    if isinstance(error, NotStartedError):
        return error
    said = reason_of(error)
    end = SessionEnd(cause=EndCause.REFUSED, memory_limit_mib=plan.resources.memory_mib)
    if isinstance(error, docker.errors.ImageNotFound) or "No such image" in said:
        return NotStartedError(
            "the image of this version is not on this machine any more; choose another version, or ask the operator to "
            "run `cupola build`",
            end.model_copy(update={"cause": EndCause.NO_IMAGE}),
        )
    if any(words in str(error).lower() for words in FULL):
        return NotStartedError(
            "the session cannot be started because a disk or a quota is full; free some space, or ask the operator",
            end.model_copy(update={"cause": EndCause.QUOTA}),
        )
    if "bind source path does not exist" in said:
        place = said.rpartition(": ")[2]
        said = f"the folder {place} is not there; take its volume out, or ask the operator"
    elif "could not select device driver" in said:
        said = "this machine's engine knows no GPUs; launch it without, or ask the operator"
    else:
        said = f"the engine says: {said}; try again, or ask the operator"
    return NotStartedError(f"the session cannot be started: {said}", end)


def last_lines(client: docker.DockerClient, identity: str | None, lines: int = SHOWN_LINES) -> list[str]:
    """Return the last lines that a container printed; none where it is gone."""
    if identity is None:
        return []
    try:
        with answering("the output cannot be read"):
            text = client.api.logs(identity, tail=lines, stdout=True, stderr=True)
    except StartError:
        return []
    except Exception:  # noqa: BLE001 - it only makes a message longer
        return []
    return [line for line in text.decode(errors="replace").splitlines() if line.strip()]


def oom_heard(client: docker.DockerClient, identity: str | None, now: int, seconds: int = 600) -> bool:
    """Return whether the engine noted, in the last `seconds`, that a container's memory was used up."""
    filters = json.dumps({"event": ["oom"], "container": [identity]})
    # Asked in one piece: the library's stream of events would leave its connection open.
    answer = client.api.get(
        f"{client.api.base_url}/events",
        params={"since": now - seconds, "until": now, "filters": filters},
        timeout=10,
    )
    return bool(answer.ok and answer.text.strip())


def remove_container(
    client: docker.DockerClient, identity: str, *, seconds: int, log: Path | None = None
) -> None:
    """End a container and remove it; none being there is fine.

    Parameters
    ----------
    client
        The engine.
    identity
        Its id.
    seconds
        How long its programs may take to end by themselves.
    log
        The file that gets its last output.

    Raises
    ------
    UnavailableError
        The engine does not answer.
    """
    import docker.errors

    try:
        if seconds:
            with answering("the session cannot be stopped"):
                _unless_gone(lambda: client.api.stop(identity, timeout=seconds))
        if log is not None:
            write_log(log, last_lines(client, identity, KEPT_LINES))
    finally:
        with (
            answering("the session's container cannot be removed"),
            contextlib.suppress(docker.errors.NotFound),
        ):
            _unless_gone(lambda: client.api.remove_container(identity, force=True, v=True))


def _unless_gone(work: object) -> None:
    import docker.errors

    try:
        work()  # type: ignore[operator]
    except docker.errors.APIError as exc:
        if exc.status_code not in GONE:
            raise


def write_log(file: Path, lines: list[str]) -> None:
    """Keep the last output of a container that is removed; a full disk is no reason to keep the container."""
    if not lines:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
