"""Kernels frozen with all they have, by CRIU: a thread, an open file and a half-used iterator go on after the wake.

This is possible for sessions that are processes of this machine, where the platform is root and CRIU is new enough;
`Criu.usable` says why not. Everywhere else, and whenever one kernel cannot be frozen or thawed, its variables come back
from its snapshot: so snapshots are taken first, always.

The memory of a kernel is written to `folder`, which only this account may enter: whoever could write there could have
root run what he likes. What is thawed is thawed once: the memory is removed with the first try.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import psutil

from cupola.exceptions import UnavailableError
from cupola.hub.files import read_json, write_private
from cupola.hub.processes import KnownProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

__all__ = ["OLDEST", "Criu", "FrozenTree"]

OLDEST = (4, 2)
"""Older ones fail on kernels of today, some of them only when they dump: their own check says that all is well."""
CHECK_SECONDS = 30
LEAVE_SECONDS = 10.0
"""How long the numbers of ended processes may stay taken: whoever started them has to notice."""
SHARE = 0.1
"""Of the disk must stay free beside the memory of the kernel: others write there too."""
NOTE = "tree.json"
DUMP_LOG = "freeze.log"
THAW_LOG = "thaw.log"
BOOT = Path("/proc/sys/kernel/random/boot_id")

_KEEP = """#!/bin/sh
# Called by criu when all is written and the processes still stand: they are ended only if this succeeds.
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
sync -f {aside} && mv -T {aside} {folder} && sync -f {folder}
"""
_WORDS = (
    ("external socket", "a program outside it is connected to it by a Unix socket"),
    ("half of stream unix", "a program outside it is connected to it by a Unix socket"),
    ("no space left", "the disk is full"),
    ("disk quota", "the disk's quota is used up"),
    ("file exists", "one of its process numbers belongs to another program by now"),
    ("/dev/nvidia", "it uses a GPU"),
    ("/dev/dri", "it uses a GPU"),
    ("can't open file", "a file that it had open is gone"),
    ("bad size", "a file that it had open was changed"),
    ("bad build-id", "a library that it uses was changed"),
    ("can't bind inet", "this machine has no longer the address of one of its connections"),
)


@dataclass(frozen=True)
class FrozenTree:
    """What was frozen: a process and all below it.

    Parameters
    ----------
    root
        The guardian.
    created
        When it was started, in seconds since 1970.
    numbers
        The numbers of all its processes and threads: they must be free when it is thawed.
    connections
        Whether its connections go on: those within this machine do; with one to elsewhere, all are closed.
    boot
        The start of the machine in which it ran: its clocks do not go on in another.
    """

    root: int
    created: float
    numbers: tuple[int, ...]
    connections: bool
    boot: str

    @classmethod
    def of(cls, root: int) -> FrozenTree:
        """Describe a living tree.

        Raises
        ------
        UnavailableError
            It has ended, or it belongs to a terminal or another session of processes.
        """
        try:
            first = psutil.Process(root)
            everyone = [first, *first.children(recursive=True)]
            numbers = tuple(sorted({one.id for process in everyone for one in process.threads()}))
            if os.getsid(root) != root:
                raise UnavailableError(f"the process {root} does not lead a session of its own")
            return cls(root, first.create_time(), numbers, _all_at_home(everyone), _boot())
        except (psutil.Error, ProcessLookupError) as error:
            raise UnavailableError(f"the process {root} has ended") from error

    @classmethod
    def read(cls, folder: Path) -> FrozenTree:
        """Return what a folder says.

        Raises
        ------
        UnavailableError
            There is nothing, or it is damaged.
        """
        found = read_json(folder / NOTE)
        try:
            numbers = tuple(int(one) for one in found["numbers"])
            root, created = int(found["root"]), float(found["created"])
            return cls(root, created, numbers, bool(found["connections"]), str(found["boot"]))
        except (KeyError, TypeError, ValueError):
            raise UnavailableError("nothing was kept of it, or only a part") from None

    @property
    def is_stale(self) -> bool:
        """Whether the machine was started anew since."""
        return self.boot != _boot()

    def taken(self) -> list[int]:
        """Return the numbers that are in use now."""
        return [number for number in self.numbers if Path(f"/proc/{number}").exists()]

    def memory(self) -> int:
        """Return the bytes that it uses."""
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self.root)
            return sum(one.memory_info().rss for one in [first, *first.children(recursive=True)])
        return 0


@dataclass(frozen=True)
class Criu:
    """Freezes and thaws trees of processes.

    Parameters
    ----------
    program
        The command: a name or a path.
    """

    program: str = "criu"

    def usable(self) -> str | None:
        """Return why this machine cannot freeze anything; nothing where it can."""
        path = shutil.which(self.program)
        if path is None:
            return f"the program {self.program} is not installed"
        if os.geteuid() != 0:
            return "only a platform that root runs can freeze processes"
        try:
            version = _version(_run(path, "--version", seconds=CHECK_SECONDS).stdout)
            if version < OLDEST:
                wanted, found = (".".join(map(str, one)) for one in (OLDEST, version))
                return f"criu is {found or 'unknown'}, and {wanted} or newer is needed"
            checked = _run(path, "check", seconds=CHECK_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"criu does not run: {error}"
        if checked.returncode:
            said = (checked.stdout + checked.stderr).strip().splitlines()
            return f"this system's kernel does not allow it: {said[-1] if said else 'criu check failed'}"
        return None

    def freeze(self, root: int, folder: Path) -> FrozenTree:
        """Write a guardian, its kernel and all below them to `folder`, and end them.

        They are ended when everything is on the disk, and go on as if nothing had been asked where it cannot be.

        Parameters
        ----------
        root
            The guardian's process.
        folder
            What is written; it must not be there yet.

        Raises
        ------
        UnavailableError
            This cannot be frozen; the text says why, and everything still runs.
        """
        self._require()
        _make_own(folder.parent)
        with _alone(folder):
            if folder.exists():
                raise UnavailableError("it is frozen already")
            tree = FrozenTree.of(root)
            disk, needed = shutil.disk_usage(folder.parent), tree.memory()
            free = max(0, disk.free - int(SHARE * disk.total))
            if needed > free:
                raise UnavailableError(
                    f"it needs {needed >> 20} MiB on the disk, and {free >> 20} MiB are free beside the tenth that stays so"
                )
            aside = folder.with_name(folder.name + ".part")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                self._dump(tree, aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return tree

    def thaw(self, folder: Path) -> KnownProcess:
        """Let go on what was frozen to `folder`, under the same process numbers; its memory is then removed.

        Raises
        ------
        UnavailableError
            It cannot go on, and never will: what was kept of it is removed. The text says why.
        """
        if not folder.exists():
            raise UnavailableError("nothing is frozen there")
        _make_own(folder.parent)
        with _alone(folder):
            using = folder.with_name(folder.name + ".used")
            shutil.rmtree(using, ignore_errors=True)
            try:
                # First of all: a second life of the same kernel would write over what the first one did.
                folder.rename(using)
            except FileNotFoundError:
                raise UnavailableError("it was thawed already") from None
            try:
                return self._restore(using)
            finally:
                shutil.rmtree(using, ignore_errors=True)

    def _require(self) -> None:
        if why := self.usable():
            raise UnavailableError(why)

    def _dump(self, tree: FrozenTree, aside: Path, folder: Path) -> None:
        aside.mkdir(mode=0o700)
        write_private(aside / NOTE, json.dumps(asdict(tree)))
        script = aside / "keep.sh"
        script.write_text(_KEEP.format(aside=quote(str(aside)), folder=quote(str(folder))), encoding="utf-8")
        script.chmod(0o700)
        # No time limit: criu that is killed half-way leaves broken processes behind.
        done = _run(
            *(self.program, "dump", "--tree", str(tree.root), "--images-dir", str(aside)),
            *("--log-file", DUMP_LOG, "-v2", "--action-script", str(script)),
            # Both ends of its connections stand still, so nothing has to be kept from them by rules of the firewall.
            *("--network-lock", "skip", *_shared(tree)),
        )
        if done.returncode:
            raise UnavailableError(_why(aside / DUMP_LOG, done.stderr))

    def _restore(self, folder: Path) -> KnownProcess:
        tree = FrozenTree.read(folder)
        before = KnownProcess(tree.root, tree.created)
        if before.alive:  # whoever froze it was killed before he had ended it
            return before
        if tree.is_stale:
            raise UnavailableError("the machine was started anew since then, and with it all clocks")
        self._require()
        _wait_until_gone(tree)
        if taken := tree.taken():
            raise UnavailableError(f"its process number {taken[0]} belongs to another program by now")
        done = _run(
            *(self.program, "restore", "--restore-detached", "--images-dir", str(folder)),
            *("--log-file", THAW_LOG, "-v2", *_shared(tree)),
        )
        if done.returncode:
            raise UnavailableError(_why(folder / THAW_LOG, done.stderr))
        known = KnownProcess.of(tree.root)
        if known is None:
            raise UnavailableError("it ended at once")
        return known


def _shared(tree: FrozenTree) -> list[str]:
    """Return the options that a dump and its restore must have in common."""
    return [
        "--tcp-established" if tree.connections else "--tcp-close",
        "--file-locks",  # the guardian's lock says that the kernel lives
        "--manage-cgroups=ignore",  # the groups of the session that wakes it are not those of the one that slept
    ]


def _all_at_home(everyone: list[psutil.Process]) -> bool:
    """Return whether every connection of these processes is one within this machine.

    One to elsewhere would be dead after hours without anybody noticing, so it is better closed, and all others with it.
    """
    found = [one for process in everyone for one in process.net_connections("tcp")]
    there = [one.raddr.ip for one in found if one.status != psutil.CONN_LISTEN and one.raddr]
    return all(address.removeprefix("::ffff:").startswith(("127.", "::1")) for address in there)


def _wait_until_gone(tree: FrozenTree) -> None:
    """Wait until whoever started the processes has noticed that they ended; for others this waits in vain."""
    end = time.monotonic() + LEAVE_SECONDS
    while any(_is_dead(number) for number in tree.taken()) and time.monotonic() < end:
        time.sleep(0.05)


def _is_dead(number: int) -> bool:
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _make_own(folder: Path) -> None:
    """Make a folder that only this account can enter.

    Raises
    ------
    UnavailableError
        Somebody else can write there, or nobody can.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise UnavailableError(f"{folder} must be a folder that only the platform's account may enter")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let nobody else freeze to, or thaw from, the same folder meanwhile."""
    lock = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _run(*command: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    # Not through pipes: criu that is killed leaves helpers behind, which would keep them open for ever. And in memory: a
    # full disk is no reason to fail.
    with _memory("said") as said, _memory("complained") as complained:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            check=False,
            timeout=seconds,
            # What is thawed must not end with the platform, nor hear the signals of its terminal.
            start_new_session=True,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, _text(said), _text(complained))


def _memory(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(name), "w+b")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"Version:\s*(\d+(?:\.\d+)*)", text)
    return tuple(int(one) for one in found[1].split(".")) if found else ()


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _why(log: Path, said: str) -> str:
    """Return in words what criu complains about."""
    with contextlib.suppress(OSError):
        said += log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in said.splitlines() if "Error" in line and "RLIMIT" not in line]
    for line in lines:
        for sign, words in _WORDS:
            if sign in line.lower():
                return words
    return lines[0].rpartition("): ")[2] if lines else "criu failed and did not say why"
