"""How a snapshot's files are written: the worker that stores one variable after the other.

Part of what a kernel loads (`kernel_side`), so it stands alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .kernel_pickle import Known, pickler, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["NO_SPACE", "FullError", "Limits", "Worker", "replace", "size"]

_PIECE = 8 << 20
"""After so many bytes a worker says that it is not stuck: on a busy machine it may only be slow."""
_KEPT = 16 << 20
"""A pickle up to this size is made once; a larger one is made to be compared, and again to be written."""
NO_SPACE = "there was too little free space in your home for it"
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class Limits(NamedTuple):
    """How much a snapshot may take; `kernel_side` reads other values from ``CUPOLA_SNAPSHOTS``."""

    wait: float = 2.0
    """Seconds between the last cell and the snapshot."""
    variable: int = 256 << 20
    """Bytes of one."""
    all: int = 1 << 30
    """Bytes of all together; never more than a tenth of what the disk has."""
    seconds: float = 5.0
    """For one, as long as nothing of it is written."""
    all_seconds: float = 30.0


class TooMuchError(Exception):
    """A variable is larger than there is room for."""


class FullError(Exception):
    """No space is left on the disk."""


class Writer:
    """Takes a pickle's bytes: counts them, makes their hash, and keeps or writes them.

    Parameters
    ----------
    room
        The most bytes.
    tell
        Called now and then.
    file
        Where they go; without one, a few are kept in memory, and many only counted.
    """

    def __init__(self, room: int, tell: Callable[[], None], file: int | None = None) -> None:
        self._room = room
        self._tell = tell
        self._told = 0
        self._file = file
        self._hash = hashlib.blake2b(digest_size=20)
        self.bytes = 0
        self.kept: list[bytes] | None = None if file is not None else []

    def write(self, data: Any) -> int:
        """Take some."""
        view = memoryview(data).cast("B")
        self.bytes += len(view)
        if self.bytes > self._room:
            raise TooMuchError
        for start in range(0, len(view), _PIECE):
            self._take(view[start : start + _PIECE])
        return len(view)

    def _take(self, piece: memoryview) -> None:
        self._hash.update(piece)
        if self._file is not None:
            write_all(self._file, piece)
        elif self.bytes > _KEPT:
            self.kept = None
        elif self.kept is not None:
            self.kept.append(bytes(piece))
        self._told += len(piece)
        if self._told >= _PIECE:
            self._told = 0
            self._tell()

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self._hash.hexdigest()}.pkl"


@contextlib.contextmanager
def full_is_told() -> Iterator[None]:
    """Make a full disk, or a quota, an error of its own.

    Raises
    ------
    FullError
        No space is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise FullError from error
        raise


def write_all(file: int, data: Any) -> None:
    """Write all of it; a full disk is an error of its own."""
    written = 0
    with full_is_told():
        while written < len(data):
            written += os.write(file, data[written:])


def replace(place: Path, content: dict[str, Any]) -> None:
    """Write a JSON file aside, make it safe, and rename it; a full disk is an error of its own."""
    part = place.with_name(f"{place.name}.part")
    with full_is_told():
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(file, json.dumps(content).encode())
            os.fsync(file)
        finally:
            os.close(file)
        part.replace(place)


class Worker:
    """Stores variables one after the other, and tells of each.

    Parameters
    ----------
    folder
        ``variables/``.
    known, limits
        Of this snapshot.
    base
        cloudpickle's class of picklers.
    room
        Bytes that are left for all, by the limit and for the sake of the disk.
    """

    def __init__(self, folder: Path, known: Known, limits: Limits, base: Any, room: tuple[int, int]) -> None:
        self._folder = folder
        self._known = known
        self._limits = limits
        self._pickler = pickler(base)
        self._room, self._disk = room
        self._files: set[str] = set()
        self._pipe = -1

    def work(self, tasks: list[tuple[str, ...]], pipe: int) -> None:
        """Store what `tasks` name; those that are named together go into one file."""
        self._pipe = pipe
        for names in tasks:
            self._tell(pipe, {"begin": names})
            begun = time.monotonic()
            try:
                said = self._store(names)
            except FullError:
                self._tell(pipe, {"full": True})
                return
            except BaseException as error:  # noqa: BLE001 - storing a variable runs the user's code
                said = {"why": self._why(error, names)}
            said["seconds"] = round(time.monotonic() - begun, 3)
            self._tell(pipe, said)

    def _go_on(self) -> None:
        self._tell(self._pipe, {"more": True})

    @staticmethod
    def _tell(pipe: int, said: dict[str, Any]) -> None:
        write_all(pipe, json.dumps(said).encode() + b"\n")

    def _store(self, names: tuple[str, ...]) -> dict[str, Any]:
        content = {name: self._known.variables[name] for name in names}
        room = min(self._limits.variable * len(names), self._room, self._disk)
        writer, made = self._pickle(content, Writer(room, self._go_on))
        place = self._folder / writer.name
        if not place.exists():
            writer, made = self._write(content, writer, made)
        if writer.name not in self._files:
            self._files.add(writer.name)
            self._room -= writer.bytes
            self._disk -= writer.bytes
        return {
            "bytes": writer.bytes,
            "file": writer.name,
            "refers": sorted(made.refers),
            "shares": sorted(made.shares),
        }

    def _pickle(self, content: dict[str, Any], writer: Writer) -> tuple[Writer, Any]:
        made = self._pickler(writer, self._known, tuple(content))
        made.dump(content)
        return writer, made

    def _write(self, content: dict[str, Any], counted: Writer, made: Any) -> tuple[Writer, Any]:
        part = self._folder / f"{os.getpid()}.part"
        with full_is_told():
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if counted.kept is not None:
                for data in counted.kept:
                    write_all(file, data)
                writer = counted
            else:
                writer, made = self._pickle(content, Writer(counted.bytes * 2, self._go_on, file))
            with full_is_told():
                os.fsync(file)
                part.replace(self._folder / writer.name)
        except BaseException:
            part.unlink()
            raise
        finally:
            os.close(file)
        return writer, made

    def _why(self, error: BaseException, names: tuple[str, ...]) -> str:
        value = self._known.variables[names[0]] if len(names) == 1 else None
        if not isinstance(error, TooMuchError):
            return reason(error, value)
        limit = self._limits.variable
        if self._disk < min(limit, self._room):
            return NO_SPACE
        if self._room < limit:
            return "there was no room left for it"
        large = getattr(value, "nbytes", None)
        said = f"{size(large)} is" if type(large) is int and large > limit else "it is larger"
        return f"{said} more than {size(limit)}" if said.endswith("is") else f"{said} than {size(limit)}"


def size(number: float) -> str:
    """Return a size as text, such as ``1.5 GiB``."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - what a KiB is
        number, unit = number / 1024, unit + 1
    text = f"{number:.1f}".removesuffix(".0") if unit else f"{number:.0f}"
    return f"{text} {_UNITS[unit]}"
