"""What goes on in this session: kernels that compute, programs in terminals, processor time, and when a person was last here.

Who decides whether a session is idle is the portal; this only looks, and rather sees too much than too little.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import TypeAdapter, ValidationError

from cupola.lab.guardian import is_on
from cupola.models.activity import Activity, NotebookPath
from cupola.models.base import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jupyter_server.serverapp import ServerApp

    from cupola.models.activity import SnapshotTold

__all__ = ["Looker", "Processors", "runs_below"]

MARK = "CUPOLA_SESSION"
"""Every process of a session has it in its environment."""
MOST = 200
CGROUP = Path("/sys/fs/cgroup")
_PATH = TypeAdapter(NotebookPath)
_RESTS = {psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_DEAD}


class Processors:
    """How many seconds of processors the programs of this session have used.

    Parameters
    ----------
    session
        Its id, as its programs have it in their environment.
    cgroup
        Where the system counts for a whole container, if this is one.
    """

    def __init__(self, session: str, cgroup: Path = CGROUP) -> None:
        self._session = session
        self._cgroup = cgroup
        self._ours: dict[psutil.Process, bool] = {}

    def seconds(self) -> float | None:
        """Return them; nothing where nobody can tell."""
        counted = self._of_container()
        return self._of_processes() if counted is None else counted

    def _of_container(self) -> float | None:
        """Return what the container has used: its system counts also what has ended."""
        # The whole machine has no such file: there, the figure would be that of everybody.
        if not (self._cgroup / "cgroup.events").exists():
            return None
        with contextlib.suppress(OSError, ValueError):
            for line in (self._cgroup / "cpu.stat").read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(" ")
                if name == "usage_usec":
                    return int(value) / 1e6
        return None

    def _of_processes(self) -> float | None:
        if not self._session:
            return None
        seen: dict[psutil.Process, bool] = {}
        seconds = 0.0
        psutil.process_iter.cache_clear()  # a number may be another's by now
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = self._ours.get(process)
                if ours is None:
                    ours = process.environ().get(MARK) == self._session
                seen[process] = ours
                if ours:
                    # With what its children used that have ended: a build is many short programs.
                    seconds += sum(process.cpu_times()[:4])
        self._ours = seen
        return round(seconds, 2)


def runs_below(shell: int) -> bool:
    """Return whether a shell has a program that runs, in front or in the background; one that was stopped does not.

    Parameters
    ----------
    shell
        Its process.
    """
    try:
        children = psutil.Process(shell).children()
    except psutil.Error:
        return False
    for child in children:
        with contextlib.suppress(psutil.Error):
            if child.status() not in _RESTS:
                return True
    return False


class Looker:
    """Looks at a Jupyter server.

    Parameters
    ----------
    server
        Whose kernels and terminals they are.
    environ
        The variables of the session.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self,
        server: ServerApp,
        environ: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._clock = clock
        self._processors = Processors(environ.get(MARK, ""))
        # Whoever started it is a person, too.
        self._person = clock()
        self._asked = time.time()

    def person(self, ago: float = 0.0) -> None:
        """Note that a person did something `ago` seconds before."""
        self._person = max(self._person, self._clock() - max(ago, 0.0))

    async def look(self, snapshot: SnapshotTold | None = None) -> Activity:
        """Return what goes on now."""
        kernels: Any = self._server.kernel_manager
        busy = {one for one in kernels.list_kernel_ids() if self._computes(kernels, one)}
        open_ones: list[dict[str, Any]] = await self._server.session_manager.list_sessions()
        notebooks = [one for one in open_ones if one["type"] == "notebook"]
        terminals, cpu = await asyncio.to_thread(self._programs, self._shells())
        idle = self._clock() - self._person
        return Activity(
            busy=_paths(one["path"] for one in notebooks if one["kernel"]["id"] in busy),
            kernels=len(busy),
            terminals=terminals,
            cpu_seconds=cpu,
            seen=now() - timedelta(seconds=idle),
            idle_seconds=round(idle, 1),
            notebooks=_paths(one["path"] for one in notebooks),
            guardian=is_on(),
            snapshot=snapshot,
        )

    def _computes(self, kernels: Any, kernel_id: str) -> bool:
        with contextlib.suppress(KeyError, ValueError, OSError):
            if getattr(kernels.get_kernel(kernel_id), "execution_state", "") == "busy":
                return True
            # The state is what the server heard last; the journal knows also what it missed.
            if (ledger_of := getattr(kernels, "ledger", None)) is not None:
                ledger = ledger_of(kernel_id)
                self._note_requests(ledger)
                return bool(ledger.busy)
        return False

    def _note_requests(self, ledger: Any) -> None:
        """Take cells that were run as something a person did."""
        asked = max((one.asked for one in getattr(ledger, "executions", {}).values()), default=0.0)
        if asked > self._asked:
            self._asked = asked
            self.person(time.time() - asked)

    def _shells(self) -> list[int]:
        """Return the processes of the shells in terminals, and note what was typed there."""
        manager = self._server.web_app.settings.get("terminal_manager")
        shells = []
        for terminal in list(getattr(manager, "terminals", {}).values()):
            process = getattr(terminal, "ptyproc", None)
            shells.append(int(getattr(process, "pid", 0)))
            if typed := getattr(process, "typed", 0.0):
                self.person(time.monotonic() - typed)
        return [shell for shell in shells if shell > 0]

    def _programs(self, shells: list[int]) -> tuple[int, float | None]:
        return sum(runs_below(shell) for shell in shells), self._processors.seconds()


def _paths(found: Iterable[str]) -> list[str]:
    """Return the paths that the portal takes; a file that was never saved or is no notebook has none."""
    paths = []
    for path in sorted(set(found)):
        with contextlib.suppress(ValidationError):
            paths.append(_PATH.validate_python(path))
    return paths[:MOST]
