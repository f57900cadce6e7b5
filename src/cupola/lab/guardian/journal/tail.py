"""Files that grow, read as far as they have come: whole lines only, and cheaply where nothing is new."""

from __future__ import annotations

import bisect
import os
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Segments", "Tail"]

_SEGMENT = re.compile(r"(\d{8,})\.jsonl")
_LOOK_S = 5.0
"""After this time a folder is listed anew, whatever it says: not every file system tells the time of a change exactly."""
_AT_ONCE = 8 << 20


class Tail:
    """A file that grows.

    Parameters
    ----------
    path
        Its place; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that are new."""
        while True:
            try:
                if os.stat(self._path).st_size <= self._at:  # noqa: PTH116
                    return
                with self._path.open("rb") as file:
                    file.seek(self._at)
                    data = file.read(_AT_ONCE)
                    while data and b"\n" not in data:
                        more = file.read(_AT_ONCE)
                        if not more:
                            return
                        data += more
            except OSError:
                return
            whole = data.rfind(b"\n") + 1
            if not whole:
                return
            self._at += whole
            yield from data[:whole].splitlines()


class Segments:
    """The journal of a kernel: files of increasing numbers, of which the last grows, and the first may go.

    Parameters
    ----------
    folder
        Of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: list[int] = []
        self._changed = -1
        self._listed = 0.0
        self._current = 0
        self._tail: Tail | None = None

    @property
    def numbers(self) -> list[int]:
        """The numbers of the files that there are."""
        self._list()
        return list(self._numbers)

    def path(self, number: int) -> Path:
        """Return the place of a file."""
        return self._folder / f"{number:08d}.jsonl"

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the whole lines that are new, each with the number of its file."""
        self._list()
        while True:
            if self._tail is not None:
                for line in self._tail.lines():
                    yield self._current, line
            # What is known of by now was begun after all of the one before was written.
            after = bisect.bisect_right(self._numbers, self._current)
            if after == len(self._numbers):
                return
            if self._tail is not None:
                for line in self._tail.lines():
                    yield self._current, line
            self._current = self._numbers[after]
            self._tail = Tail(self.path(self._current))

    def _list(self) -> None:
        try:
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116
        except OSError:
            self._numbers = []
            return
        if changed == self._changed and time.monotonic() - self._listed < _LOOK_S:
            return
        self._changed, self._listed = changed, time.monotonic()
        found = (_SEGMENT.fullmatch(name) for name in os.listdir(self._folder))  # noqa: PTH208
        self._numbers = sorted(int(match[1]) for match in found if match)

    def read(self, number: int) -> Iterator[bytes]:
        """Yield the lines of one file, as far as it has come; none where it is no more."""
        yield from Tail(self.path(number)).lines()

    def delete(self, number: int) -> None:
        """Remove a file that was read, unless it is the last one."""
        if number < self._current:
            self.path(number).unlink(missing_ok=True)
            self._numbers = [one for one in self._numbers if one != number]
