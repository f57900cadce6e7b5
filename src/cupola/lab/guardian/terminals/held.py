"""Which terminals there are: what their holders (`cupola.lab.guardian.terminals.holder`) wrote down, and what they answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.terminals import holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "Held",
    "NotHeldError",
    "end_all",
    "foreground",
    "held_terminals",
    "is_name",
    "start",
    "terminals_folder",
]

_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ANSWERS_S = 2.0
STARTS_S = 20.0
"""A machine under load takes its time to start a program."""


class NotHeldError(OSError):
    """A terminal cannot be held, or its holder does not answer."""


def terminals_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder with a folder for each terminal of this session; other sessions may have the same home."""
    runtime = environ.get("CUPOLA_RUNTIME") or str(Path.home() / ".cupola")
    session = environ.get("CUPOLA_SESSION") or "none"
    if not _SESSION.fullmatch(session):
        session = "none"
    return Path(runtime) / "terminals" / session


def is_name(name: str) -> bool:
    """Return whether `name` can be that of a terminal: its address and its folder are made of it."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Held:
    """A terminal that is held, or was.

    Parameters
    ----------
    path
        The folder of its state; its name is the terminal's.
    """

    path: Path

    @property
    def name(self) -> str:
        """The terminal's name."""
        return self.path.name

    @property
    def alive(self) -> bool:
        """Whether its holder runs: it has a lock as long as it does, and numbers of processes come again."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared: two who look at the same time must not take each other for the holder.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks: nothing is held there
            return False
        finally:
            os.close(lock)
        return False

    def record(self) -> dict[str, Any]:
        """Return what the holder wrote of itself; empty where there is nothing to be read."""
        return _read(self.path / "holder.json")

    def code(self) -> int | None:
        """Return how its shell ended, as far as that is known."""
        found = _read(self.path / "exit").get("code")
        return found if isinstance(found, int) else None

    def connect(self, kind: bytes) -> socket.socket:
        """Return an open connection to the holder.

        Raises
        ------
        NotHeldError
            If nobody answers.
        """
        place = str(self.record().get("socket", ""))
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(ANSWERS_S)
            connection.connect(place)
            connection.sendall(kind)
        except OSError as error:
            connection.close()
            raise NotHeldError(f"terminal {self.name} does not answer: {error}") from error
        return connection

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Have the holder do something, and return how things are (`cupola.lab.guardian.terminals.holder.Holder.act`).

        Raises
        ------
        NotHeldError
            If nobody answers.
        """
        with self.connect(b"C") as connection:
            try:
                connection.sendall(json.dumps(asked).encode() + b"\n")
                answer = connection.makefile("rb").readline(holder.LONGEST_REQUEST)
                told = json.loads(answer)
            except (OSError, ValueError) as error:
                raise NotHeldError(f"terminal {self.name} does not answer: {error}") from error
        return told if isinstance(told, dict) else {}

    def end(self, seconds: float) -> None:
        """Have the shell end as where its window is closed, and do not wait for it.

        Parameters
        ----------
        seconds
            For it and its programs to store what they have to; a shell that still runs is killed then.

        Raises
        ------
        NotHeldError
            If nobody hears it.
        """
        with self.connect(b"C") as connection:
            try:
                connection.sendall(json.dumps({"end": True, "seconds": seconds}).encode() + b"\n")
            except OSError as error:
                raise NotHeldError(f"terminal {self.name} does not hear: {error}") from error

    def clean(self) -> None:
        """Remove what a holder that has ended left behind; nothing of one that lives."""
        with contextlib.suppress(OSError):
            if not self.path.is_dir() or (lock := holder.take_lock(str(self.path))) is None:
                return
            try:
                _remove_socket(Path(str(self.record().get("socket", ""))))
                shutil.rmtree(self.path, ignore_errors=True)
            finally:
                os.close(lock)


def _read(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _remove_socket(place: Path) -> None:
    """Remove the folder of a socket; the file that names it lies in a home, so it may name anything."""
    folder = place.parent
    if place.name != "socket" or not folder.name.startswith(holder.PREFIX):
        return
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            place.unlink(missing_ok=True)
            folder.rmdir()


def held_terminals(folder: Path | None = None) -> Iterator[Held]:
    """Yield the terminals of this session in order of their names, dead ones too."""
    with contextlib.suppress(OSError):
        places = [place for place in (folder or terminals_folder()).iterdir() if is_name(place.name)]
        for place in sorted(places, key=lambda one: (len(one.name), one.name)):
            if place.is_dir() and not place.is_symlink():
                yield Held(place)


def start(
    name: str, command: Sequence[str], environ: Mapping[str, str], cwd: str | None = None
) -> Held | None:
    """Start a shell in a terminal of its own.

    Parameters
    ----------
    name
        The terminal's.
    command, environ, cwd
        Of the shell.

    Returns
    -------
    Held | None
        Nothing where there is such a terminal already.

    Raises
    ------
    NotHeldError
        If it cannot be held: no room on the disk, say.
    """
    held = Held(terminals_folder() / name)
    # Without site and the user's own packages: it needs none of them, and is small so.
    program = [sys.executable, "-S", "-I", str(Path(holder.__file__)), str(held.path), name, *command]
    try:
        done = subprocess.run(
            program, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, timeout=STARTS_S, check=False
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHeldError(f"terminal {name} cannot be held: {error}") from error
    if done.returncode == holder.TAKEN:
        return None
    if done.stdout != b"ready\n":
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotHeldError(f"terminal {name} cannot be held: {said[-1] if said else done.returncode}")
    return held


def end_all(folder: Path | None = None, seconds: float | None = None) -> list[Held]:
    """Begin to end all terminals of this session, and clean up after those that have ended.

    For the end of the session: a server that is ended leaves them.

    Parameters
    ----------
    folder
        Of the terminals, where it is not this session's.
    seconds
        What shells and their programs have to store what they have to; as long as where a terminal is closed, unless said.

    Returns
    -------
    list[Held]
        Those that lived.
    """
    living = []
    for held in held_terminals(folder):
        if held.alive:
            living.append(held)
            with contextlib.suppress(NotHeldError):
                held.end(holder.GRACE_S if seconds is None else seconds)
        else:
            held.clean()
    return living


def foreground(shell: int) -> int | None:
    """Return the process group of what runs in front of a shell in its terminal; nothing where the shell waits for input.

    Parameters
    ----------
    shell
        The shell's process; whoever asks knows that it is still the same.
    """
    try:
        fields = (
            Path(f"/proc/{shell}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        group, front = int(fields[2]), int(fields[5])
    except (OSError, ValueError, IndexError):
        return None
    return front if front > 0 and front != group else None
