"""The parent of a session's Jupyter server: starts it again when it crashes, and ends the session in good order.

Kernels do not depend on the server (see ``cupola.lab.guardian``), so a server that was killed costs nobody anything as long
as somebody starts it again. That somebody must be small and do little: it waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from cupola.lab.forked import work_and_end
from cupola.lab.guardian.folder import KernelFolder, living
from cupola.lab.guardian.terminals.held import end_all
from cupola.lab.guardian.variables.snapshots import answer, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.guardian.terminals.held import Held

__all__ = ["Keeper", "serving"]

MOST_STARTS = 5
"""Within `WINDOW_SECONDS`; a server that ends more often will not do better the next time."""
WINDOW_SECONDS = 60.0
PAUSE_SECONDS = 0.3
SNAPSHOT_SECONDS = 5.0
"""Together with `END_SECONDS` less than the ten seconds after which a driver of the hub kills."""
END_SECONDS = 3.5
SERVER_SECONDS = 1.5
"""Of them, for the server alone."""
MARGIN_SECONDS = 0.3
"""Between the death of a shell that does not want to end and that of its keeper."""
LOOK_SECONDS = 0.05
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGCHLD))
_tell: list[int] = []
"""In the server: where the keeper hears that it serves."""


def serving() -> None:
    """Tell the keeper, if there is one, that this server answers."""
    while _tell:
        file = _tell.pop()
        with contextlib.suppress(OSError):
            os.write(file, b"s")
            os.close(file)


class Keeper:
    """Keeps a server running until it ends by its own wish or is told to.

    Parameters
    ----------
    serve
        Serves until it is told to end; it runs in a process of its own.
    say
        Writes a line into the session's log.
    session
        Whose kernels are ended with the session; none where this is not the one that keeps them.
    """

    def __init__(self, serve: Callable[[], None], say: Callable[[str], None], session: str | None) -> None:
        self._serve = serve
        self._say = say
        self._session = session
        self._server = 0
        self._starts: list[float] = []
        self._heard = -1
        self._served = False

    def run(self) -> int:
        """Serve until the session has ended; return its exit code, negative for a signal."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # Whoever loses its parent, such as the guardian of a kernel, becomes a child of this process.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._start()
        while True:
            if signal.sigwait(_SIGNALS) != signal.SIGCHLD:
                self._say("told to end: the session ends")
                code = 0
                break
            ended = self._reap()
            if ended is None:
                continue
            self._listen()
            if not self._may_start_again(ended) or not self._pause():
                code = ended
                break
            self._start()
        self._end()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return code

    # -- the server -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._starts.append(time.monotonic())
        hear, tell = os.pipe()
        # A process that the server forked may hold the other end longer than the server lives.
        os.set_blocking(hear, False)
        keeper = os.getpid()
        self._server = os.fork()
        if self._server == 0:
            os.close(hear)
            _become_server(self._serve, tell, keeper)
        os.close(tell)
        self._heard = hear

    def _listen(self) -> None:
        """Note whether the server that has ended ever served."""
        with contextlib.suppress(OSError):
            self._served |= os.read(self._heard, 1) == b"s"
        os.close(self._heard)

    def _reap(self) -> int | None:
        """Take note of all children that have ended; return the server's exit code if it is among them."""
        code = None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self._server:
                    self._server = 0
                    code = os.waitstatus_to_exitcode(status)
        return code

    def _may_start_again(self, code: int) -> bool:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if code == 0:
            self._say("the Jupyter server was shut down: the session ends")
            return False
        if code > 0 and not self._served:
            self._say(f"the Jupyter server {how} before it could be used; what it said last tells why")
            return False
        now = time.monotonic()
        self._starts = [start for start in self._starts if now - start < WINDOW_SECONDS]
        if len(self._starts) > MOST_STARTS:
            self._say(
                f"the Jupyter server {how}, the {len(self._starts)}th time in a minute: the session ends"
            )
            return False
        self._say(f"the Jupyter server {how}; it is started again, and kernels run on meanwhile")
        return True

    def _pause(self) -> bool:
        """Wait a moment, longer each time; say whether nobody wanted the end meanwhile."""
        seconds = PAUSE_SECONDS * max(0, len(self._starts) - 1)
        wanted = signal.sigtimedwait(_SIGNALS - {signal.SIGCHLD}, seconds)
        return wanted is None

    # -- the end ----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Have kernels store their variables, then end them and the server."""
        kernels = list(living(self._session)) if self._session is not None else []
        self._snapshot(kernels)
        # The server first: it would start kernels again that end.
        if self._server:
            os.kill(self._server, signal.SIGTERM)
        for kernel in kernels:
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(int(kernel.record()["guardian"]), signal.SIGTERM)
        until = time.monotonic() + END_SECONDS
        terminals = self._end_terminals(until)
        left: list[Held | KernelFolder] = [*kernels, *terminals]
        self._wait(until - time.monotonic(), lambda: not self._server and not any(one.alive for one in left))
        if self._server:
            self._say("the Jupyter server does not end: it is killed")
            os.kill(self._server, signal.SIGKILL)
            self._wait(1, lambda: not self._server)
        for kind, those in (("kernels", kernels), ("terminals", terminals)):
            if names := [one.path.name for one in those if one.alive]:
                self._say(f"{kind} that do not end: {', '.join(names)}")
        for one in terminals:
            one.clean()

    def _end_terminals(self, until: float) -> list[Held]:
        """Have shells end as where their windows are closed: they write their history, and editors what was not saved."""
        if self._session is None:
            return []
        # Not before the server: it would tell pages that they were closed, and pages would forget that they had them.
        self._wait(SERVER_SECONDS, lambda: not self._server)
        return end_all(seconds=until - time.monotonic() - MARGIN_SECONDS)

    def _snapshot(self, kernels: list[KernelFolder]) -> None:
        asked: dict[KernelFolder, str] = {}
        for kernel in kernels:
            if kernel.record().get("language") == "python":
                with contextlib.suppress(OSError):
                    asked[kernel] = ask(kernel)
        if not asked:
            return
        self._say(f"{len(asked)} kernel{'s store their' if len(asked) > 1 else ' stores its'} variables")
        if self._wait(SNAPSHOT_SECONDS, lambda: all(_has_answered(*one) for one in asked.items())):
            late = [kernel.kernel_id for kernel, token in asked.items() if not _has_answered(kernel, token)]
            self._say(f"not all could be stored in time: kernels {', '.join(late)}")

    def _wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Wait until something is done; say whether it was too late."""
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                return True
            signal.sigtimedwait({signal.SIGCHLD}, LOOK_SECONDS)
            self._reap()
        return False


def _has_answered(kernel: KernelFolder, token: str) -> bool:
    return answer(kernel, token) is not None or not kernel.alive


def _become_server(serve: Callable[[], None], tell: int, keeper: int) -> NoReturn:
    """Turn the forked process into the server, and never return."""

    def work() -> None:
        _tell[:] = [tell]
        # Without its keeper nobody would end it.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        serve()

    work_and_end(work)


def _prctl(option: int, value: int) -> None:
    """Ask the system for something that Python has no name for; elsewhere than on Linux nothing is asked."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
