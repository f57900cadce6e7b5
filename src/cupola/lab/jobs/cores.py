"""The cores of this machine, shared by the supervisors of all jobs: one locked file per core in use.

The kernel gives a lock back when its holder ends, however it ends, so no core is ever lost and nobody keeps
a count. A job that has its share waits a moment before it takes a free core, so that the others come first.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Cores"]

COURTESY = 0.08
"""Seconds that a job with its share or more leaves a free core to the others: a few of their tries."""


class Cores:
    """The cores that one job holds.

    Parameters
    ----------
    folder
        Where the files ``core-0``, ``core-1``, ... lie, one per core that jobs may use.
    job
        The job's id.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        self._files = sorted(folder.glob("core-*"))
        self._held: dict[Path, int] = {}
        self._wish: int | None = None
        self._wish_file = folder / f"wish-{job}"
        self._wide: int | None = None
        self._free_since: float | None = None
        self._collected: list[Path] = []

    @property
    def total(self) -> int:
        """Cores that jobs may use, all together."""
        return len(self._files)

    def wish(self) -> None:
        """Tell the others that this job wants cores, until `content` is called."""
        if self._wish is None:
            self._wish = _lock(self._wish_file)

    def content(self) -> None:
        """Tell the others that this job wants no more cores than it has."""
        if self._wish is not None:
            self._wish_file.unlink(missing_ok=True)
            os.close(self._wish)
            self._wish = None
        self._give_up()

    def take(self, count: int) -> tuple[Path, ...] | None:
        """Take `count` cores for a task.

        Returns
        -------
        tuple or None
            The cores, for `give`; nothing where they are not free now: ask again soon.
        """
        if len(self._held) - len(self._collected) >= self._share() and not self._others_had_a_chance():
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
        return taken

    def give(self, cores: tuple[Path, ...]) -> None:
        """Give cores back."""
        for file in cores:
            os.close(self._held.pop(file))

    def forget(self) -> None:
        """Close the locks in a forked child: they belong to the supervisor alone."""
        for lock in (*self._held.values(), self._wish, self._wide):
            if lock is not None:
                os.close(lock)

    def _give_up(self) -> None:
        """Give back what was collected for a task that needs more."""
        self.give(tuple(self._collected))
        self._collected.clear()
        self._let_others_collect()

    def _share(self) -> int:
        """Return how many cores this job may take without asking: an equal part for each that wants some."""
        others = 0
        for entry in os.scandir(self._folder):
            if not entry.name.startswith("wish-") or entry.name == self._wish_file.name:
                continue
            file = self._folder / entry.name
            lock = _lock(file, make=False)
            if lock is None:
                others += file.exists()
            else:  # its job has ended without a word
                file.unlink(missing_ok=True)
                os.close(lock)
        return self.total if others == 0 else max(1, self.total // (others + 1))

    def _others_had_a_chance(self) -> bool:
        if not self._any_free():
            self._free_since = None
            return False
        now = time.monotonic()
        if self._free_since is None:
            self._free_since = now
        return now - self._free_since >= COURTESY

    def _any_free(self) -> bool:
        for file in self._files:
            if file not in self._held and (lock := _lock(file)) is not None:
                os.close(lock)
                return True
        return False

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
