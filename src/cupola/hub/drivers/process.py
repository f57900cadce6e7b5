"""The ``process`` driver: a session is a process of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import StartError
from cupola.hub.processes import KnownProcess, end, marked_with, output_tail, read_record, write_record
from cupola.hub.zygotes import Zygote, plain_environment

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

    from cupola.models.session import Plan, ProcessPlan

__all__ = ["MARK", "End", "SessionProcess", "stop_session"]

MARK = "CUPOLA_SESSION"
"""Every process of a session has this variable in its environment."""
STOP_SECONDS = 10
"""How long a session may take to save and to stop its kernels."""
ZYGOTE_SECONDS = 60
"""How long to wait for a fork server that has just been started; then the session starts cold."""
POLL = 0.02


@dataclass(frozen=True)
class End:
    """How a process ended."""

    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def of_wait_status(cls, status: int) -> End:
        """Read what ``waitpid`` gave."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status))
        return cls(exit_code=os.WEXITSTATUS(status))

    @classmethod
    def of_return_code(cls, code: int) -> End:
        """Read what :mod:`subprocess` gave."""
        return cls(signal=-code) if code < 0 else cls(exit_code=code)

    @override
    def __str__(self) -> str:
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = str(self.signal)
            return f"was ended by the signal {name}"
        if self.exit_code is not None:
            return f"ended with exit code {self.exit_code}"
        return "ended"


class SessionProcess:
    """The process of one session, running or ended.

    Parameters
    ----------
    session
        Its id.
    records
        The folder that says which sessions run, also to those who do not know the hub.
    """

    def __init__(self, session: str, records: Path) -> None:
        self.session = session
        self.records = records
        self.known: KnownProcess | None = None
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
        return {"pid": self.known.pid, "created": self.known.created} if self.known else {}

    def load(self, state: dict[str, Any]) -> None:
        """Find the process again after a restart of the hub."""
        if "pid" in state and "created" in state:
            self.known = KnownProcess(int(state["pid"]), float(state["created"]))
        else:  # the hub was killed between our start and its own note
            self.known = read_record(self.record)

    # -- life -------------------------------------------------------------------------------------------------

    async def start(self, plan: Plan, environment: dict[str, str]) -> str:
        """Start the process.

        Parameters
        ----------
        plan
            What the portal decided.
        environment
            What the hub adds; its variables win.

        Returns
        -------
        :
            ``forked`` or ``cold``.

        Raises
        ------
        StartError
            It cannot be started: a folder cannot be made, no such program.
        """
        process = _of(plan)
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
            way = "forked" if await self._fork(plan, env) else "cold"
            if way == "cold":
                self._start_cold(plan, env)
            if self.known is not None:
                write_record(self.record, self.known)
        except OSError as exc:
            self.kill()
            place = f" ({exc.filename})" if exc.filename else ""
            raise StartError(f"the session cannot be started: {exc.strerror or exc}{place}") from exc
        return way

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

    async def wait_for_port(self, port: int, plan: Plan, seconds: float) -> None:
        """Return when the session accepts connections.

        Raises
        ------
        StartError
            It ended before, with the last lines of its log; or it did not answer within `seconds`.
        """
        until = time.monotonic() + seconds
        while (ended := self.ended()) is None:
            if time.monotonic() > until:
                raise StartError(f"the session did not answer within {seconds:.0f} s; see {_of(plan).log}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL)
            else:
                writer.close()
                return
        if ended == End():
            # A fork server needs a moment to note how its child ended.
            await asyncio.sleep(0.2)
            ended = self.ended() or ended
        tail = output_tail(_of(plan).log)
        raise StartError(f"the session {ended} while it started; its last output: {tail or 'nothing'}")

    def ended(self) -> End | None:
        """Return how the process ended; nothing while it runs."""
        if self._child is not None and (code := self._child.poll()) is not None:
            return End.of_return_code(code)
        if self.known is None:
            return End()
        if self.known.alive:
            return None
        try:
            return End.of_wait_status(int(self.exit_file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            return End()

    async def stop(self) -> None:
        """End the process and all that it started."""
        await asyncio.to_thread(stop_session, self.session, self.known)
        if self._child is not None:
            self._child.poll()
        self.forget()

    def kill(self) -> None:
        """End at once what was started."""
        if self.known and (process := self.known.find()):
            process.kill()
        self.forget()

    def forget(self) -> None:
        """Remove the notes on an ended process."""
        for file in (self.record, self.exit_file):
            with contextlib.suppress(OSError):
                file.unlink()


def _of(plan: Plan) -> ProcessPlan:
    if plan.process is None:
        raise StartError(
            "the session is no process: the platform's `compute` was changed meanwhile; launch it anew"
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
