"""What Linux tells about processes, read without a library: the supervisor and its tasks start often."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

__all__ = [
    "JOB_VARIABLE",
    "alive",
    "birth",
    "created",
    "die_with_parent",
    "end_job_processes",
    "group_memory",
    "members",
    "memory",
]

JOB_VARIABLE = "CUPOLA_JOB"
"""In the environment a supervisor starts with. Linux shows it for each process that stems from it,
forked or started, even where the process left its group: so a task's forgotten children are found."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1
# Loaded before any fork, so that a task's start is one call.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """End this process (SIGKILL) when the process `parent`, which forked it, ends however."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def birth(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; nothing if it is not alive.

    With the pid it names a process for good: a pid that was given to another process is seen.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def created(born: int) -> float:
    """Return the time of a `birth` in seconds since 1970, as psutil's ``create_time`` does."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1]) + born / os.sysconf("SC_CLK_TCK")
    return 0.0


def alive(pid: int, born: int) -> bool:
    """Say whether the process `pid` that was started at `born` still runs."""
    return birth(pid) == born


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may itself hold blanks and brackets.
    return text[text.rindex(")") + 2 :].split()


def members(groups: set[int]) -> dict[int, list[int]]:
    """Return the living processes of each process group in `groups`."""
    found: dict[int, list[int]] = {group: [] for group in groups}
    for pid in _all():
        fields = _stat(pid)
        if fields is not None and int(fields[2]) in groups and fields[0] not in "ZX":
            found[int(fields[2])].append(pid)
    return found


def _all() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def memory(pid: int) -> int:
    """Return the resident memory of one process in bytes, 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - ten times a second
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def group_memory(pids: list[int]) -> int:
    """Return what processes use for themselves, in bytes.

    Pages that several processes share are counted once, by their share; pages of files, which the
    kernel can drop, are not counted.
    """
    return sum(_own_memory(pid) for pid in pids)


def _own_memory(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    if "Pss_Anon" not in kib:  # Linux before 5.4
        return kib.get("Pss", 0) * 1024
    return (kib["Pss_Anon"] + kib["Pss_Shmem"]) * 1024


def end_job_processes(tag: str, *, seconds: float = 5.0) -> int:
    """Kill what still runs of the job `tag`, apart from this process, and wait until it is gone.

    Returns
    -------
    int
        How many processes were found.
    """
    mark = f"{JOB_VARIABLE}={tag}".encode()
    found = 0
    end = time.monotonic() + seconds
    while True:
        stragglers = [pid for pid in _all() if pid != os.getpid() and _carries(pid, mark)]
        if not stragglers or time.monotonic() > end:
            return found
        found = max(found, len(stragglers))
        for pid in stragglers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _carries(pid: int, mark: bytes) -> bool:
    try:
        # A process that has ended but was not waited for has no environment any more.
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
