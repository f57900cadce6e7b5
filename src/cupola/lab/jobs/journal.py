"""``events.jsonl``: what the supervisor tells about its tasks, line by line, also when the disk is full."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WHOLE_JOB", "Journal"]

WHOLE_JOB = -1
"""The task number of an event of the whole job."""

RESERVE = 64 * 1024
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Appends events; each is a `cupola.models.job.TaskEvent` as one line of JSON.

    Parameters
    ----------
    folder
        The job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(
            folder / "events.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._reserve = folder / "reserve"
        self._unwritten = b""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._unwritten = b"\n"  # the one before us was killed in the middle of a line
        self._make_reserve()

    def write(self, *events: dict[str, object]) -> None:
        """Append events, each with the present time; nothing is lost when the disk is full, only late."""
        time = datetime.now(UTC).isoformat()
        lines = (_ENCODE({**event, "time": time}) for event in events)
        self._unwritten += "".join(f"{line}\n" for line in lines).encode()
        self.flush()

    def flush(self) -> None:
        """Write what could not be written before."""
        try:
            while self._unwritten:
                written = os.write(self._file, self._unwritten)
                self._unwritten = self._unwritten[written:]
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise

    def use_reserve(self) -> None:
        """Free the space kept for the last words."""
        self._reserve.unlink(missing_ok=True)
        self.flush()

    def close(self) -> None:
        """End writing; in a forked child this leaves the file to the supervisor."""
        os.close(self._file)

    def end(self, event: dict[str, object]) -> None:
        """Write the last event of the whole job and give the reserve back."""
        self.write(event)
        self.use_reserve()
        self.close()

    def _make_reserve(self) -> None:
        """Keep a little space, so that a job that fills the disk can still say so."""
        try:
            # Random bytes: a file system may keep zeros without any space.
            self._reserve.write_bytes(os.urandom(RESERVE))
        except OSError:
            self._reserve.unlink(missing_ok=True)
