"""The kernels of a session that sleeps: frozen before its processes are ended, thawed before they are started again.

The driver calls `FrozenSession.freeze` when a session is hibernated, after its snapshots were taken and instead of ending
it; and `FrozenSession.thaw` at the wake, before the session's own process starts: the new Jupyter server then finds living
kernels and takes them up, as after a crash. A kernel that could not be frozen, or not be thawed, is found dead, and its
variables come from its snapshot. Kernels that go on know their session under its old token: see `Thawed`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from cupola.exceptions import UnavailableError
from cupola.hub.drivers.criu import Criu, FrozenTree
from cupola.hub.files import read_json
from cupola.hub.processes import KnownProcess, end
from cupola.processes import marked_with

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FrozenSession", "Thawed", "forget_stale"]

MARK = "CUPOLA_SESSION"
GUARDIAN_SECONDS = 6
"""For a guardian to end its kernel and to write down what it said last."""
OTHER_SECONDS = 1
"""For terminals and whatever else runs in a session whose kernels are frozen."""
IDENTITY = "JUPYTERHUB_API_TOKEN"
_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_-]{0,127}")
_TOKEN = re.compile(r"[0-9a-zA-Z_-]{32,128}")


@dataclass(frozen=True)
class Thawed:
    """What became of the kernels of a session that was woken."""

    said: dict[str, str] = field(default_factory=dict)
    """Why a kernel could not go on, or nothing, by its id."""
    tokens: frozenset[str] = frozenset()
    """By which those that go on show whose they are."""


@dataclass
class FrozenSession:
    """What is frozen of one session.

    Parameters
    ----------
    session
        Its id.
    runtime
        ``CUPOLA_RUNTIME`` of the session, where its guardians have signed.
    folder
        Of the platform, for this session: what is frozen lies there. Only the platform's account may enter it.
    """

    session: str
    runtime: Path
    folder: Path
    criu: Criu = field(default_factory=Criu)

    def freeze(self, first: psutil.Process) -> dict[str, str]:
        """Freeze the kernels and end all else; say of each kernel why it could not be frozen, or nothing.

        Where not one could be frozen the session goes on as if nothing had been asked.

        Parameters
        ----------
        first
            The session's own process: one that was forked does not show whose it is.
        """
        everyone = {process.pid: process for process in marked_with(MARK, self.session)}
        guardians = self._guardians(set(everyone))
        if not guardians:
            return {}
        if why := self.criu.usable():
            return dict.fromkeys(guardians, why)
        guarded = {pid for guardian in guardians.values() for pid in _tree(guardian)}
        servers = [psutil.Process(pid) for pid in _server(first, guarded)]
        # The server would miss its kernels, and start them anew under their ids.
        _signal(servers, signal.SIGSTOP)
        said: dict[str, str] = {}
        try:
            for kernel, guardian in guardians.items():
                said[kernel] = self._freeze_one(kernel, guardian)
        finally:
            if all(said.values()):
                _signal(servers, signal.SIGCONT)
        if not all(said.values()):
            _signal(servers, signal.SIGKILL)
            left = [guardian for kernel, guardian in guardians.items() if said[kernel]]
            end(left, seconds=GUARDIAN_SECONDS)
            others = [process for pid, process in everyone.items() if pid not in guarded]
            end(others, seconds=OTHER_SECONDS, first=signal.SIGHUP)
        return said

    def thaw(self) -> Thawed:
        """Let all kernels go on that are frozen, and say what became of them. Nothing stays frozen."""
        said, tokens = {}, set()
        for place in self._places():
            try:
                tokens.update(_token_of(self.criu.thaw(place)))
                said[place.name] = ""
            except UnavailableError as error:
                said[place.name] = str(error)
        self.forget()
        return Thawed(said, frozenset(tokens))

    def forget(self) -> None:
        """Remove what is frozen: the session was ended for good, or starts anew without it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _freeze_one(self, kernel: str, guardian: psutil.Process) -> str:
        try:
            self.criu.freeze(guardian.pid, self.folder / kernel)
        except UnavailableError as error:
            return str(error)
        return ""

    def _places(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return sorted(one for one in self.folder.iterdir() if one.is_dir() and _ID.fullmatch(one.name))
        return []

    def _guardians(self, ours: set[int]) -> dict[str, psutil.Process]:
        """Return the guardians that live, by their kernels' ids.

        What their folders say was written in the session, so it counts only for processes that are the session's.
        """
        found = {}
        for place in self.runtime.joinpath("kernels").glob("*"):
            pid = read_json(place / "kernel.json").get("guardian")
            if (
                isinstance(pid, int)
                and pid in ours
                and _ID.fullmatch(place.name)
                and _is_held(place / "lock")
            ):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[place.name] = psutil.Process(pid)
        return found


def forget_stale(folder: Path) -> None:
    """Remove what was frozen before the machine was started anew: it can never go on."""
    for place in folder.glob("*/*/"):
        try:
            stale = FrozenTree.read(place).is_stale
        except UnavailableError:
            stale = True
        if stale:
            shutil.rmtree(place, ignore_errors=True)


def _is_held(lock: Path) -> bool:
    """Whether a guardian holds its lock: its number alone may be another's by now."""
    try:
        file = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _server(first: psutil.Process, guarded: set[int]) -> list[int]:
    """Return the session's process and the servers that it forked; who keeps terminals or kernels is none of them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        command = first.cmdline()
        forked = [one.pid for one in first.children() if one.pid not in guarded and one.cmdline() == command]
        return [first.pid, *forked]
    return []


def _token_of(guardian: KnownProcess) -> list[str]:
    process = guardian.find()
    with contextlib.suppress(psutil.Error, OSError):
        found = process.environ().get(IDENTITY, "") if process else ""
        return [found] if _TOKEN.fullmatch(found) else []
    return []


def _tree(root: psutil.Process) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [root.pid, *(child.pid for child in root.children(recursive=True))]
    return []


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
