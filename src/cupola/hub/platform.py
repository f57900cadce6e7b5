"""Who runs a state folder: at most one living ``cupola up``."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, StartError
from cupola.hub.files import make_private, read_json, write_private
from cupola.hub.processes import KnownProcess
from cupola.models.base import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.config import Config, StatePaths

__all__ = ["Living", "hold", "note"]


@dataclass(frozen=True)
class Living:
    """The living ``cupola up`` of a state folder."""

    process: KnownProcess
    address: str
    started: datetime
    ready: bool
    """Whether it has finished starting."""

    @classmethod
    def find(cls, paths: StatePaths) -> Living | None:
        """Return it; nothing where none lives."""
        found = read_json(paths.platform)
        try:
            process = KnownProcess(int(found["pid"]), float(found["created"]))
            started = datetime.fromisoformat(found["started"])
            address = str(found["address"])
        except (KeyError, TypeError, ValueError):
            return None
        ready = found.get("ready") is True
        return cls(process, address, started, ready) if process.alive else None


@contextlib.contextmanager
def hold(config: Config) -> Iterator[None]:
    """Be the one ``cupola up`` of a state folder.

    Raises
    ------
    ConflictError
        Another one lives.
    StartError
        The folder cannot be written.
    """
    paths = config.paths
    try:
        make_private(paths.lock.parent)
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StartError(
            f"the state folder {paths.state} cannot be written ({exc.strerror}); "
            "choose another with `cupola up --state FOLDER`"
        ) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(_runs_already(paths)) from None
        try:
            note(config, ready=False)
        except OSError as exc:
            raise StartError(f"{paths.platform} cannot be written: {exc.strerror or exc}") from exc
        try:
            yield
        finally:
            paths.platform.unlink(missing_ok=True)
    finally:
        os.close(lock)


def note(config: Config, *, ready: bool) -> None:
    """Write down that this process is the living ``cupola up``."""
    me = KnownProcess.of(os.getpid())
    earlier = Living.find(config.paths)
    started = earlier.started if earlier and earlier.process == me else now()
    content = {
        "pid": os.getpid(),
        "created": me.created if me else 0,
        "address": config.address,
        "started": started.isoformat(),
        "ready": ready,
    }
    write_private(config.paths.platform, json.dumps(content))


def _runs_already(paths: StatePaths) -> str:
    living = Living.find(paths)
    who = f" at {living.address} (process {living.process.pid})" if living else ""
    return (
        f"Cupola already runs in {paths.state}{who}; get a sign-in link with `cupola status --link`, "
        "or stop it with `cupola down`."
    )
