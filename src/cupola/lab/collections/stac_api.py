"""Collections of STAC servers: searched where they are, page by page; and catalogs of linked files."""

from __future__ import annotations

import contextlib
import json
import warnings
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from cupola.exceptions import CupolaError, InputError, NotFoundError, UnavailableError
from cupola.lab.collections import remote
from cupola.lab.collections.interval import parse_interval
from cupola.lab.collections.progress import Progress
from cupola.lab.collections.records import Record, record_of_document
from cupola.lab.collections.servers import fetch, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from cupola.lab.collections.footprint import Box

__all__ = ["MOST", "Wish", "crawl", "head_of", "link", "search"]

MOST = 10_000
"""Items that are taken from a server: nobody looks at more, and each is a page of text."""
_PAGE = 250
_BUSY = [429, 500, 502, 503, 504]
_TRIES = 4
_FORBIDDEN = (401, 403)


class Wish:
    """What is asked of a server."""

    def __init__(self, bbox: Box | None, datetime: str | None, query: str | None) -> None:
        self.bbox, self.datetime, self.query = bbox, datetime, query

    def key(self, source: str) -> str:
        """Return the name under which the answer is kept."""
        said = {"bbox": self.bbox, "datetime": self.datetime, "query": self.query}
        said = {name: value for name, value in said.items() if value is not None}
        return f"{source}#{json.dumps(said, sort_keys=True)}" if said else source

    def boxes(self) -> list[list[float] | None]:
        """Return the box as servers understand it: within ±180 degrees, cut in two where it crosses the antimeridian."""
        if self.bbox is None:
            return [None]
        west, south, east, north = self.bbox
        if east - west >= 360:  # noqa: PLR2004 - once around
            return [[-180.0, south, 180.0, north]]
        west, east = _wrapped(west), _wrapped(east) if east != 180 else 180.0  # noqa: PLR2004
        if west <= east:
            return [[west, south, east, north]]
        return [[west, south, 180.0, north], [-180.0, south, east, north]]

    def span(self) -> str | None:
        """Return the time as servers understand it."""
        if self.datetime is None:
            return None
        start, end = parse_interval(self.datetime)
        # Servers count the end in, we do not.
        last = end - timedelta(milliseconds=1) if end else None
        return "/".join(
            moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            if moment
            else ".."
            for moment in (start, last)
        )


def _wrapped(longitude: float) -> float:
    return (longitude + 180.0) % 360.0 - 180.0


def link(document: dict[str, Any], kind: str, base: str) -> str | None:
    """Return the address of a document's first link of a kind."""
    for one in document.get("links") or []:
        if isinstance(one, dict) and one.get("rel") == kind and one.get("href"):
            return urljoin(base, str(one["href"]))
    return None


def head_of(document: dict[str, Any], address: str) -> dict[str, Any]:
    """Return a server's collection document.

    Raises
    ------
    InputError
        When it is the server itself; the text names its collections.
    """
    if document.get("type") == "Catalog" and document.get("conformsTo"):
        raise InputError(
            f"{address} is a STAC server: open one of its collections, such as "
            f"cupola.open('{address.rstrip('/')}/collections/NAME')."
        )
    return document


def search(
    web: httpx.Client,
    address: str,
    document: dict[str, Any],
    wish: Wish,
    call: Callable[[int, int], object] | None,
) -> tuple[list[Record], str]:
    """Return the items of a server's collection, the newest first where it can sort, and a word where some are missing.

    Raises
    ------
    UnavailableError
        When the server does not answer or stays busy.
    InputError
        When it refuses.
    """
    name = str(document.get("id") or "")
    found: dict[str, Record] = {}
    matched = 0
    try:
        with (
            Progress("items", 0, call) as progress,
            _searcher(link(document, "root", address) or address) as client,
        ):
            for page in _all_pages(client, web, address, document, wish):
                features = page.get("features") or []
                total = page.get("numberMatched") or (page.get("context") or {}).get("matched") or 0
                matched = max(matched, int(total))
                for feature in features:
                    _add(found, feature, address)
                progress.step(len(features))
                if len(found) > MOST:
                    break
    except CupolaError:
        raise
    except Exception as error:
        # pystac-client lets errors of three libraries through.
        raise _told(address, name, error) from error
    records = list(found.values())[:MOST]
    return records, _missing(address, max(matched, len(found)), wish) if len(found) > MOST else ""


def _all_pages(
    client: Any, web: httpx.Client, address: str, document: dict[str, Any], wish: Wish
) -> Iterator[dict[str, Any]]:
    """Yield pages of items, asking for the next only when it is wanted."""
    if not client.conforms_to("ITEM_SEARCH"):
        yield from _listed(web, link(document, "items", address) or address)
        return
    for box in wish.boxes():
        yield from _pages(client, str(document.get("id") or ""), box, wish)


def _add(found: dict[str, Record], feature: dict[str, Any], address: str) -> None:
    place = link(feature, "self", address) or f"{address.rstrip('/')}/items/{feature.get('id')}"
    record = record_of_document(feature, place, (0, 0), keep=True)
    if record is not None:
        found.setdefault(record.id, record)


def _missing(address: str, matched: int, wish: Wish) -> str:
    how_many = f"{matched:,}" if matched > MOST + 1 else f"more than {MOST:,}"
    more = "another" if wish.bbox or wish.datetime else "a"
    text = (
        f"{address} has {how_many} items that fit, and only {MOST:,} of them are here: give {more} smaller bbox or "
        "span of time."
    )
    warnings.warn(text, UserWarning, stacklevel=2)
    return text


@contextlib.contextmanager
def _searcher(root: str) -> Iterator[Any]:
    """Give the client of a STAC server."""
    from pystac_client import Client
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    retries = Retry(
        total=_TRIES,
        backoff_factor=0.5,
        status_forcelist=_BUSY,
        allowed_methods=None,
        respect_retry_after_header=True,
    )
    asking = StacApiIO(max_retries=retries, timeout=(10, 60))
    with contextlib.closing(asking.session), warnings.catch_warnings():
        # Servers that lack a link or do not say all that they can are no news to a person.
        warnings.simplefilter("ignore")
        yield Client.open(root, stac_io=asking)


def _pages(client: Any, name: str, box: list[float] | None, wish: Wish) -> Iterator[dict[str, Any]]:
    """Yield pages of a search."""
    options: dict[str, Any] = {"collections": [name], "limit": _PAGE, "datetime": wish.span(), "bbox": box}
    if client.conforms_to("SORT"):
        options["sortby"] = "-properties.datetime"
    if wish.query and client.conforms_to("FILTER") and "circle(" not in wish.query:
        options |= {"filter": wish.query, "filter_lang": "cql2-text"}
    methods = {str(one.extra_fields.get("method", "GET")).upper() for one in client.get_links("search")}
    options["method"] = "POST" if "POST" in methods else "GET"
    yield from client.search(**options).pages_as_dicts()


def _listed(web: httpx.Client, address: str) -> Iterator[dict[str, Any]]:
    """Yield all items of a server that cannot search."""
    todo: str | None = f"{address}{'&' if '?' in address else '?'}limit={_PAGE}"
    seen: set[str] = set()
    while todo and todo not in seen:
        seen.add(todo)
        page = fetch(web, todo).json()
        yield page
        todo = link(page, "next", todo)


def _told(address: str, name: str, error: Exception) -> CupolaError:
    """Return what went wrong at a server, in a sentence."""
    code = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    said = " ".join(str(error).split())[:300]
    if code is None:
        if "too many" in said and "error responses" in said:
            return UnavailableError(f"{address} cannot be searched: {remote.status_words(_code_in(said))}.")
        if any(word in type(error).__name__ for word in ("Connection", "Timeout", "Retry")):
            return UnavailableError(
                f"{address} cannot be reached: look whether the address is right and this session has a way out."
            )
        return UnavailableError(f"{address} cannot be searched: {said or type(error).__name__}.")
    if code == 404:  # noqa: PLR2004
        return NotFoundError(f"{address} has no collection {name!r} any more.")
    if code in _BUSY or code in _FORBIDDEN:
        return UnavailableError(f"{address} cannot be searched: {remote.status_words(int(code))}.")
    return InputError(f"{address} refuses the search: {said}")


def _code_in(said: str) -> int:
    return next((code for code in _BUSY if f"{code} error" in said), _BUSY[-1])


def crawl(
    client: httpx.Client, address: str, document: dict[str, Any], call: Callable[[int, int], object] | None
) -> tuple[list[Record], str]:
    """Return the items that a catalog of linked files leads to, and a word where some are missing.

    Raises
    ------
    UnavailableError
        When a file cannot be reached.
    """
    records: dict[str, Record] = {}
    todo, seen = [(address, document)], {address}
    with Progress("items", 0, call) as progress:
        while todo and len(records) <= MOST:
            place, catalog = todo.pop(0)
            links = [one for one in catalog.get("links") or [] if isinstance(one, dict) and one.get("href")]
            wanted = [
                there
                for one in links
                if one.get("rel") in ("item", "child")
                and (there := urljoin(place, str(one["href"]))) not in seen
            ]
            seen.update(wanted)
            for there, text in together(wanted, lambda there: fetch(client, there).content):
                try:
                    found = json.loads(text)
                except ValueError as error:
                    raise InputError(f"{there} is no STAC document, though {place} says so.") from error
                record = record_of_document(found, there, (0, 0), keep=True)
                if record is not None:
                    records.setdefault(record.id, record)
                    progress.step()
                elif isinstance(found, dict):
                    todo.append((there, found))
    kept = list(records.values())[:MOST]
    return kept, _missing(address, len(records), Wish(None, None, None)) if len(records) > MOST else ""
