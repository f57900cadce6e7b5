"""Programs that go on when the portal ends, known by pid and creation time."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from cupola.exceptions import UnavailableError
from cupola.processes import marked_with, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Programs", "Record"]

_SAME_START = 0.02
"""In seconds. The clock tick in which the system keeps creation times is 0.01 s."""
_MARK = "CUPOLA_MOUNT"
_START_S = 10.0
_DETACHED = 'umask 077; "$@" >>"$0" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True)
class Record:
    """What is known of a program that was started once."""

    pid: int
    created: float
    """Creation time, in seconds since 1970."""
    told: dict[str, Any] = field(default_factory=dict)
    """What whoever started it wants to know of it later."""

    def process(self) -> psutil.Process | None:
        """Return the program if it still runs."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) > _SAME_START:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


class Programs:
    """Starts programs and finds them again.

    Parameters
    ----------
    folder
        Where one file per program lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all that were started and not forgotten."""
        return sorted(file.stem for file in self._folder.glob("*.json"))

    def find(self, name: str) -> Record | None:
        """Return what is known of a program, whether or not it still runs."""
        try:
            found = json.loads((self._folder / f"{name}.json").read_bytes())
            return Record(int(found["pid"]), float(found["created"]), dict(found["told"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def start(
        self,
        name: str,
        command: list[str],
        *,
        environment: Mapping[str, str],
        output: Path,
        told: dict[str, Any],
    ) -> Record:
        """Start a program in a session of its own.

        Raises
        ------
        UnavailableError
            If it cannot be started, or there is no room for its record.
        """
        try:
            # The shell ends at once, so that the program is no child of ours: ending the portal with its children, as a
            # restart of the hub does, is not to end what sessions read from.
            done = subprocess.run(
                ["/bin/sh", "-c", _DETACHED, str(output), *command],
                env={**environment, _MARK: self._mark(name)},
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                start_new_session=True,
                timeout=_START_S,
            )
            pid = int(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.end(name)
            raise UnavailableError(f"{command[0]} could not be started ({error}).") from error
        try:
            record = Record(pid, psutil.Process(pid).create_time(), told)
            self._keep(name, record)
        except (OSError, psutil.NoSuchProcess) as error:
            self.end(name)
            raise UnavailableError(f"{command[0]} could not be noted ({error}).") from error
        return record

    def end(self, name: str, *, seconds: float = 3) -> None:
        """End a program, also one that was started and never noted, and forget it."""
        record = self.find(name)
        process = record.process() if record else None
        # We may have been killed before we noted it.
        found = [process] if process else marked_with(_MARK, self._mark(name))
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            for one in found:
                with contextlib.suppress(psutil.Error):
                    one.send_signal(signal_number)
            # A stopped program takes no other signal than the last one.
            found = wait_for(found, seconds=seconds)
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _mark(self, name: str) -> str:
        return str(self._folder / name)

    def _keep(self, name: str, record: Record) -> None:
        text = json.dumps({"pid": record.pid, "created": record.created, "told": record.told})
        aside = self._folder / f".{name}.{secrets.token_hex(6)}"
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            aside.replace(self._folder / f"{name}.json")
        finally:
            aside.unlink(missing_ok=True)
