"""The ``process`` driver: a session is a process of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import random_port

from cupola.hub.drivers.base import POLL, NotStartedError, Place, answers, describe, signal_name
from cupola.hub.drivers.frozen import FrozenSession
from cupola.hub.ports import LOOPBACK
from cupola.hub.processes import KnownProcess, end, output_lines, read_record, write_record
from cupola.hub.zygotes import Zygote, plain_environment
from cupola.models.session import EndCause, SessionEnd
from cupola.processes import marked_with

if TYPE_CHECKING:
    import psutil

    from cupola.models.session import Plan, ProcessPlan

__all__ = ["MARK", "SessionProcess", "end_of_return_code", "end_of_wait_status", "module_of", "stop_session"]

MARK = "CUPOLA_SESSION"
"""Every process of a session has this variable in its environment."""
STOP_SECONDS = 10
"""How long a session may take to save and to stop its kernels."""
ZYGOTE_SECONDS = 60
"""How long to wait for a fork server that has just been started; then the session starts cold."""
SHOWN_LINES = 20
"""Of the output of a session that ended by itself."""


def end_of_wait_status(status: int) -> SessionEnd:
    """Read what ``waitpid`` gave."""
    if os.WIFSIGNALED(status):
        return SessionEnd(cause=EndCause.CRASH, signal=signal_name(os.WTERMSIG(status)))
    return SessionEnd(cause=EndCause.CRASH, exit_code=os.WEXITSTATUS(status))


def end_of_return_code(code: int) -> SessionEnd:
    """Read what :mod:`subprocess` gave."""
    if code < 0:
        return SessionEnd(cause=EndCause.CRASH, signal=signal_name(-code))
    return SessionEnd(cause=EndCause.CRASH, exit_code=code)


class SessionProcess:
    """The process of one session, running or ended.

    Parameters
    ----------
    session
        Its id.
    records
        The folder that says which sessions run, also to those who do not know the hub.
    frozen
        The folder for the kernels of sessions that are hibernated; without, none are frozen.
    """

    def __init__(self, session: str, records: Path, frozen: Path | None = None) -> None:
        self.session = session
        self.records = records
        self.frozen = frozen
        self.known: KnownProcess | None = None
        self._port = 0
        self._log: Path | None = None
        self._runtime: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None

    # -- state that outlives the hub --------------------------------------------------------------------------

    @property
    def record(self) -> Path:
        """The file that names the process."""
        return self.records / f"{self.session}.json"

    @property
    def exit_file(self) -> Path:
        """The file that gets the wait status of a forked process."""
        return self.records / f"{self.session}.exit"

    def state(self) -> dict[str, Any]:
        """Return what the hub keeps."""
        if self.known is None:
            return {}
        return {
            "pid": self.known.pid,
            "created": self.known.created,
            "log": str(self._log or ""),
            "runtime": str(self._runtime or ""),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Find the process again after a restart of the hub."""
        self._log = Path(state["log"]) if state.get("log") else None
        self._runtime = Path(state["runtime"]) if state.get("runtime") else None
        if "pid" in state and "created" in state:
            self.known = KnownProcess(int(state["pid"]), float(state["created"]))
        else:  # the hub was killed between our start and its own note
            self.known = read_record(self.record)

    # -- life -------------------------------------------------------------------------------------------------

    def listens(self, plan: Plan) -> tuple[str, int]:
        """Return a free port of the loopback."""
        del plan
        self._port = random_port()
        return LOOPBACK, self._port

    async def start(self, plan: Plan, environment: dict[str, str]) -> Place:
        """Start the process.

        Parameters
        ----------
        plan
            What the portal decided.
        environment
            What the hub adds; its variables win.

        Raises
        ------
        NotStartedError
            It cannot be started: a folder cannot be made, no such program.
        """
        process = _of(plan)
        self._log = process.log
        runtime = process.environment.get("CUPOLA_RUNTIME")
        self._runtime = Path(runtime) if runtime else None
        env = {
            **plain_environment(process.folder),
            **process.environment,
            **environment,
            "HOME": str(process.folder),
            "USER": plan.owner,
            "LOGNAME": plan.owner,
            "SHELL": "/bin/bash",
            MARK: plan.session,
        }
        try:
            for folder in (process.folder, *process.folders):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            process.log.parent.mkdir(parents=True, exist_ok=True)
            self.records.mkdir(parents=True, exist_ok=True)
            self.exit_file.unlink(missing_ok=True)
            tokens = await asyncio.to_thread(self._thaw)
            way = "forked" if await self._fork(plan, env) else "cold"
            if way == "cold":
                self._start_cold(plan, env)
            if self.known is not None:
                write_record(self.record, self.known)
        except OSError as exc:
            self.kill()
            place = f" ({exc.filename})" if exc.filename else ""
            full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
            raise NotStartedError(
                f"the session cannot be started: {exc.strerror or exc}{place}",
                SessionEnd(cause=EndCause.QUOTA if full else EndCause.REFUSED),
            ) from exc
        return Place(
            LOOPBACK, self._port, "Loading Jupyter" if way == "cold" else "Preparing your home", tokens
        )

    async def _fork(self, plan: Plan, env: dict[str, str]) -> bool:
        """Have the fork server make the process; say whether it did."""
        process = _of(plan)
        module = module_of(process.command)
        if process.zygote is None or module is None:
            return False
        zygote = Zygote(process.zygote)
        request = {
            "module": module[0],
            "args": module[1],
            "env": env,
            "cwd": str(process.folder),
            "log": str(process.log),
            "exit": str(self.exit_file),
        }
        with contextlib.suppress(OSError):
            await self._wake(zygote, plan)
            self.known = KnownProcess.of(await zygote.fork(request))
            return self.known is not None
        return False

    async def _wake(self, zygote: Zygote, plan: Plan) -> None:
        """Start the fork server if it does not answer, and wait for it: its imports are ours too, so no time is lost."""
        if await zygote.answers():
            return
        log = _of(plan).log.parent.parent / "zygote.log"
        starting = zygote.start(_of(plan).command[0], _of(plan).folder, log)
        until = time.monotonic() + ZYGOTE_SECONDS
        while time.monotonic() < until and not await zygote.answers():
            # It ends by itself where another one is being started on the same socket: that one is waited for.
            if starting.poll() not in {None, 0}:
                return
            await asyncio.sleep(POLL)

    def _start_cold(self, plan: Plan, env: dict[str, str]) -> None:
        log = os.open(_of(plan).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._child = subprocess.Popen(
                _of(plan).command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_of(plan).folder,
                env=env,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.known = KnownProcess.of(self._child.pid)

    async def wait_for_port(self, seconds: float) -> None:
        """Return when the session accepts connections.

        Raises
        ------
        NotStartedError
            It ended before, with the last lines of its log; or it did not answer within `seconds`.
        """
        until = time.monotonic() + seconds
        while (ended := self._status()) is None:
            if time.monotonic() > until:
                raise NotStartedError(
                    f"the session did not answer within {seconds:.0f} s; see {self._log}",
                    SessionEnd(cause=EndCause.TIMEOUT, log=self._last_lines()),
                )
            if await answers(LOOPBACK, self._port):
                return
            await asyncio.sleep(POLL)
        if ended.cause is EndCause.LOST:
            # A fork server needs a moment to note how its child ended.
            await asyncio.sleep(0.2)
            ended = self._status() or ended
        said = " | ".join(self._last_lines()[-5:])
        raise NotStartedError(
            f"the session {describe(ended)} while it started; its last output: {said or 'nothing'}",
            ended.model_copy(update={"log": self._last_lines()}),
        )

    async def ended(self) -> SessionEnd | None:
        """Return how the process ended; nothing while it runs."""
        ended = self._status()
        return ended and ended.model_copy(update={"log": self._last_lines()})

    def lost_inside(self) -> SessionEnd | None:
        """Return nothing: processes have no limit of memory that a program in a session could reach."""
        return None

    def _status(self) -> SessionEnd | None:
        if self._child is not None and (code := self._child.poll()) is not None:
            return end_of_return_code(code)
        if self.known is None:
            return SessionEnd(cause=EndCause.LOST)
        if self.known.alive:
            return None
        try:
            return end_of_wait_status(int(self.exit_file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            return SessionEnd(cause=EndCause.LOST)

    def _last_lines(self) -> list[str]:
        return output_lines(self._log, SHOWN_LINES) if self._log else []

    async def stop(self, *, asleep: bool = False) -> SessionEnd:
        """End the process and all that it started; of a session that sleeps, freeze the kernels that can be frozen."""
        if asleep:
            await asyncio.to_thread(self._freeze)
        await asyncio.to_thread(stop_session, self.session, self.known)
        if self._child is not None:
            self._child.poll()
        await self.forget()
        return SessionEnd(cause=EndCause.ASKED)

    # -- sleep ------------------------------------------------------------------------------------------------

    def _sleeper(self) -> FrozenSession | None:
        if self.frozen is None or self._runtime is None:
            return None
        return FrozenSession(self.session, self._runtime, self.frozen / self.session)

    def _freeze(self) -> None:
        sleeper, first = self._sleeper(), self.known.find() if self.known else None
        if sleeper is None or first is None:
            return
        for kernel, why in sleeper.freeze(first).items():
            self._say(f"kernel {kernel} {f'cannot be frozen: {why}' if why else 'is frozen as it stands'}")

    def _thaw(self) -> frozenset[str]:
        sleeper = self._sleeper()
        if sleeper is None:
            return frozenset()
        thawed = sleeper.thaw()
        for kernel, why in thawed.said.items():
            self._say(f"kernel {kernel} {f'cannot go on: {why}' if why else 'goes on as it stood'}")
        return thawed.tokens

    def _say(self, line: str) -> None:
        """Write a line into the session's own log."""
        if self._log is not None:
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
                log.write(f"[cupola] {line}\n")

    def kill(self) -> None:
        """End at once what was started."""
        if self.known and (process := self.known.find()):
            process.kill()
        self._remove_notes()

    async def forget(self) -> None:
        """Remove the notes on an ended process."""
        self._remove_notes()

    def _remove_notes(self) -> None:
        for file in (self.record, self.exit_file):
            with contextlib.suppress(OSError):
                file.unlink()


def _of(plan: Plan) -> ProcessPlan:
    if plan.process is None:
        raise NotStartedError(
            "the session is no process: the platform's `compute` was changed meanwhile; launch it anew",
            SessionEnd(cause=EndCause.REFUSED),
        )
    return plan.process


def module_of(command: list[str]) -> tuple[str, list[str]] | None:
    """Return module and arguments of ``python [-P] -m MODULE ARGS...``; nothing for another command."""
    for place, word in enumerate(command[1:], start=1):
        if word == "-m" and place + 1 < len(command):
            return command[place + 1], command[place + 2 :]
        if not word.startswith("-"):
            return None
    return None


def stop_session(session: str, known: KnownProcess | None, seconds: float = STOP_SECONDS) -> None:
    """End a session: its server first, which stops its kernels, then whatever is left of it."""
    server = known.find() if known else None
    if server is not None:
        end([server], seconds=seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
    left: list[psutil.Process] = marked_with(MARK, session)
    end(left, seconds=1)
