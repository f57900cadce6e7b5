"""What lies on a server: the objects below a prefix of a store (S3), or the files that a web server lists.

Nothing is fetched but the listing, the STAC documents and the headers of images; pixels are read in place.
"""

from __future__ import annotations

import html.parser
import json
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from typing_extensions import override

from cupola.exceptions import CupolaError, ImageError, InputError, NotFoundError, UnavailableError
from cupola.lab.collections import objects, remote
from cupola.lab.collections.images import IMAGE_SUFFIXES, is_image_name
from cupola.lab.collections.listing import DEPTH, DOCUMENTS, Listing, suffix
from cupola.lab.collections.look import Look
from cupola.lab.collections.records import Record, record_of_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import httpx

    from cupola.lab.collections.index import Kept

__all__ = ["FRESH_S", "ServerLook", "StoreLook", "WebLook", "fetch", "together"]

_Found = TypeVar("_Found")

FRESH_S = 900.0
"""Seconds for which a server is not asked again what it holds, unless somebody says `refresh`."""
_AT_ONCE = 8
_WINDOW = 200
"""Requests that are handed out together: of 100,000 answers only so many wait in memory."""
_TRIES = 4
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 20.0
_TIMEOUT_S = 30.0
_MOST_PAGES = 2_000
"""Pages of a web server's listing that are followed."""
_BUSY = (429, 500, 502, 503, 504)
_WRONG = 400


def fetch(
    client: httpx.Client,
    address: str,
    *,
    ask: Callable[..., httpx.Response] | None = None,
    **options: Any,
) -> httpx.Response:
    """Ask a server, again where it is busy; `ask` is another way to get the answer than the whole of it.

    Raises
    ------
    NotFoundError
        When there is no such thing.
    UnavailableError
        When it cannot be reached or stays busy; InputError when it refuses.
    """
    import httpx

    for attempt in range(_TRIES):
        wait = _PAUSE_S * 2**attempt
        try:
            answer = ask(client, address, **options) if ask else client.get(address, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if attempt == _TRIES - 1 or not isinstance(error, httpx.TransportError):
                host = urlsplit(address).netloc.rpartition("@")[2]
                raise UnavailableError(
                    f"{remote.named(address)} cannot be reached: {host} does not answer; look whether the address is right "
                    "and this session has a way out."
                ) from error
        else:
            if answer.status_code not in _BUSY or attempt == _TRIES - 1:
                return _good(answer, address)
            asked = answer.headers.get("retry-after", "")
            wait = float(asked) if asked.isdigit() else wait
        time.sleep(min(wait, _LONGEST_PAUSE_S))
    raise AssertionError("the last try returns or raises")


def _good(answer: httpx.Response, address: str) -> httpx.Response:
    code = answer.status_code
    if code < _WRONG:
        return answer
    text = f"{remote.named(address)} cannot be read: {remote.status_words(code)}."
    if code in (404, 410):
        raise NotFoundError(text)
    raise UnavailableError(text) if code in _BUSY else InputError(text)


class ServerLook(Look):
    """A look at a place on a server."""

    keeps_documents = True

    def __init__(
        self, source: str, *, has_head: bool, progress: Callable[[int, int], object] | None = None
    ) -> None:
        super().__init__(source, has_head=has_head, progress=progress)
        self._listing: Listing | None = None

    @override
    def list(self) -> Listing:
        if self._listing is None:
            self._listing = self.ask()
        return self._listing

    def ask(self) -> Listing:
        """Ask the server what lies there."""
        raise NotImplementedError

    @override
    def unchanged(self, known: Kept) -> bool:
        return time.time() - known.looked < FRESH_S

    def read(self, name: str) -> bytes | None:
        """Return a document; nothing if it is gone."""
        raise NotImplementedError

    def place(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.source.rstrip('/')}/{name}"

    def head(self) -> dict[str, Any] | None:
        """Return the document that speaks for the place."""
        documents = self.list().documents
        for name in ("collection.json", "catalog.json"):
            text = self.read(name) if name in documents else None
            try:
                document = json.loads(text) if text else None
            except ValueError:
                continue
            if isinstance(document, dict) and document.get("type") in ("Collection", "Catalog"):
                return document
        return None

    @override
    def texts(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        yield from together(names, self.read)

    @override
    def images(self, stamps: dict[str, tuple[int, int]]) -> Iterator[tuple[str, Record | CupolaError]]:
        def look(name: str) -> Record | CupolaError:
            try:
                return record_of_image(self.place(name), name, stamps[name])
            except CupolaError as error:
                return error

        yield from together(list(stamps), look)


def together(names: Sequence[str], ask: Callable[[str], _Found]) -> Iterator[tuple[str, _Found]]:
    """Ask for many things at a time, in order."""
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        for start in range(0, len(names), _WINDOW):
            some = names[start : start + _WINDOW]
            yield from zip(some, workers.map(ask, some), strict=True)


class StoreLook(ServerLook):
    """A look through the objects below a prefix: ``s3://bucket/prefix``."""

    def __init__(self, source: str, **more: Any) -> None:
        super().__init__(source, **more)
        self.prefix = source.removeprefix("s3://").rstrip("/")

    @override
    def read(self, name: str) -> bytes | None:
        def text(files: Any) -> bytes:
            with files.open_input_stream(f"{self.prefix}/{name}") as stream:
                return bytes(stream.read())

        try:
            return objects.ask(self.place(name), text)
        except FileNotFoundError:
            return None

    @override
    def ask(self) -> Listing:
        from pyarrow import fs

        found = Listing()
        wanted = fs.FileSelector(self.prefix, recursive=True, allow_not_found=True)
        infos = objects.ask(self.source, lambda files: files.get_file_info(wanted))
        if not infos and (reason := objects.no_bucket(self.source)) is not None:
            raise reason
        for info in sorted(infos, key=lambda info: info.path):
            name = info.path[len(self.prefix) + 1 :]
            if info.is_file and not any(part.startswith(".") for part in name.split("/")):
                _note(found, name, (info.mtime_ns or 0, info.size or 0))
        return found


def _note(found: Listing, name: str, stamp: tuple[int, int]) -> None:
    if suffix(name) in DOCUMENTS:
        found.documents[name] = stamp
    elif suffix(name) in IMAGE_SUFFIXES or is_image_name(name):
        found.images[name] = stamp


class WebLook(ServerLook):
    """A look through the pages on which a web server lists its files."""

    def __init__(self, source: str, client: httpx.Client, **more: Any) -> None:
        super().__init__(source, **more)
        self.base = source.rstrip("/") + "/"
        self._client = client

    @override
    def read(self, name: str) -> bytes | None:
        try:
            return fetch(self._client, self.place(name)).content
        except NotFoundError:
            return None

    @override
    def ask(self) -> Listing:
        found = Listing()
        todo, seen = [(self.base, 0)], {self.base}
        while todo and len(seen) <= _MOST_PAGES:
            page, level = todo.pop(0)
            for address, said in _links(fetch(self._client, page)):
                if address in seen or not address.startswith(self.base):
                    continue
                name = unquote(address[len(self.base) :])
                if any(part.startswith(".") for part in name.split("/")):
                    continue
                if not address.endswith("/"):
                    _note(found, address[len(self.base) :], (_stamp(said), 0))
                elif level < DEPTH:
                    seen.add(address)
                    todo.append((address, level + 1))
        return found


def _stamp(said: str) -> int:
    """Return a number that changes when what the listing says of a file does (its date and size)."""
    return zlib.crc32(" ".join(said.split()).encode())


class _Anchors(html.parser.HTMLParser):
    """Collects the links of a page, and the text after each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (address := dict(attrs).get("href")):
            self.found.append([address, ""])

    @override
    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][1] += data


def _links(answer: httpx.Response) -> Iterator[tuple[str, str]]:
    """Yield the addresses that a page links to, without those that only sort it anew."""
    if "html" not in answer.headers.get("content-type", ""):
        raise ImageError(f"{answer.url} is neither an image, a STAC document nor a list of files.")
    parser = _Anchors()
    parser.feed(answer.text)
    for address, said in parser.found:
        if not address.startswith(("?", "#")):
            yield urldefrag(urljoin(str(answer.url), address)).url, said
