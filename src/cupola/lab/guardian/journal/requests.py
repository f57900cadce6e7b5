"""What pages asked of a kernel, and what became of it: lines that are added to a file, and never change."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["ReaderLock", "Requests"]


class Requests:
    """The file ``requests.jsonl`` of a kernel.

    Parameters
    ----------
    folder
        The kernel's.
    """

    def __init__(self, folder: KernelFolder) -> None:
        self._path = folder.requests
        self._tail = Tail(self._path)

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield what is new in it."""
        for line in self._tail.lines():
            with contextlib.suppress(ValueError):  # a torn line of a crash of the machine
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found

    def add(self, record: dict[str, Any]) -> None:
        """Write a line.

        Raises
        ------
        OSError
            If it cannot be written whole; then nothing of it is there.
        """
        line = (json.dumps(record) + "\n").encode()
        with self._path.open("ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                written = file.write(line)
            except OSError:
                written = 0
            if written != len(line):
                # Half a line would spoil the next one.
                file.truncate(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


class ReaderLock:
    """Says which server keeps the journal of a kernel and the files of its notebooks.

    It is that of the kernel's session, or any one when the kernel is no more.

    Parameters
    ----------
    folder
        The kernel's.
    """

    def __init__(self, folder: KernelFolder) -> None:
        self._folder = folder
        self._file = -1

    @property
    def held(self) -> bool:
        """Whether it is this one; it stays so until it is let go."""
        if self._file < 0:
            session = self._folder.record().get("session")
            if session == os.environ.get("CUPOLA_SESSION", "") or not self._folder.alive:
                with contextlib.suppress(OSError):
                    self._take()
        return self._file >= 0

    def _take(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self._folder.path / "reader.lock", flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        self._file = file

    def __del__(self) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Let another server have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
