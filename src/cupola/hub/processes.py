"""Processes that outlive the one that started them: known by pid and creation time, ended without leaving a trace.

A pid alone says nothing after a crash: the system hands it out again. The creation time tells the two apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

from cupola.hub.files import read_json, write_private
from cupola.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["KnownProcess", "end", "output_lines", "output_tail", "read_record", "write_record"]

SAME_START = 0.02
"""In seconds. The clock tick in which the system keeps creation times is 0.01 s."""


@dataclass(frozen=True)
class KnownProcess:
    """A process that can be recognised later."""

    pid: int
    created: float
    """Creation time, in seconds since 1970."""

    @classmethod
    def of(cls, pid: int) -> KnownProcess | None:
        """Return the living process `pid`; nothing where it has ended."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process if it still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) > SAME_START:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.find() is not None


def write_record(path: Path, process: KnownProcess) -> None:
    """Note a process in a file."""
    write_private(path, json.dumps(asdict(process)))


def read_record(path: Path) -> KnownProcess | None:
    """Return the process noted in a file; nothing where the file is missing or damaged."""
    found = read_json(path)
    try:
        return KnownProcess(int(found["pid"]), float(found["created"]))
    except (KeyError, TypeError, ValueError):
        return None


def end(processes: Iterable[psutil.Process], *, seconds: float, first: int = signal.SIGTERM) -> int:
    """Ask processes to end, wait, then kill what is left.

    Parameters
    ----------
    processes
        What should end; this process itself is left out.
    seconds
        How long they have before they are killed.
    first
        The signal that asks.

    Returns
    -------
    :
        How many had to be killed.
    """
    wanted = [process for process in processes if process.pid != os.getpid()]
    for process in wanted:
        with contextlib.suppress(psutil.Error):
            process.send_signal(first)
    left = wait_for(wanted, seconds=seconds)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait_for(left, seconds=5)
    return len(left)


def output_lines(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log that say something."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-lines:]


def output_tail(path: Path, lines: int = 5) -> str:
    """Return the last lines of a log that say something, joined by `` | ``."""
    return " | ".join(output_lines(path, lines))
