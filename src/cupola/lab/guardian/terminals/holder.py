"""The process that holds one terminal: ``python -S -I holder.py FOLDER NAME PROGRAM [ARGUMENT ...]``.

It is detached, so a shell and what runs in it go on when the Jupyter server ends; the next server finds it by what lies
in FOLDER (`cupola.lab.guardian.terminals.held`):

* ``lock`` is locked as long as this lives, so nobody believes a process number,
* ``holder.json`` says who it is and at which Unix socket it answers (in a folder of its own below /tmp: a home may lie on
  a file system without sockets, and its path may be too long for one),
* ``exit`` says how the shell ended.

A connection to the socket begins with one letter. ``S``: after it, bytes as a terminal's wire carries them, first what
was on the screen; end of file where the shell has ended. ``C``: one line of JSON that asks for something (`Holder.act`), and
one line that answers.

It imports the standard library alone and as little of it as it can: there is one of it for each terminal.
"""

# pathlib costs as much memory as all else together.
# ruff: noqa: PTH102, PTH103, PTH105, PTH106, PTH108, PTH110, PTH116, PTH123, PTH208
from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import termios
import time
from typing import Any

SCROLLBACK = 256 << 10
"""What a new page is shown of what was said before, in bytes."""
PENDING = 256 << 10
"""What may wait for somebody who reads slowly, and what may wait for the shell."""
PATIENCE_S = 10.0
"""How long the shell waits for somebody who takes nothing; they are cut off then."""
GRACE_S = 1.0
"""Between asking a shell to end and killing it."""
JIGGLE_S = 0.06
"""A program that fills the screen draws it anew when the size changes; this long it is another one."""
LONGEST_END_S = 60.0
LOOK_S = 0.05
CHUNK = 1 << 16
LONGEST_LINE = 4096
LONGEST_REQUEST = 4096
SIZE = (24, 80)
LOOKS = 10
PREFIX = "cupola-terminal-"
TAKEN = 3
"""Exit code: another process holds a terminal in this folder."""

RESET = b"\x1bc"
_MODE = re.compile(rb"\x1b\[\?([0-9;]{1,40})([hl])")
_QUESTION = re.compile(
    rb"\x1b\[[>=?]?[0-9;]*c|\x1b\[\??[56]n|\x1b\[>[0-9]*q|\x1b\[\??[0-9]+\$p|\x1b\[(?:1[1348]|2[01])t"
    rb"|\x1b\][0-9;]{1,8};\?(?:\x07|\x1b\\)|\x1bP[+$]q[^\x1b]{0,200}\x1b\\"
)
"""What programs ask a terminal and it answers by typing: shown a second time it would type into the shell."""
_OTHER_SCREEN = {b"47", b"1047", b"1049"}


class Scrollback:
    """The last of what a terminal said, so that it can be said again to a new screen."""

    def __init__(self, most: int = SCROLLBACK) -> None:
        self.most = most
        self.kept = bytearray()
        self.modes: dict[bytes, bool] = {}
        """How the terminal was set (cursor, mouse, which screen) where `kept` begins."""

    def add(self, data: bytes) -> None:
        """Add what was said."""
        self.kept += data
        if len(self.kept) > 2 * self.most:
            # A line is the smallest piece that is understood by itself.
            cut = len(self.kept) - self.most
            line = self.kept.find(b"\n", cut, cut + LONGEST_LINE)
            cut = cut if line < 0 else line + 1
            _note_modes(bytes(self.kept[:cut]), self.modes)
            del self.kept[:cut]

    def replay(self) -> bytes:
        """Return what makes a screen look as this terminal's does, whatever it showed before."""
        modes = b"".join(b"\x1b[?%sh" % mode for mode, on in self.modes.items() if on)
        return RESET + modes + _QUESTION.sub(b"", bytes(self.kept))

    def fills_screen(self) -> bool:
        """Return whether a program shows itself on the terminal's other screen, as editors do."""
        modes = dict(self.modes)
        _note_modes(bytes(self.kept), modes)
        return any(modes.get(mode) for mode in _OTHER_SCREEN)


def _note_modes(data: bytes, modes: dict[bytes, bool]) -> None:
    for found in _MODE.finditer(data):
        for mode in found[1].split(b";"):
            modes[mode] = found[2] == b"h"


class Client:
    """Somebody at the other end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.kind = b""
        self.asked = bytearray()
        self.pending = bytearray()
        self.took = time.monotonic()

    def say(self, data: bytes) -> None:
        """Have `data` sent as it is taken."""
        if not self.pending:
            self.took = time.monotonic()
        self.pending += data

    def full(self) -> bool:
        """Return whether so much waits that no more may come."""
        return len(self.pending) > PENDING


class Holder:
    """Holds a terminal until its shell has ended."""

    def __init__(self, folder: str, name: str, lock: int) -> None:
        self.folder, self.name, self.lock = folder, name, lock
        self.scrollback = Scrollback()
        self.clients: dict[int, Client] = {}
        self.typed = bytearray()
        self.size = SIZE
        self.jiggled = 0.0
        self.killing = 0.0
        self.patient = False
        self.code: int | None = None
        self.place = ""
        self.shell = 0

    def begin(self, command: list[str]) -> None:
        """Start the shell, and answer from now on."""
        self.place = _private_folder()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.place + "/socket")
        self.listener.listen(16)
        self.listener.setblocking(False)
        self.alarm, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end())
        self.shell, self.master = os.forkpty()
        if self.shell == 0:
            _be_shell(command)
        os.set_blocking(self.master, False)
        self.resize(*SIZE)
        write(
            self.folder + "/holder.json",
            {
                "name": self.name,
                "holder": os.getpid(),
                "shell": self.shell,
                "socket": self.place + "/socket",
                "session": os.environ.get("CUPOLA_SESSION", ""),
                "command": command,
                "started": time.time(),
            },
        )

    def run(self) -> None:
        """Pass on what is said and typed until the shell has ended."""
        while self.code is None:
            self.step()
        # What the shell said last is still to be read; a program that it left behind is not waited for.
        until = time.monotonic() + GRACE_S
        with contextlib.suppress(OSError):
            while (data := os.read(self.master, CHUNK)) and time.monotonic() < until:
                self.hear(data)
        # The session ends: whoever ends it waits for us, and we for an editor that stores what was not saved.
        while self.patient and time.monotonic() < self.killing and _are_ending(self.shell):
            time.sleep(LOOK_S)
        write(self.folder + "/exit", {"code": self.code})
        until = time.monotonic() + GRACE_S
        while any(client.pending for client in self.clients.values()) and time.monotonic() < until:
            self.step()
        os.close(self.master)
        for client in list(self.clients.values()):
            self.leave(client)

    def step(self) -> None:
        """Wait for something and do it."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.alarm, select.POLLIN)
        wants = select.POLLIN if self.may_hear() else 0
        if self.code is None and (wants or self.typed):
            poll.register(self.master, wants | (select.POLLOUT if self.typed else 0))
        for number, client in self.clients.items():
            takes = len(self.typed) < PENDING or client.kind == b"C"
            poll.register(number, (select.POLLIN if takes else 0) | (select.POLLOUT if client.pending else 0))
        ready = dict(poll.poll(self.timeout()))
        self.tick()
        if self.alarm in ready:
            self.reap()
        if self.listener.fileno() in ready:
            self.welcome()
        for number, client in list(self.clients.items()):
            if number in ready:
                self.serve(client, ready[number])
        if self.code is None and self.master in ready:
            self.relay(ready[self.master])

    def timeout(self) -> int | None:
        """Return how long nothing has to be done by itself, in milliseconds."""
        if self.jiggled or self.killing:
            return 20
        return 1000 if any(client.full() for client in self.clients.values()) else None

    def tick(self) -> None:
        """Do what time brings."""
        now = time.monotonic()
        if self.jiggled and now > self.jiggled:
            self.jiggled = 0.0
            self.resize(*self.size)
        if self.killing and now > self.killing:
            self.killing = now + GRACE_S
            self.signal(signal.SIGKILL)
        for client in list(self.clients.values()):
            if client.full() and now - client.took > PATIENCE_S:
                self.leave(client)

    def may_hear(self) -> bool:
        """Return whether the shell may go on: nobody who looks is behind. Where nobody looks it always may."""
        return not any(client.full() for client in self.clients.values())

    def reap(self) -> None:
        """Note how the shell ended, if it has."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.alarm, 512):
                pass
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.shell, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)

    # -- the shell -----------------------------------------------------------------------------------------

    def relay(self, events: int) -> None:
        """Hear the shell, and type what waits."""
        if events & select.POLLIN:
            try:
                self.hear(os.read(self.master, CHUNK))
            except OSError as error:
                if error.errno not in {errno.EIO, errno.EAGAIN}:
                    raise
        elif events & (select.POLLHUP | select.POLLERR):
            # All have closed the terminal and the shell runs on without it: it is looked at, not waited for.
            time.sleep(0.05)
            self.reap()
        if events & select.POLLOUT and self.typed:
            with contextlib.suppress(OSError):
                del self.typed[: os.write(self.master, self.typed[:CHUNK])]

    def hear(self, data: bytes) -> None:
        """Keep what the shell said, and tell whoever looks."""
        self.scrollback.add(data)
        for client in self.clients.values():
            if client.kind == b"S":
                client.say(data)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size; its programs are told by the system."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def redraw(self) -> None:
        """Have a program that fills the screen draw it anew."""
        if self.scrollback.fills_screen():
            rows, columns = self.size
            self.resize(rows, max(columns - 1, 1))
            self.jiggled = time.monotonic() + JIGGLE_S

    def signal(self, number: signal.Signals) -> None:
        """Signal the shell, and the program in front of it where it is to end."""
        groups = set()
        if number in {signal.SIGHUP, signal.SIGKILL, signal.SIGCONT}:
            with contextlib.suppress(OSError):
                groups.add(os.tcgetpgrp(self.master))
        for group in groups - {0, self.shell}:
            with contextlib.suppress(OSError):
                os.killpg(group, number)
        # It is our child, and no other process has its number before we have waited for it.
        if self.code is None:
            with contextlib.suppress(OSError):
                os.kill(self.shell, number)

    def end(self, seconds: float = GRACE_S) -> None:
        """Have the shell end: asked first, killed then."""
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)
        self.killing = min(self.killing or float("inf"), time.monotonic() + seconds)

    # -- whoever looks -------------------------------------------------------------------------------------

    def welcome(self) -> None:
        """Let somebody in."""
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.clients[connection.fileno()] = Client(connection)

    def leave(self, client: Client) -> None:
        """Part from somebody."""
        self.clients.pop(client.connection.fileno(), None)
        client.connection.close()

    def serve(self, client: Client, events: int) -> None:
        """Send what waits for somebody, and take what they say."""
        try:
            if events & select.POLLOUT and client.pending:
                del client.pending[: client.connection.send(client.pending[:CHUNK])]
                client.took = time.monotonic()
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = client.connection.recv(CHUNK)
                if not data:
                    self.leave(client)
                    return
                self.take(client, data)
        except BlockingIOError:
            return
        except OSError:
            self.leave(client)

    def take(self, client: Client, data: bytes) -> None:
        """Understand what somebody says."""
        if not client.kind:
            client.kind, data = data[:1], data[1:]
            if client.kind == b"S":
                client.say(self.scrollback.replay())
                self.redraw()
        if client.kind == b"S":
            self.typed += data
        elif client.kind == b"C":
            client.asked += data
            if b"\n" in client.asked or len(client.asked) > LONGEST_REQUEST:
                line, client.asked = bytes(client.asked), bytearray()
                client.say(json.dumps(self.act(line)).encode() + b"\n")
        else:
            self.leave(client)

    def act(self, line: bytes) -> dict[str, Any]:
        """Do what a line asks for, and answer how things are.

        That is ``size`` [rows, columns], ``signal``, ``redraw``, or ``end``; with ``seconds``, its programs have so long too.
        """
        try:
            asked = json.loads(line)
            if "size" in asked:
                rows, columns = (min(max(int(number), 1), 9999) for number in asked["size"])
                self.size, self.jiggled = (rows, columns), 0.0
                self.resize(rows, columns)
            if "signal" in asked:
                self.signal(signal.Signals(asked["signal"]))
            if asked.get("redraw"):
                self.redraw()
            if asked.get("end"):
                self.patient = "seconds" in asked
                self.end(min(float(asked.get("seconds", GRACE_S)), LONGEST_END_S))
        except (ValueError, TypeError, AttributeError) as error:
            return {"problem": str(error)}
        return {"size": self.size, "shell": self.shell, "code": self.code}


def _private_folder() -> str:
    """Make a folder that is ours alone, with room for a socket's name (108 bytes)."""
    # The module tempfile would cost more memory than all else.
    for _ in range(100):
        place = "/tmp/" + PREFIX + os.urandom(8).hex()  # noqa: S108 - made by us alone, or not at all
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
            return place
    raise FileExistsError(errno.EEXIST, "no free name", "/tmp")  # noqa: S108


def _are_ending(shell: int) -> bool:
    """Return whether programs of a terminal run that do not ignore that it is closed."""
    for name in os.listdir("/proc"):
        # Others' may not be read, and any may end meanwhile.
        with contextlib.suppress(OSError, ValueError, IndexError):
            if not name.isdigit():
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] in b"ZX" or int(fields[3]) != shell:
                continue
            with open(f"/proc/{name}/status", "rb") as file:
                ignored = file.read().split(b"SigIgn:")[1].split(maxsplit=1)[0]
            if not int(ignored, 16) & 1 << (signal.SIGHUP - 1):
                return True
    return False


def _be_shell(command: list[str]) -> None:
    """Become the shell, in the forked child; it has the terminal as its controlling one already."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGPIPE,
            signal.SIGCHLD,
            signal.SIGTERM,
            signal.SIGXFSZ,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - there is no other way to become it
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\r\n".encode())
    finally:
        os._exit(127)


def write(path: str, what: dict[str, Any]) -> None:
    """Write JSON aside and rename it; what cannot be written is left out."""
    with contextlib.suppress(OSError):
        handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(what, file)
        os.replace(path + ".new", path)


def take_lock(folder: str) -> int | None:
    """Lock the folder as ours; nothing where another process has it."""
    lock = os.open(folder + "/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOOKS):
        # A file system without locks is an error: there, nobody could tell who lives.
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another may have removed the folder while we came.
            if os.fstat(lock).st_ino == os.stat(folder + "/lock").st_ino:
                return lock
            break
        # Somebody who only looks whether we live has it for a moment.
        time.sleep(0.02)
    os.close(lock)
    return None


def main(folder: str, name: str, *command: str) -> None:
    """Detach, hold a terminal, and say on the standard output when it answers."""
    os.makedirs(folder, 0o700, exist_ok=True)
    lock = take_lock(folder)
    if lock is None:
        sys.exit(TAKEN)
    for old in ("/exit", "/holder.json"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder + old)
    if os.fork():
        os._exit(0)
    os.setsid()
    holder = Holder(folder, name, lock)
    try:
        holder.begin(list(command))
        if not os.path.exists(folder + "/holder.json"):
            raise OSError(errno.ENOSPC, "the terminal's state cannot be written", folder)
        os.write(1, b"ready\n")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.close(nowhere)
        holder.run()
    finally:
        if holder.code is None and holder.shell:
            holder.signal(signal.SIGKILL)
        if holder.place:
            with contextlib.suppress(OSError):
                os.unlink(holder.place + "/socket")
                os.rmdir(holder.place)


if __name__ == "__main__":
    main(*sys.argv[1:])
