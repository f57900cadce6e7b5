"""Files on other machines as files of Python: only the blocks that are looked at are fetched, and kept for a while."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

from cupola.exceptions import CupolaError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx

__all__ = ["RemoteFile", "explained", "open_remote"]

BLOCK = 64 * 1024
"""Bytes that are asked for at least: headers of files are read in small pieces."""
_CACHE = 96 * 1024 * 1024
"""Bytes of all files that stay in memory."""
_AHEAD = 8
"""Blocks that are fetched ahead at most where a file is read from end to end."""
_MOST_BLOCKS = 128
"""Blocks in one request."""
_AT_ONCE = 6
_KNOWN_S = 60.0
"""Seconds for which size and state of a file are taken as they were."""
_WHOLE = 32 * 1024 * 1024
"""A file that a server sends only as a whole is taken up to this size."""
_PARTIAL = 206


class _Source(Protocol):
    """Where the bytes of a file are."""

    size: int
    state: str
    """Another text means another content."""

    def get(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to before `stop`."""


@dataclass
class _Known:
    """A file that was asked about."""

    source: _Source
    when: float


_blocks: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
_known: OrderedDict[str, _Known] = OrderedDict()
_lock = threading.Lock()
_held = 0


def forget() -> None:
    """Let everything go that was fetched."""
    global _held  # noqa: PLW0603 - one sum for the process
    with _lock:
        _blocks.clear()
        _known.clear()
        _held = 0


def open_remote(address: str) -> RemoteFile:
    """Open a file at ``https://`` or ``s3://`` for reading.

    Raises
    ------
    ImageError
        When there is none, or it cannot be read in parts.
    """
    with _lock:
        known = _known.get(address)
    if known is None or time.monotonic() - known.when > _KNOWN_S:
        try:
            source: _Source = (_Object if address.startswith("s3://") else _Page)(address)
        except CupolaError as error:
            raise ImageError(str(error)) from error
        known = _Known(source, time.monotonic())
        with _lock:
            _known[address] = known
            while len(_known) > 256:  # noqa: PLR2004 - as many as a viewport over a mosaic may need
                _known.popitem(last=False)
    return RemoteFile(address, known.source)


class _Object:
    """An object of a store."""

    def __init__(self, address: str) -> None:
        from cupola.lab.collections import objects

        self.address = address
        with objects.explained(address):
            self._file = objects.ask(
                address, lambda files: files.open_input_file(address.removeprefix("s3://"))
            )
            self.size = int(self._file.size())
            said = self._file.metadata() or {}
        objects.close_at_exit(self._file)
        self.state = str(said.get(b"ETag") or said.get(b"Last-Modified") or self.size)

    def get(self, start: int, stop: int) -> bytes:
        from cupola.lab.collections import objects

        with objects.explained(self.address):
            return bytes(self._file.read_at(stop - start, start))


class _Page:
    """A file of a web server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.state = ""
        answer = self._ask(0, BLOCK)
        said = answer.headers.get("content-range", "").rpartition("/")[2]
        self._whole: bytes | None = None
        if said.isdigit():
            self.size = int(said)
        else:
            self._whole = answer.content
            self.size = len(answer.content)
        self.state = _state(answer)
        _remember(address, self.state, 0, answer.content[:BLOCK])

    def get(self, start: int, stop: int) -> bytes:
        if self._whole is not None:
            return self._whole[start:stop]
        answer = self._ask(start, stop)
        if _state(answer) != self.state:
            with _lock:
                _known.pop(self.address, None)
            raise ImageError(f"{self.address} changed on its server while it was read: open it again.")
        return answer.content

    def _ask(self, start: int, stop: int) -> httpx.Response:
        from cupola.lab.collections.addresses import client
        from cupola.lab.collections.servers import fetch

        # Compressed on the way, ranges would be those of the compressed text.
        headers = {"range": f"bytes={start}-{stop - 1}", "accept-encoding": "identity"}
        return fetch(client(), self.address, ask=_in_part, headers=headers)


def _in_part(client: httpx.Client, address: str, **options: Any) -> httpx.Response:
    """Ask for a part of a file, and do not wait for gigabytes where a server sends the whole."""
    from cupola.lab.collections.remote import named

    with client.stream("GET", address, **options) as answer:
        if answer.status_code == 200 and "content-range" not in answer.headers:  # noqa: PLR2004 - the whole file
            size = answer.headers.get("content-length", "")
            if not size.isdigit() or int(size) > _WHOLE:
                raise ImageError(
                    f"{named(address)} cannot be read in place: its server sends whole files only; copy it to a volume "
                    "first."
                )
        answer.read()
    return answer


def _state(answer: httpx.Response) -> str:
    said = answer.headers
    return (
        said.get("etag")
        or f"{said.get('last-modified', '')} {said.get('content-range', '').rpartition('/')[2]}"
    )


def _remember(address: str, state: str, number: int, block: bytes) -> None:
    global _held  # noqa: PLW0603
    with _lock:
        old = _blocks.pop((address, state, number), b"")
        _blocks[address, state, number] = block
        _held += len(block) - len(old)
        while _held > _CACHE and len(_blocks) > 1:
            _held -= len(_blocks.popitem(last=False)[1])


@contextlib.contextmanager
def explained(file: RemoteFile | None) -> Iterator[None]:
    """Say why bytes could not be fetched, where a library only says that it could not read."""
    try:
        yield
    except BaseException:
        if file is not None and file.trouble:
            why, file.trouble = file.trouble, ""
            raise ImageError(why) from None
        raise


class RemoteFile(io.RawIOBase):
    """A file that is read from where it is; every reader has a place of its own in it.

    Parameters
    ----------
    address
        Where it is.
    source
        What gives its bytes.
    """

    mode = "rb"

    def __init__(self, address: str, source: _Source) -> None:
        super().__init__()
        self.address = address
        self.size = source.size
        self._source = source
        self._at = 0
        self._next = -1
        self._ahead = 1
        self.trouble = ""
        """Why bytes could not be fetched: libraries that read from here make other words of it.

        Not the error itself: it would hold, by its traceback, what those libraries have open, and be held by it.
        """

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    @override
    def read(self, size: int | None = -1) -> bytes:
        stop = self.size if size is None or size < 0 else min(self.size, self._at + size)
        found = self.part(self._at, stop)
        self._at += len(found)
        return found

    @override
    def readall(self) -> bytes:
        return self.read()

    @override
    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def part(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to before `stop`.

        Raises
        ------
        ImageError
            When they cannot be fetched.
        """
        stop = min(stop, self.size)
        if stop <= start:
            return b""
        first, last = start // BLOCK, (stop - 1) // BLOCK
        # Who goes on where the last part ended will go on: more is fetched each time.
        if first == self._next:
            self._ahead = min(self._ahead * 2, _AHEAD)
        elif first != self._next - 1:
            self._ahead = 1
        self._next = last + 1
        found = self._blocks(range(first, last + 1), ahead=self._ahead)
        text = b"".join(found[number] for number in range(first, last + 1))
        return text[start - first * BLOCK : stop - first * BLOCK]

    def parts(self, places: Iterable[tuple[int, int]]) -> list[bytes]:
        """Return many parts (start, stop) at once: neighbours are fetched together, several requests at a time."""
        wanted = [(start, min(stop, self.size)) for start, stop in places]
        numbers = {
            number
            for start, stop in wanted
            for number in range(start // BLOCK, (max(start + 1, stop) - 1) // BLOCK + 1)
        }
        found = self._blocks(sorted(numbers), ahead=0)
        texts = []
        for start, stop in wanted:
            first = start // BLOCK
            text = b"".join(found[number] for number in range(first, (max(start + 1, stop) - 1) // BLOCK + 1))
            texts.append(text[start - first * BLOCK : stop - first * BLOCK])
        return texts

    def _blocks(self, numbers: Iterable[int], *, ahead: int) -> dict[int, bytes]:
        """Return blocks by their numbers, those that are missing fetched, and a few behind them with those."""
        found, missing = {}, []
        state = self._source.state
        with _lock:
            for number in numbers:
                block = _blocks.get((self.address, state, number))
                if block is None:
                    missing.append(number)
                else:
                    _blocks.move_to_end((self.address, state, number))
                    found[number] = block
        runs = _runs(missing)
        if runs and ahead > 1:
            count = -(-self.size // BLOCK)
            runs[-1] = (runs[-1][0], min(max(runs[-1][1], runs[-1][0] + ahead), count))
        try:
            if len(runs) == 1:
                found |= self._fetch(runs[0])
            elif runs:
                with ThreadPoolExecutor(min(_AT_ONCE, len(runs))) as workers:
                    for some in workers.map(self._fetch, runs):
                        found |= some
        except CupolaError as error:
            self.trouble = str(error)
            raise ImageError(self.trouble) from error
        return found

    def _fetch(self, run: tuple[int, int]) -> dict[int, bytes]:
        first, last = run
        start, stop = first * BLOCK, min(last * BLOCK, self.size)
        text = self._source.get(start, stop)
        if len(text) != stop - start:
            raise ImageError(
                f"{self.address} ended before its end: it changed while it was read; open it again."
            )
        found = {}
        for number in range(first, last):
            block = text[(number - first) * BLOCK : (number - first + 1) * BLOCK]
            _remember(self.address, self._source.state, number, block)
            found[number] = block
        return found


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return runs (first, behind the last) of ascending numbers, each short enough for one request."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number and number - runs[-1][0] < _MOST_BLOCKS:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
