"""The tool of a session: one command, with all that it starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import PurePath

__all__ = ["Tool", "exit_code", "fill", "free_port", "name_of", "say", "verdict"]

GRACE = 6
"""Seconds between asking a tool to end and ending it; Docker gives a container 10."""
STEP = 0.1


def say(text: str) -> None:
    """Write a line into the session's log."""
    sys.stderr.write(f"[cupola] {text}\n")
    sys.stderr.flush()


def free_port() -> int:
    """Return a port of the loopback device that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fill(command: list[str], *, port: int, prefix: str) -> list[str]:
    """Return `command` with ``{port}`` and ``{prefix}`` filled in; other braces are the tool's own."""
    return [word.replace("{port}", str(port)).replace("{prefix}", prefix) for word in command]


def name_of(command: list[str]) -> str:
    """Return what people call it: of ``python ... -- topcat`` the last program."""
    last = len(command) - command[::-1].index("--") if "--" in command else 0
    return PurePath((command[last:] or command)[0]).name


def exit_code(returncode: int) -> int:
    """Return the exit code as a shell gives it: 128 and the signal for a process that was killed."""
    return 128 - returncode if returncode < 0 else returncode


def verdict(name: str, returncode: int) -> str:
    """Return how a tool ended, in a sentence."""
    if returncode == 0:
        return f"{name} was closed"
    if returncode == -signal.SIGKILL:
        return f"{name} was killed, most likely because the session had no memory left; start it with more memory"
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"{name} was ended by the signal {signal.Signals(-returncode).name}; what it said is above"
    return f"{name} ended by itself with exit code {exit_code(returncode)}; what it said is above"


class Tool:
    """A command that runs in a process group of its own, so that nothing of it is left behind.

    Parameters
    ----------
    command
        Program and arguments.
    port
        Where it will answer, on the loopback device.
    """

    def __init__(self, command: list[str], port: int) -> None:
        self.command = command
        self.port = port
        self.name = name_of(command)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it.

        Raises
        ------
        OSError
            If there is no such program, or it cannot be run.
        """
        # Its output is the session's log: whatever it says about its end stands there.
        self._process = await asyncio.create_subprocess_exec(*self.command, start_new_session=True)

    @property
    def pid(self) -> int:
        """The number of its first process, and of its group."""
        return self._running.pid

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the tool was not started")
        return self._process

    async def ended(self) -> int:
        """Wait until it ends; return its code, negative for a signal."""
        return await self._running.wait()

    async def answers(self) -> None:
        """Wait until something listens on its port: how long that may take is the platform's decision."""
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
            await asyncio.sleep(STEP)

    async def stop(self) -> int:
        """End it and all that it started; return its code."""
        process = self._running
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)
        # Also where the first process has ended: what it left behind goes with it.
        self._signal(signal.SIGKILL)
        return await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, number)
