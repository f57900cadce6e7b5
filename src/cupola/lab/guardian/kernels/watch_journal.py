"""The journal of a kernel, as its guardian writes it; it stands alone as ``watch.py`` does."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import time

__all__ = ["Journal", "words_of_end"]

SMALL = 64 << 10
SEGMENT = 8 << 20
"""Bytes of a segment of the journal."""
MOST_WAITING = 8 << 20
"""Bytes kept in memory while the disk is full; what comes after is lost, and the journal says so."""
TAIL = 1 << 20
"""Bytes that are kept of the end of a flood whose middle is dropped."""
SYNC_SECONDS = 1.0
RETRY_SECONDS = 0.3


def words_of_end(last: dict[str, object]) -> dict[str, object]:
    """Return what the last record of a journal says of the kernel's end: without a ``code`` nobody was left to write it down.

    Parameters
    ----------
    last
        The record; empty for none.
    """
    names = ("t", "code", "signal", "told") if last.get("type") == "end" else ("t",)
    return {name: last[name] for name in names if name in last}


class Journal:
    """Appends records to segments. Nothing is written twice or torn, and what has to be left out is told in a `gap`.

    Parameters
    ----------
    folder
        Of the segments.
    limit
        Bytes of all of them; then the middle of floods is dropped.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.file = -1
        self.size = 0
        self.before = 0
        """Bytes of the other segments."""
        self.last: dict[str, object] = {}
        """The last record of the guardian before."""
        self.segment, self.number = self._find_last()
        self.waiting: list[bytes] = []
        self.waiting_bytes = 0
        self.tail: collections.deque[bytes] = collections.deque()
        self.tail_bytes = 0
        self.lost = 0
        self.why = ""
        self.dirty = False
        self.synced = self.measured = 0.0
        self.failed = -RETRY_SECONDS
        self._next_segment()

    def _segments(self) -> list[str]:
        with contextlib.suppress(OSError):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            return sorted(name for name in os.listdir(self.folder) if name.endswith(".jsonl"))
        return []

    def _find_last(self) -> tuple[int, int]:
        """Return the numbers of the last segment and of the last record, so that they go on after a restart."""
        segment = 0
        for name in reversed(self._segments()):
            with contextlib.suppress(OSError, ValueError):
                segment = max(segment, int(name.split(".")[0]))
                self.last = self._last_record(os.path.join(self.folder, name))
                if self.last:
                    return segment, int(str(self.last["n"]))
        # Nothing that can be read: higher than any before.
        return segment, segment * 10**9

    def _last_record(self, place: str) -> dict[str, object]:
        with open(place, "rb") as file:
            for part in (1 << 16, 1 << 30):
                file.seek(max(0, os.fstat(file.fileno()).st_size - part))
                for line in reversed(file.read().split(b"\n")):
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        record: dict[str, object] = json.loads(line)
                        if int(str(record["n"])):
                            return record
        return {}

    def _next_segment(self) -> None:
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            path = os.path.join(self.folder, f"{self.segment + 1:08d}.jsonl")
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.why = error.strerror or str(error)
            return
        if self.file >= 0:
            self.sync()
            os.close(self.file)
        self.file, self.segment = file, self.segment + 1
        self.size = os.fstat(file).st_size
        self._measure(now=True)

    def _measure(self, *, now: bool = False) -> None:
        """Look how large the other segments are: the server deletes those that nobody needs."""
        if not now and time.monotonic() - self.measured < SYNC_SECONDS:
            return
        self.measured = time.monotonic()
        self.before = 0
        for name in self._segments():
            with contextlib.suppress(OSError, ValueError):
                if int(name.split(".")[0]) != self.segment:
                    self.before += os.stat(os.path.join(self.folder, name)).st_size

    @property
    def crowded(self) -> bool:
        """Whether there is room only for what is essential."""
        if self.waiting_bytes > MOST_WAITING:
            return True
        if self.before + self.size < self.limit:
            return False
        self._measure()
        if self.before + self.size < self.limit:
            return False
        self.why = f"the journal is full: {self.limit >> 20} MiB"
        return True

    def add(self, fields: bytes, *, essential: bool = True) -> None:
        """Take a record, without its braces and its number."""
        record = b'"t":%.3f,%s}\n' % (time.time(), fields.replace(b"\n", b" "))
        if (not essential or len(record) > SMALL) and (self.lost or self.tail or self.crowded):
            self.tail.append(record)
            self.tail_bytes += len(record)
            while self.tail_bytes > self._most_of_a_tail():
                self.tail_bytes -= len(self.tail.popleft())
                self.lost += 1
            return
        self.settle()
        self._append(record)

    def drop(self, why: str) -> None:
        """Count a record that nobody had the time to take."""
        self.why = why
        self.lost += 1

    def _most_of_a_tail(self) -> int:
        # Many cells after a flood must not make another one of their tails.
        return TAIL if self.before + self.size < self.limit * 5 // 4 else SMALL

    def settle(self) -> None:
        """Write what is left of a flood, and how much is not."""
        if self.lost and self.waiting_bytes < 2 * MOST_WAITING:
            lost, self.lost = self.lost, 0
            gap = json.dumps({"type": "gap", "why": self.why, "messages": lost})[1:-1].encode()
            self._append(b'"t":%.3f,%s}\n' % (time.time(), gap))
        while self.tail:
            self._append(self.tail.popleft())
        self.tail_bytes = 0

    def _append(self, record: bytes) -> None:
        if self.waiting_bytes > 2 * MOST_WAITING:
            self.lost += 1
            return
        self.number += 1
        line = b'{"n":%d,%s' % (self.number, record)
        self.waiting.append(line)
        self.waiting_bytes += len(line)

    def say(self, kind: str, **fields: object) -> None:
        """Take a record of the guardian's own."""
        self.add(json.dumps({"type": kind, **fields})[1:-1].encode())

    def flush(self, *, now: bool = True) -> None:
        """Write what was taken; where the disk was full a moment ago, not before the next one unless `now`."""
        if not now and time.monotonic() - self.failed < RETRY_SECONDS:
            return
        if self.size > SEGMENT or self.file < 0:
            self._next_segment()
        if not self.waiting or self.file < 0:
            return
        data, written = b"".join(self.waiting), 0
        try:
            while written < len(data):
                written += os.write(self.file, data[written:])
        except OSError as error:
            self.why, self.failed = error.strerror or str(error), time.monotonic()
            # Whole records stay: somebody may have read them. The rest would be doubled at the next try.
            written = data.rfind(b"\n", 0, written) + 1
            try:
                os.ftruncate(self.file, self.size + written)
            except OSError:
                self._next_segment()  # a torn line is the last of its segment
                self.size = os.fstat(self.file).st_size - written
        self.size += written
        self.dirty |= written > 0
        left = data[written:]
        self.waiting, self.waiting_bytes = [left] if left else [], len(left)

    def sync(self, *, now: bool = True) -> None:
        """Make what was written safe from a crash of the machine; not more often than every second unless `now`."""
        if self.dirty and self.file >= 0 and (now or time.monotonic() - self.synced > SYNC_SECONDS):
            self.dirty = False
            self.synced = time.monotonic()
            try:
                os.fsync(self.file)
            except OSError as error:
                self.why = error.strerror or str(error)
