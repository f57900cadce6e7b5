"""The embedded engine: a supervisor process per job, ``python -m cupola.lab.pool``, that survives the portal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil

from cupola.exceptions import UnavailableError
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.models.job import TaskState

__all__ = ["LocalPool", "share_of"]


class LocalPool:
    """Runs arrays on this host.

    Parameters
    ----------
    folder
        Where one file per core lies; all supervisors share it.
    cores
        How many cores all jobs together may use.
    teams
        Those that have a share of their own; the jobs of others count for their owners.
    """

    supervised: ClassVar[bool] = True

    def __init__(self, folder: Path, *, cores: int, teams: frozenset[str] = frozenset()) -> None:
        self._folder = folder
        self._cores = cores
        self._teams = teams
        # To be waited for: an ended supervisor would stay a zombie else.
        self._started: set[int] = set()

    def capacity(self) -> Capacity:
        """Return the cores that jobs may use, and this machine's memory."""
        return Capacity(cores=self._cores, memory_mib=psutil.virtual_memory().total >> 20)

    def submit(self, array: Array) -> str:
        """Start a supervisor. Where one still runs, the new one sees it and ends at once.

        Raises
        ------
        UnavailableError
            The interpreter cannot be started.
        """
        self._make_cores()
        self._wait_for_ended()
        log = str(array.folder / "log" / "pool.out")
        # -P: a file json.py in the user's home must not take the place of Python's own.
        where = [str(array.folder), str(self._folder), share_of(array, self._teams)]
        command = [str(array.python), "-P", "-m", "cupola.lab.pool", *where]
        self.throttle(array, "", array.at_once)
        try:
            # Not Popen: nobody keeps an object for a process that is to outlive us.
            pid = os.posix_spawn(
                array.python,
                command,
                {**array.environment, "CUPOLA_JOB": array.tag},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise UnavailableError(
                f"The tasks' interpreter {array.python} could not be started ({error.strerror}): "
                "start a new session of this datalab, which builds it again, and retry."
            ) from error
        self._started.add(pid)
        return _native(pid) or f"{pid}:0"

    def find(self, array: Array) -> str | None:
        """Return the living supervisor that signed the job's folder."""
        with contextlib.suppress(ValueError, KeyError):
            signed = json.loads(JobFolder(array.folder).signature())
            native = f"{signed['pid']}:{signed['born']}"
            return native if self._lives(native) else None
        return None

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the arrays whose supervisor lives; it tells about its tasks in ``events.jsonl`` itself."""
        found: dict[str, dict[int, TaskState]] = {}
        self._wait_for_ended()
        for array, native in arrays:
            # One that was started twice (the portal died in between) has the first one's signature.
            if self._lives(native) or self.find(array) is not None:
                found[array.tag] = {}
        return found

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Write the wish down, where the supervisor looks ten times a second; wake it to cancel."""
        JobFolder(array.folder).want(wish)
        if wish is Control.CANCEL:
            # It may still be loading the function, which nothing else would interrupt.
            for one in {native, self.find(array)} - {None}:
                _signal(str(one), signal.SIGTERM)

    def throttle(self, array: Array, native: str, at_once: int) -> None:
        """Write down how many tasks may run at a time; what runs beyond that is let end."""
        del native  # whichever supervisor it is
        JobFolder(array.folder).let_run(at_once)

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed."""
        return JobFolder(array.folder).log(task)

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return nothing: the supervisor has told of each task."""
        del array, native
        return {}

    def ahead(self, array: Array, native: str) -> int | None:
        """Return nothing: supervisors share the cores, none waits behind another."""
        del array, native
        return None

    def last_words(self, array: Array) -> str:
        """Return the last line that the supervisor wrote into its log."""
        lines = [line.strip() for line in JobFolder(array.folder).log("pool").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def _wait_for_ended(self) -> None:
        for pid in list(self._started):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._started.discard(pid)

    def _lives(self, native: str) -> bool:
        pid = int(native.partition(":")[0])
        return _native(pid) == native

    def _make_cores(self) -> None:
        """Make one file per core; take away those of cores that jobs may not use any more."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = {f"core-{number}" for number in range(self._cores)}
        for file in self._folder.glob("core-*"):
            if file.name not in wanted:
                file.unlink(missing_ok=True)
        for name in wanted:
            (self._folder / name).touch(mode=0o600)


def share_of(array: Array, teams: frozenset[str]) -> str:
    """Return whose share of the cores an array counts against."""
    return f"team-{array.team}" if array.team in teams else f"person-{array.owner}"


def _native(pid: int) -> str | None:
    """Return the pid with the process's start in ticks since boot: a pid that is used again is seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{pid}:{fields[19]}"


def _signal(native: str, number: signal.Signals) -> bool:
    pid = int(native.partition(":")[0])
    if _native(pid) != native:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False
