"""The cores of this machine, shared by the supervisors of all jobs: first between people, then between a person's jobs.

A core in use is a locked file, and so is a supervisor that takes part. The kernel gives a lock back when its holder ends,
however it ends, so no core is ever lost and nobody keeps a count. What a job holds and whether it wants more stands in its own
file; what somebody has used lately in a file of theirs. From these each supervisor reckons by itself who is next: whoever holds
least, among these whoever has used least lately. A job that is not next waits a moment before it takes a free core.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HALF_LIFE_S", "Cores", "used_lately"]

COURTESY = 0.2
"""Seconds that a job which is not next leaves a free core to the others: several of their tries."""
HALF_LIFE_S = 3600.0
"""After this long half of what somebody has used is forgotten."""
CHARGE_S = 1.0
"""Seconds between two notes of what was used, while cores are held: so much is lost with a killed supervisor."""
_LINE = 64
"""Bytes of a note: all of one length, so that one write replaces another."""


@dataclass
class Rival:
    """A job that takes part, as its file tells."""

    job: str
    share: str
    held: int = 0
    wants: bool = False
    last: float = 0.0
    """When it last took a core."""


class Cores:
    """The cores that one job holds.

    Parameters
    ----------
    folder
        Where the files ``core-0``, ``core-1``, ... lie, one per core that jobs may use.
    job
        The job's id.
    share
        Whose share it counts against, a person's or a team's; a share of its own where nothing is said.
    """

    def __init__(self, folder: Path, job: str, share: str = "") -> None:
        self._folder = folder
        self._files = sorted(folder.glob("core-*"))
        self._held: dict[Path, int] = {}
        self._me = Rival(f"wish-{job}", quote(share or job, safe=""))
        self._own: int | None = None
        self._own_file = folder / f"wish-{job}"
        self._usage = folder / f"used-{self._me.share}"
        self._wide: int | None = None
        self._free_since: float | None = None
        self._collected: list[Path] = []
        self._charged = time.monotonic()

    @property
    def total(self) -> int:
        """Cores that jobs may use, all together."""
        return len(self._files)

    def wish(self) -> None:
        """Tell the others that this job wants cores, until `content` is called."""
        if not self._me.wants:
            self._me.wants = True
            self._tell()

    def content(self) -> None:
        """Tell the others that this job wants no more cores than it has."""
        self._give_up()
        if self._me.wants:
            self._me.wants = False
            self._free_since = None
            self._tell()

    def take(self, count: int) -> tuple[Path, ...] | None:
        """Take `count` cores for a task.

        Returns
        -------
        tuple or None
            The cores, for `give`; nothing where they are not free now: ask again soon.
        """
        self.charge()
        if not self._may_take():
            return None
        if count > 1 and not self._may_collect():
            return None
        for file in self._files:
            if len(self._collected) == count:
                break
            if file not in self._held and (lock := _lock(file)) is not None:
                self._held[file] = lock
                self._collected.append(file)
        if len(self._collected) < count:
            return None
        taken = tuple(self._collected)
        self._collected.clear()
        self._let_others_collect()
        self._free_since = None
        self._me.last = time.time()
        self._tell()
        return taken

    def give(self, cores: tuple[Path, ...]) -> None:
        """Give cores back."""
        if cores:
            self.charge(now=True)
            for file in cores:
                os.close(self._held.pop(file))
            self._tell()

    def charge(self, *, now: bool = False) -> None:
        """Note what was used since the last time; for those who hold cores and ask for none, once a second is enough."""
        seconds = time.monotonic() - self._charged
        if self._held and (now or seconds > CHARGE_S):
            _add_usage(self._usage, seconds * len(self._held))
        if now or seconds > CHARGE_S or not self._held:
            self._charged = time.monotonic()

    def forget(self) -> None:
        """Close the locks in a forked child: they belong to the supervisor alone."""
        for lock in (*self._held.values(), self._own, self._wide):
            if lock is not None:
                os.close(lock)

    def _tell(self) -> None:
        """Write down what this job holds and wants."""
        self._me.held = len(self._held) - len(self._collected)
        if self._own is not None and not os.fstat(self._own).st_nlink:
            # Somebody took it for that of an ended job, in the moment between its making and its lock.
            os.close(self._own)
            self._own = None
        if self._own is None:
            self._own = _lock(self._own_file)
        if self._own is not None:
            me = self._me
            os.pwrite(
                self._own,
                f"{me.held} {int(me.wants)} {me.last:.3f} {me.share}".ljust(_LINE).encode() + b"\n",
                0,
            )

    def _may_take(self) -> bool:
        """Say whether this job is next for one of the free cores, or those before it had their chance."""
        free = len(self._collected) + self._free()
        if not free:
            self._free_since = None
            return False
        if self._is_next(free):
            return True
        now = time.monotonic()
        if self._free_since is None:
            self._free_since = now
        return now - self._free_since >= COURTESY

    def _is_next(self, free: int) -> bool:
        """Deal out the free cores, one by one to whoever has least, and say whether this job gets one."""
        rivals = self._rivals()
        wanting = [rival for rival in rivals if rival.wants]
        if not wanting:
            return True
        me, hands = self._me, dict.fromkeys((rival.share for rival in (*rivals, self._me)), 0)
        for rival in (*rivals, me):
            hands[rival.share] += rival.held
        usage = {share: used_lately(self._folder, share) for share in hands}
        given = {rival.job: rival.held for rival in (*wanting, me)}
        for _ in range(free):
            following = min(
                (*wanting, me),
                key=lambda one: (hands[one.share], usage[one.share], given[one.job], one.last, one.job),
            )
            if following is me:
                return True
            hands[following.share] += 1
            given[following.job] += 1
        return False

    def _rivals(self) -> list[Rival]:
        """Return the other jobs that take part, as they tell."""
        found = []
        for entry in os.scandir(self._folder):
            if not entry.name.startswith("wish-") or entry.name == self._own_file.name:
                continue
            file = self._folder / entry.name
            lock = _lock(file, make=False)
            if lock is not None:  # its job has ended
                file.unlink(missing_ok=True)
                os.close(lock)
            elif (rival := _read_rival(file)) is not None:
                found.append(rival)
        return found

    def _free(self) -> int:
        free = 0
        for file in self._files:
            if file not in self._held and (lock := _lock(file)) is not None:
                os.close(lock)
                free += 1
        return free

    def _give_up(self) -> None:
        """Give back what was collected for a task that needs more."""
        for file in self._collected:
            os.close(self._held.pop(file))
        self._collected.clear()
        self._let_others_collect()

    def _may_collect(self) -> bool:
        """Say whether this job may keep single cores until it has enough for a wide task.

        One job at a time: two that keep cores could wait for each other for ever.
        """
        if self._wide is None:
            self._wide = _lock(self._folder / "wide")
        return self._wide is not None

    def _let_others_collect(self) -> None:
        if self._wide is not None:
            os.close(self._wide)
            self._wide = None


def used_lately(folder: Path, share: str) -> float:
    """Return the core-seconds of a share, of which half is forgotten in each `HALF_LIFE_S`."""
    try:
        text = (folder / f"used-{share}").read_text()
    except OSError:
        return 0.0
    return _decayed(text, time.time())


def _decayed(note: str, now: float) -> float:
    try:
        used, at = map(float, note.split())
    except ValueError:  # it is being made, or somebody wrote into it
        return 0.0
    # The clock may have been set back.
    return used * math.exp2(-max(0.0, now - at) / HALF_LIFE_S)


def _add_usage(file: Path, seconds: float) -> None:
    """Add core-seconds to a note; several jobs of one share do so at a time."""
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        now = time.time()
        used = _decayed(os.pread(opened, _LINE, 0).decode(errors="replace"), now) + seconds
        os.pwrite(opened, f"{used:.3f} {now:.3f}".ljust(_LINE).encode(), 0)
    finally:
        os.close(opened)


def _read_rival(file: Path) -> Rival | None:
    try:
        held, wants, last, share = file.read_text().split()
        return Rival(file.name, share, int(held), wants == "1", float(last))
    except (OSError, ValueError):  # it has just ended, or has not told yet
        return None


def _lock(file: Path, *, make: bool = True) -> int | None:
    """Open and lock a file; return nothing where somebody else has it."""
    try:
        opened = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened
