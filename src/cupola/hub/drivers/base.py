"""What every driver can do: the spawner knows no more of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cupola.exceptions import StartError
from cupola.models.session import EndCause, SessionEnd

if TYPE_CHECKING:
    from cupola.models.session import Plan

__all__ = ["POLL", "Driver", "NotStartedError", "Place", "answers", "code_of", "describe", "signal_name"]

POLL = 0.02
"""Seconds between two looks whether a session answers."""
UNKNOWN_END = 1
"""What the hub is told where nobody knows how a session ended."""


@dataclass(frozen=True)
class Place:
    """Where a session answers, as the hub sees it, and what the person is told meanwhile."""

    host: str
    port: int
    message: str
    tokens: frozenset[str] = frozenset()
    """Of earlier starts: by them processes that go on show whose they are."""


class NotStartedError(StartError):
    """A session could not be started; `end` says what is known about why."""

    def __init__(self, text: str, end: SessionEnd) -> None:
        super().__init__(text)
        self.end = end


class Driver(Protocol):
    """One session, running or ended."""

    def state(self) -> dict[str, Any]:
        """Return what the hub keeps of it."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Find it again after a restart of the hub."""
        ...

    def listens(self, plan: Plan) -> tuple[str, int]:
        """Return the address and port on which its server listens, as the session itself sees them."""
        ...

    async def start(self, plan: Plan, environment: dict[str, str]) -> Place:
        """Start it; `environment` is what the hub adds.

        Raises
        ------
        NotStartedError
            It cannot be started.
        """
        ...

    async def wait_for_port(self, seconds: float) -> None:
        """Return when it accepts connections.

        Raises
        ------
        NotStartedError
            It ended before, or did not answer within `seconds`.
        """
        ...

    async def ended(self) -> SessionEnd | None:
        """Return how it ended by itself; nothing while it runs, or while nobody can tell."""
        ...

    def lost_inside(self) -> SessionEnd | None:
        """Return how a program in it was ended since the last call, while the session itself goes on; mostly nothing."""
        ...

    async def stop(self, *, asleep: bool = False) -> SessionEnd:
        """End it and all that it started, and say what is known of it.

        Parameters
        ----------
        asleep
            It will be woken: what can be kept as it stands is kept for its next start.
        """
        ...

    async def forget(self) -> None:
        """Remove what is left of an ended one."""
        ...


async def answers(host: str, port: int, seconds: float = 1) -> bool:
    """Return whether somebody accepts connections there."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` and the like."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def describe(end: SessionEnd) -> str:
    """Return what happened as the predicate of a sentence, such as ``ended with exit code 1``."""
    if end.cause is EndCause.OUT_OF_MEMORY:
        limit = f" of {end.memory_limit_mib} MiB" if end.memory_limit_mib else ""
        return f"needed more memory than its limit{limit} and was ended; start it again with more"
    if end.signal is not None:
        return f"was ended by the signal {end.signal}"
    if end.exit_code is not None:
        return f"ended with exit code {end.exit_code}"
    return "was gone" if end.cause is EndCause.LOST else "ended"


def code_of(end: SessionEnd) -> int:
    """Return the end as a number, as the hub wants it."""
    if end.exit_code is not None:
        return end.exit_code
    if end.signal is not None:
        number = getattr(signal, end.signal, None)
        return 128 + int(number) if number is not None else UNKNOWN_END
    return UNKNOWN_END
