"""What the processes of sessions use."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from cupola.models.resources import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["ProcessMeter"]

_MIB = 2**20
_SAME_START_S = 0.02
"""The system keeps creation times in ticks of 0.01 s."""


@dataclass(frozen=True)
class _Look:
    """The look before: busy time only says something between two of them."""

    time: float
    cpu: dict[tuple[int, float], float]
    """Seconds of processor time by process."""
    peak: int


class ProcessMeter:
    """Measures sessions by their process trees.

    Parameters
    ----------
    records
        The folder with a file per running session: pid and creation time.
    """

    def __init__(self, records: Path) -> None:
        self._records = records
        self._before: dict[str, _Look] = {}
        self._turn = threading.Lock()

    def machine(self) -> tuple[float, int]:
        """Return the cores and the memory in MiB that processes of this machine may use."""
        return float(len(os.sched_getaffinity(0))), psutil.virtual_memory().total // _MIB

    def usages(self, sessions: Sequence[str]) -> dict[str, Usage]:
        """Return what each of the running sessions uses; one whose process is gone is left out.

        The first look at a session cannot tell how busy it is: it says 0 cores.
        """
        with self._turn:
            found = {session: self._usage(session) for session in sessions}
            for gone in [name for name in self._before if not (self._records / f"{name}.json").exists()]:
                del self._before[gone]
        return {session: usage for session, usage in found.items() if usage is not None}

    def close(self) -> None:
        """Do nothing: looking at processes keeps nothing open."""

    def _usage(self, session: str) -> Usage | None:
        processes = list(self._tree(session))
        if not processes:
            return None
        cpu: dict[tuple[int, float], float] = {}
        memory = 0
        for process in processes:
            # Any of them may end while we look.
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                memory += _own_memory(process)
                cpu[process.pid, process.create_time()] = times.user + times.system
        at = time.monotonic()
        before = self._before.get(session)
        used = sum(seconds - before.cpu.get(key, 0.0) for key, seconds in cpu.items()) if before else 0.0
        length = at - before.time if before else 0.0
        peak = max(memory, before.peak if before else 0)
        self._before[session] = _Look(at, cpu, peak)
        return Usage(
            cores=round(max(0.0, used / length), 2) if length > 0 else 0.0,
            memory_mib=memory // _MIB,
            peak_memory_mib=peak // _MIB,
            processes=len(cpu),
        )

    def _tree(self, session: str) -> Iterator[psutil.Process]:
        """Yield the process that the session's file names, and all that come from it."""
        try:
            noted = json.loads((self._records / f"{session}.json").read_text())
            first = psutil.Process(int(noted["pid"]))
            if abs(first.create_time() - float(noted["created"])) > _SAME_START_S:
                return
            yield first
            yield from first.children(recursive=True)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return


def _own_memory(process: psutil.Process) -> int:
    """Return the bytes that are the process's alone or its share: forked servers have most of theirs in common."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss)
