"""Files in a folder that somebody else may change at any moment: no link in it is ever followed.

The platform may run as root while homes belong to people. Whoever owns a folder can put a link to any file of the
machine into it between two of our calls, so that a plain path is never safe there. Each step of a way is opened by
itself, relative to the one before, and a link among them is refused by the kernel.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Beneath"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


class Beneath:
    """A folder below another one that only the platform can change.

    Parameters
    ----------
    top
        The trusted folder: its own path may hold links.
    inside
        The way from there to the folder; but for its first step, which is somebody's home, it need not exist.
        What is made belongs to whoever that home belongs to.

    Raises
    ------
    ValueError
        If `inside` leads out of `top`.
    """

    def __init__(self, top: Path, inside: str | PurePosixPath) -> None:
        self._top = top
        self._steps = _steps(inside)

    def make(self, *names: str) -> None:
        """Make the folder, and those of `names` below it, with all above them.

        Raises
        ------
        OSError
            That cannot be done, or something else lies there.
        """
        for name in names or ("",):
            with self._folder(name, make=True):
                pass

    def read(self, name: str, *, start: int = 0, longest: int | None = None) -> bytes:
        """Return what is in a file, from `start` on, at most `longest` bytes.

        Raises
        ------
        OSError
            There is no such file, or it is no plain one.
        """
        with self.open(name) as file:
            file.seek(start)
            return file.read() if longest is None else file.read(longest)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises
        ------
        OSError
            There is no such file, or it is no plain one.
        """
        folder, last = _split(name)
        with self._folder(folder) as place:
            # Without O_NONBLOCK a pipe would hold us up until somebody writes to it.
            number = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise OSError(22, "this is no plain file", name)
        return os.fdopen(number, "rb")

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole: whoever reads it finds the old content or the new.

        Raises
        ------
        OSError
            It cannot be written.
        """
        folder, last = _split(name)
        with self._folder(folder) as place:
            aside = f"{last}.part"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=place)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            number = os.open(aside, flags, _FILE_MODE, dir_fd=place)
            with os.fdopen(number, "wb") as file:
                _give(number, self._owner())
                file.write(content)
            os.replace(aside, last, src_dir_fd=place, dst_dir_fd=place)

    def names(self, name: str = "") -> list[str]:
        """Return the names in a folder.

        Raises
        ------
        OSError
            There is no such folder.
        """
        with self._folder(name) as place:
            return os.listdir(place)  # noqa: PTH208 - of an open folder, which has no path

    def move(self, names: list[str], source: str, target: str) -> None:
        """Move files of the folder `source` into the folder `target`, which is made where it is missing.

        Raises
        ------
        OSError
            That cannot be done.
        """
        with self._folder(source) as old, self._folder(target, make=True) as new:
            for name in names:
                os.replace(name, name, src_dir_fd=old, dst_dir_fd=new)

    def status(self, name: str = "") -> os.stat_result:
        """Return what is known of a file or folder.

        Raises
        ------
        OSError
            There is none.
        """
        folder, last = _split(name)
        with self._folder(folder) as place:
            return os.fstat(place) if not last else os.stat(last, dir_fd=place, follow_symlinks=False)

    def free_bytes(self) -> int:
        """Return how much room is left on its disk.

        Raises
        ------
        OSError
            There is no such folder.
        """
        with self._folder("") as place:
            disk = os.statvfs(place)
            return disk.f_bavail * disk.f_frsize

    def remove(self) -> None:
        """Remove the folder with all that is in it; what cannot be removed stays."""
        if not self._steps:
            raise ValueError("the trusted folder itself is not removed")
        above = Beneath(self._top, PurePosixPath(*self._steps[:-1]))
        with contextlib.suppress(OSError), above._folder("") as place:
            shutil.rmtree(self._steps[-1], ignore_errors=True, dir_fd=place)

    def _owner(self) -> os.stat_result | None:
        """Return the home's entry, which says whose it is; nothing where there is none."""
        try:
            return (self._top / self._steps[0]).lstat()
        except (OSError, IndexError):
            return None

    @contextlib.contextmanager
    def _folder(self, name: str, *, make: bool = False) -> Iterator[int]:
        """Open the folder `name` below this one, step by step."""
        place = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for step in (*self._steps, *_steps(name)):
                if make:
                    self._make(step, place)
                below = os.open(step, _FOLDER, dir_fd=place)
                os.close(place)
                place = below
            yield place
        finally:
            os.close(place)

    def _make(self, step: str, place: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(step, _FOLDER_MODE, dir_fd=place)
            number = os.open(step, _FOLDER, dir_fd=place)
            try:
                _give(number, self._owner())
            finally:
                os.close(number)


def _give(number: int, owner: os.stat_result | None) -> None:
    """Give a file that was just made to `owner`, where it is another than this process."""
    if owner is not None and os.geteuid() == 0:
        os.fchown(number, owner.st_uid, owner.st_gid)


def _steps(inside: str | PurePosixPath) -> tuple[str, ...]:
    path = PurePosixPath(inside)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{inside} leads out of its folder")
    return path.parts


def _split(name: str) -> tuple[str, str]:
    """Return the folder of a file, and its name there."""
    steps = _steps(name)
    return "/".join(steps[:-1]), steps[-1] if steps else ""
