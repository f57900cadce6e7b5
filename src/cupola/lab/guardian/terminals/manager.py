"""Terminals that survive their Jupyter server: the manager of terminals that JupyterLab's own handlers use.

A shell lives below a holder of its own (`cupola.lab.guardian.terminals.holder`). The server has a socket to it where JupyterLab's
terminals have a pseudo-terminal; a server that was killed and started again finds the same terminals under their names.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_server._tz import utcnow
from jupyter_server_terminals.terminalmanager import TerminalManager
from terminado.management import MaxTerminalsReached, PtyWithClients
from tornado.ioloop import IOLoop
from tornado.web import HTTPError
from typing_extensions import override

from cupola.lab.guardian import is_on
from cupola.lab.guardian.terminals.held import Held, NotHeldError, held_terminals, is_name, start
from cupola.lab.guardian.terminals.holder import Scrollback

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SurvivingTerminals", "terminal_settings"]

ENDS_S = 5.0
"""How long a shell that is closed may take; its holder kills it sooner."""
SETTLES_S = 0.3
"""A page says how large it is a moment after it came."""


def terminal_settings() -> list[str]:
    """Return the Jupyter server's settings for terminals that survive; none where that is switched off."""
    if not is_on():
        return []
    return [f"--TerminalsExtensionApp.terminal_manager_class={__name__}.SurvivingTerminals"]


class Wire:
    """The connection to a holder, as terminado uses a pseudo-terminal's process.

    Parameters
    ----------
    held
        The terminal.

    Raises
    ------
    NotHeldError
        If its holder does not answer.
    """

    delayafterterminate = 0.1

    def __init__(self, held: Held) -> None:
        self.held = held
        self.pid = int(held.record().get("shell", 0))
        self._connection = held.connect(b"S")
        # As a pseudo-terminal: who types waits, in a thread of its own; who reads was told that there is something.
        self._connection.setblocking(True)
        self.fd = self._connection.fileno()
        self.decoder: Any = None
        self.typed = 0.0
        """When somebody typed, by a clock that only goes up."""

    @property
    def cut_off(self) -> bool:
        """Whether the holder has closed the connection and all was read."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def read(self, size: int) -> str:
        """Return what the terminal said; raise EOFError where it has ended."""
        try:
            data = self._connection.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ""
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return str(self.decoder.decode(data))

    def write(self, text: str) -> None:
        """Type, and wait while the program in the terminal takes nothing."""
        self.typed = time.monotonic()
        with contextlib.suppress(OSError):
            self._connection.sendall(text.encode())

    def getwinsize(self) -> tuple[int, int]:
        """Return rows and columns."""
        rows, columns = self._ask().get("size", (0, 0))
        return rows, columns

    def setwinsize(self, rows: int, columns: int) -> None:
        """Give it another size."""
        self._ask(size=[rows, columns])

    def isalive(self) -> bool:
        """Return whether the shell runs."""
        return self.held.alive

    def kill(self, number: int) -> None:
        """Signal the shell."""
        self._ask(signal=int(number))

    def redraw(self) -> None:
        """Have a program that fills the screen draw it anew."""
        self._ask(redraw=True)

    def end(self) -> None:
        """Have the shell end."""
        self._ask(end=True)

    def close(self) -> None:
        """Let go of it; it goes on."""
        self._connection.close()

    def _ask(self, **asked: Any) -> dict[str, Any]:
        with contextlib.suppress(NotHeldError):
            return self.held.ask(**asked)
        return {}


class Heard(deque[str]):
    """What a page that comes is shown of before: terminado's ``read_buffer``, bounded and understood by a screen."""

    def __init__(self) -> None:
        super().__init__()
        self.scrollback = Scrollback()

    @override
    def append(self, text: str, /) -> None:
        """Add what was said."""
        self.scrollback.add(text.encode())

    @override
    def copy(self) -> deque[str]:  # type: ignore[override] # terminado takes it apart and drops it
        """Return what is to be said again."""
        if not self.scrollback.kept:
            return deque()
        return deque([self.scrollback.replay().decode(errors="replace")])


class HeldTerminal(PtyWithClients):
    """A terminal below a holder, and the pages that show it.

    Parameters
    ----------
    held
        The terminal.
    """

    def __init__(self, held: Held) -> None:
        # Ours instead of terminado's: that would start the program as a child of the server.
        self.clients: list[Any] = []
        self.held = held
        self.term_name = held.name
        self.last_activity = utcnow()
        self.connect()

    def connect(self) -> None:
        """Connect to the holder, which says again what was said."""
        self.ptyproc = Wire(self.held)
        self.ptyproc.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.heard = self.read_buffer = Heard()

    @override
    async def terminate(self, force: bool = False) -> bool:
        """End the shell and wait until it has ended."""
        del force  # it was asked for
        self.ptyproc.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDS_S):
                while self.held.alive:  # noqa: ASYNC110 - a lock tells nobody that it is free
                    await asyncio.sleep(0.02)
        if self.held.alive and (number := self.held.record().get("holder")):
            # It lives, so the number is its own.
            os.kill(int(number), signal.SIGKILL)
        return True


class SurvivingTerminals(TerminalManager):
    """Terminals whose shells do not end with the server; where one cannot be held, it is as in JupyterLab itself."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Before the first request: a page that asks for its terminals must not find them gone.
        IOLoop.current().add_callback(self.adopt)

    def adopt(self) -> None:
        """Take over the terminals that are there and not known: those of a server before, or of another one."""
        for held in held_terminals():
            if held.name in self.terminals:
                continue
            if not held.alive:
                held.clean()
                continue
            try:
                self._take(HeldTerminal(held))
            except NotHeldError as error:
                # It starts, ends or hangs: there is a next time.
                self.log.warning("%s", error)

    def _take(self, terminal: HeldTerminal) -> None:
        self.terminals[terminal.held.name] = terminal
        self.start_reading(terminal)
        self.log.info("terminal %s: the shell is process %s", terminal.held.name, terminal.ptyproc.pid)

    @override
    def list(self) -> list[dict[str, Any]]:
        """Return the models of all terminals."""
        self.adopt()
        return super().list()

    @override
    def new_named_terminal(self, **kwargs: Any) -> tuple[str, PtyWithClients]:
        """Make a terminal, with the next free name where none is said."""
        said = kwargs.pop("name", None)
        if said is not None and not is_name(str(said)):
            raise HTTPError(400, "The name of a terminal is made of letters, digits and _ (at most 60).")
        self.adopt()
        if said in self.terminals:
            return said, self.terminals[said]
        terminal = self._hold(said, kwargs)
        if terminal is not None:
            self._take(terminal)
            return terminal.held.name, terminal
        found: tuple[str, PtyWithClients] = super().new_named_terminal(
            **kwargs, **({"name": said} if said else {})
        )
        return found

    def _hold(self, said: str | None, kwargs: Mapping[str, Any]) -> HeldTerminal | None:
        """Start a shell below a holder; nothing where that cannot be."""
        options = {**self.term_settings, **kwargs}
        environ, command = self.make_term_env(**options), options.get("shell_command") or self.shell_command
        tried: set[str] = set()
        try:
            while True:
                name = said or self._free_name(tried)
                held = start(name, command, environ, options.get("cwd"))
                if held is not None:
                    return HeldTerminal(held)
                if said:
                    raise HTTPError(409, f"There is a terminal {said} already.")
                # Another server was quicker.
                tried.add(name)
        except NotHeldError as error:
            self.log.warning("%s; this terminal ends with the Jupyter server", error)
            return None

    def _free_name(self, tried: set[str]) -> str:
        taken = tried | set(self.terminals)
        return next(str(number) for number in range(1, len(taken) + 2) if str(number) not in taken)

    @override
    def get_terminal(self, term_name: str) -> PtyWithClients:  # type: ignore[override] # as in terminado's own
        """Return a terminal for a page that comes."""
        if term_name not in self.terminals:
            if self.max_terminals and len(self.terminals) >= self.max_terminals:
                raise MaxTerminalsReached(self.max_terminals)
            return self.new_named_terminal(name=term_name)[1]
        terminal: PtyWithClients = self.terminals[term_name]
        if isinstance(terminal, HeldTerminal) and terminal.heard.scrollback.fills_screen():
            IOLoop.current().call_later(SETTLES_S, terminal.ptyproc.redraw)
        return terminal

    @override
    def pty_read(self, fd: int, events: Any = None) -> None:
        """Read what a terminal said; a holder that has cut us off because we were slow is connected to again."""
        terminal = self.ptys_by_fd.get(fd)
        if isinstance(terminal, HeldTerminal) and terminal.ptyproc.cut_off and terminal.held.code() is None:
            with contextlib.suppress(NotHeldError):
                if terminal.held.alive:
                    self._connect_again(terminal, fd)
                    return
        super().pty_read(fd, events)

    def _connect_again(self, terminal: HeldTerminal, fd: int) -> None:
        old = terminal.ptyproc
        terminal.connect()
        IOLoop.current().remove_handler(fd)
        self.ptys_by_fd.pop(fd, None)
        old.close()
        self.start_reading(terminal)

    @override
    def on_eof(self, ptywclients: PtyWithClients) -> None:
        """Forget a terminal that has ended."""
        super().on_eof(ptywclients)
        if isinstance(ptywclients, HeldTerminal):
            self.log.info("terminal %s ended with %s", ptywclients.held.name, ptywclients.held.code())
            self._clean(ptywclients.held)

    def _clean(self, held: Held, left: int = 20) -> None:
        """Remove its state as soon as its holder has gone."""
        if held.alive and left:
            IOLoop.current().call_later(0.1, self._clean, held, left - 1)
        else:
            held.clean()

    @override
    async def terminate_all(self) -> None:
        """Let go of all terminals, as the server ends; those that nobody holds end with it."""
        for name, terminal in list(self.terminals.items()):
            if isinstance(terminal, HeldTerminal):
                IOLoop.current().remove_handler(terminal.ptyproc.fd)
                self.ptys_by_fd.pop(terminal.ptyproc.fd, None)
                terminal.ptyproc.close()
                self.terminals.pop(name)
            else:
                await self.terminate(name, force=True)
