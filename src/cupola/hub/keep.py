"""``python -m cupola.hub.keep LOG COMMAND...``: keep a command running, as long as the parent process lives.

The hub starts the portal this way: a portal that dies is back at once (the hub itself looks every half minute only), and none
is left on its port when the hub is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["BackOff", "Keeper", "die_with_parent", "main"]

PR_SET_PDEATHSIG = 1


class BackOff:
    """How long to wait before something that died is started again: longer each time, short again after a good run.

    Parameters
    ----------
    first, most
        The shortest and the longest wait, in seconds.
    good
        A run of that many seconds makes all earlier ones forgotten.
    """

    def __init__(self, first: float = 0.2, most: float = 30, good: float = 60) -> None:
        self.first, self.most, self.good = first, most, good
        self._next = first

    def after(self, lived: float) -> float:
        """Return the seconds to wait after a run of `lived` seconds."""
        if lived >= self.good:
            self._next = self.first
        wait = self._next
        self._next = min(self.most, wait * 2)
        return wait


def die_with_parent() -> None:
    """Have the system kill this process when its parent dies, however that dies.

    Raises
    ------
    OSError
        The system cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Keeper:
    """Runs a command, again and again.

    Parameters
    ----------
    command
        What to run.
    log
        Gets its output.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self.stopping = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Keep the command running until told to end; return its last exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        back_off, code = BackOff(), 0
        while not self.stopping:
            begun = time.monotonic()
            with self.log.open("ab") as output:
                self._child = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
                )
                code = self._child.wait()
                if not self.stopping:
                    wait = back_off.after(time.monotonic() - begun)
                    output.write(f"-- ended with {code}; starting again in {wait:.1f} s\n".encode())
                    output.flush()
                    self._sleep(wait)
        return code

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _stop(self, *_: object) -> None:
        self.stopping = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()


def main(arguments: list[str]) -> int:
    """Keep ``arguments[1:]`` running with ``arguments[0]`` as its log."""
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        return 1  # it died before we were tied to it
    return Keeper(arguments[1:], Path(arguments[0])).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
