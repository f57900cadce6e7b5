"""Processes of this machine as they are now: by what they were started with, and until they have ended.

What :mod:`psutil` leaves to its callers: the system hands a number out again, to another process or to a thread of one.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["marked_with", "runs", "wait_for"]

_LOOK_S = 0.05


def marked_with(name: str, value: str) -> list[psutil.Process]:
    """Return this account's processes that were started with an environment variable of that value.

    This finds what left its parent's process group too: kernels, and whatever a user sent to the background.
    """
    found = []
    # Otherwise psutil remembers who had a number before, and then refuses to signal who has it now.
    psutil.process_iter.cache_clear()
    for process in psutil.process_iter():
        # Processes of others do not show their environment, and any may end while we look.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value:
                found.append(process)
    return found


def runs(process: psutil.Process) -> bool:
    """Return whether this very process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(processes: Iterable[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; return those that still run after `seconds`."""
    left, end = list(processes), time.monotonic() + seconds
    while True:
        try:
            # Also of one that has ended: whose child it is takes its leave here.
            _, left = psutil.wait_procs(left, timeout=max(0.0, end - time.monotonic()))
        except OSError:
            # The number of one that has just ended may be a thread's by now: pidfd_open(2) then fails in a way that
            # psutil passes on. The next look tells.
            time.sleep(_LOOK_S)
        left = [process for process in left if runs(process)]
        if not left or time.monotonic() >= end:
            return left
