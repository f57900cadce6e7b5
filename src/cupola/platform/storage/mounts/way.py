"""Keeps the guard running through which the buckets of people are read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError
from cupola.platform.storage.mounts.guard import ALLOW, SECRET
from cupola.platform.storage.mounts.processes import Programs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GuardedWay"]

_NAME = "guard"
_READY_S = 15.0
_LOOK_S = 0.05


@dataclass(frozen=True)
class _Door:
    """Where the guard listens, and what it wants to be shown."""

    port: int
    secret: str


class GuardedWay:
    """The proxy of one platform. Its methods take their time: call them in a thread.

    Parameters
    ----------
    records
        Folder of the records of programs.
    door
        The file that keeps port and secret, so that a new guard is found where the old one was.
    log
        Folder of logs.
    allow
        Hosts and networks that the operator allows.
    """

    def __init__(self, *, records: Path, door: Path, log: Path, allow: tuple[str, ...]) -> None:
        # A folder of its own: the others are named after volumes.
        self._records = records / ".way"
        self._file = door
        self._log = log
        self._allow = ",".join(allow)
        self._programs = Programs(self._records)
        self._door: _Door | None = None
        self._opening = threading.Lock()

    @property
    def url(self) -> str:
        """What rclone is told; it stays the same as long as the port is free."""
        door = self._known_door()
        return f"http://volume:{door.secret}@127.0.0.1:{door.port}"

    def open(self) -> None:
        """See to it that the guard runs, with what the configuration allows.

        Raises
        ------
        UnavailableError
            If it does not start.
        """
        with self._opening:
            self._open()

    def _open(self) -> None:
        for folder in (self._records, self._log):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = self._programs.find(_NAME)
        told = {"allow": self._allow, "port": self._known_door().port}
        if record is not None and record.told == told and record.process() is not None:
            return
        self._programs.end(_NAME)
        if _listens(self._known_door().port):
            # Somebody else has taken the port meanwhile.
            self._door = self._new_door()
            told["port"] = self._door.port
        door = self._known_door()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
        record = self._programs.start(
            _NAME,
            [sys.executable, "-P", "-m", "cupola.platform.storage.mounts.guard", str(door.port)],
            environment={**kept, ALLOW: self._allow, SECRET: door.secret},
            output=self._log / "guard.log",
            told=told,
        )
        until = time.monotonic() + _READY_S
        while not _listens(door.port):
            if record.process() is None or time.monotonic() > until:
                raise UnavailableError(
                    "The guard of people's buckets does not start: log/mounts/guard.log says why."
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """End the guard."""
        self._programs.end(_NAME)

    def _known_door(self) -> _Door:
        if self._door is None:
            try:
                found = json.loads(self._file.read_bytes())
                self._door = _Door(int(found["port"]), str(found["secret"]))
            except (OSError, ValueError, KeyError, TypeError):
                self._door = self._new_door()
        return self._door

    def _new_door(self) -> _Door:
        door = _Door(_free_port(), secrets.token_urlsafe(24))
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self._file.with_name(f".{self._file.name}.{secrets.token_hex(6)}")
        with contextlib.suppress(OSError):  # on a full disk it holds until the portal ends
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(door)))
            aside.replace(self._file)
        return door


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
