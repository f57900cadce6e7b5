"""Collections on other machines by their address: STAC servers and catalogs, object stores, web servers, single files."""

from __future__ import annotations

import atexit
import contextlib
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from cupola.exceptions import ImageError, NotFoundError, UnavailableError
from cupola.lab.collections import index, stac_api
from cupola.lab.collections.images import is_image_name
from cupola.lab.collections.records import Record, record_of_document, record_of_image
from cupola.lab.collections.scan import Found
from cupola.lab.collections.servers import FRESH_S, ServerLook, StoreLook, WebLook, fetch
from cupola.lab.collections.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from cupola.lab.collections.stac_api import Wish

__all__ = ["clean", "find_at", "searches"]

_KEPT = 64
_TIMEOUT_S = 30.0


@dataclass
class Place:
    """What an address turned out to be."""

    kind: str
    """``api``, ``catalog``, ``items``, ``store``, ``web``, ``image``."""
    address: str
    document: dict[str, Any] = field(default_factory=dict)
    when: float = 0.0


_places: OrderedDict[str, Place] = OrderedDict()
_client: list[httpx.Client] = []


def client() -> httpx.Client:
    """Return the connections of this process."""
    if not _client:
        import httpx

        _client.append(httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True))
        atexit.register(_client[0].close)
    return _client[0]


def clean(address: str) -> str:
    """Return an address without what only says that it is STAC, and with the slashes that a path took from it."""
    text = address.removeprefix("stac+")
    scheme, colon, rest = text.partition(":")
    return f"{scheme}{colon}//{rest.lstrip('/')}" if colon else text


def searches(address: str, wish: Wish) -> bool:
    """Tell whether an address is a collection that its server searches: then only what is asked for is fetched.

    Raises
    ------
    CupolaError
        When there is nothing, or it cannot be reached.
    """
    if _kept(address, wish) is not None:
        return bool(index.recall(wish.key(address)) and _said(wish.key(address)).get("api"))
    try:
        return _place(address).kind == "api"
    except UnavailableError:
        key = _kept(address, wish, fresh=False)
        if key is None:
            raise
        return bool(_said(key).get("api"))


def _said(key: str) -> dict[str, Any]:
    kept = index.recall(key)
    return {} if kept is None else kept.said


def _kept(address: str, wish: Wish, *, fresh: bool = True) -> str | None:
    """Return the name under which an answer is kept that holds still."""
    for key in dict.fromkeys((wish.key(address), address)):
        kept = index.recall(key)
        if kept is None or (key != wish.key(address) and kept.said.get("api")) or "id" not in kept.said:
            continue
        if not fresh or time.time() - kept.looked < FRESH_S:
            return key
        # Another process may have asked again meanwhile.
        index.forget(key)
        kept = index.recall(key)
        if kept is not None and time.time() - kept.looked < FRESH_S:
            return key
    return None


def find_at(
    address: str, wish: Wish, *, thorough: bool = False, progress: Callable[[int, int], object] | None = None
) -> Found:
    """Return what an address holds, from the last quarter of an hour unless a new look is asked for.

    Raises
    ------
    NotFoundError
        When there is nothing.
    UnavailableError
        When it cannot be reached, and was not before either.
    """
    if not thorough and (key := _kept(address, wish)) is not None:
        return _found(key)
    if thorough:
        _places.pop(address, None)
    try:
        return _ask(address, wish, progress)
    except UnavailableError:
        # What was there an hour ago is better than a map that breaks.
        if thorough or (key := _kept(address, wish, fresh=False)) is None:
            raise
        return _found(key)


def _ask(address: str, wish: Wish, progress: Callable[[int, int], object] | None) -> Found:
    place = _place(address)
    if place.kind in ("store", "web"):
        return _listed(place, progress)
    if place.kind == "api":
        records, note = stac_api.search(client(), place.address, place.document, wish, progress)
        return _keep(wish.key(address), place, records, note)
    if place.kind == "catalog":
        records, note = stac_api.crawl(client(), place.address, place.document, progress)
        return _keep(address, place, records, note)
    if place.kind == "image":
        return _keep(address, place, [record_of_image(place.address, place.address, (0, 0))], "")
    documents = place.document.get("features") or [place.document]
    found = [record_of_document(one, place.address, (0, 0), keep=True) for one in documents]
    return _keep(address, place, [record for record in found if record is not None], "")


def _keep(key: str, place: Place, records: list[Record], note: str) -> Found:
    """Keep an answer for other processes."""
    document = place.document
    name = str(document.get("id") or PurePosixPath(urlsplit(place.address).path).stem or key)
    said = {
        "id": name,
        "title": str(document.get("title") or (document.get("properties") or {}).get("title") or name),
        "description": str(document.get("description") or ""),
        "note": note,
        "api": place.kind == "api",
        "root": place.address,
    }
    if not records and place.kind != "api":
        raise NotFoundError(f"{place.address} leads to no item.")
    index.remember(key, index.keep(key, [], [records], others={}, said=said))
    return _found(key)


def _found(key: str) -> Found:
    kept = index.recall(key)
    if kept is None:
        raise UnavailableError(f"What {key} holds was forgotten while it was read: open it again.")
    said = kept.said
    if kept.table is None:
        unreadable = {name: str(entry[2]) for name, entry in kept.others.items() if entry[2]}
        note = str(said.get("note") or "")
        kept.table = Table.build(str(said["root"]), kept.pieces, unreadable=unreadable, note=note)
    table = kept.table
    return Found(table, np.arange(len(table)), str(said["id"]), str(said["title"]), str(said["description"]))


def _listed(place: Place, progress: Callable[[int, int], object] | None) -> Found:
    """Return what lies below a prefix of a store, or on the pages of a web server."""
    look: ServerLook
    if place.kind == "store":
        look = StoreLook(place.address, has_head=False, progress=progress)
    else:
        look = WebLook(place.address, client(), has_head=False, progress=progress)
    head = look.head()
    look.has_head = head is not None
    name = str((head or {}).get("id") or PurePosixPath(urlsplit(place.address).path).name or place.address)
    look.said = {
        "id": name,
        "title": str((head or {}).get("title") or name),
        "description": str((head or {}).get("description") or ""),
        "api": False,
        "root": place.address,
    }
    table = look.table(thorough=True)
    if not len(table) and head is None:
        why = next(iter(table.unreadable.values()), "")
        raise NotFoundError(f"{place.address} holds no images{f' that can be read: {why}' if why else '.'}")
    return _found(place.address)


def _place(address: str) -> Place:
    """Ask what an address is.

    Raises
    ------
    NotFoundError
        When there is nothing.
    UnavailableError
        When it cannot be reached.
    """
    known = _places.get(address)
    if known is not None and time.time() - known.when < FRESH_S:
        return known
    found = _look_up(address)
    found.when = time.time()
    _places[address] = found
    while len(_places) > _KEPT:
        _places.popitem(last=False)
    return found


def _look_up(address: str) -> Place:
    if is_image_name(urlsplit(address).path) and not address.endswith((".xml", ".lbl", "/")):
        return Place("image", address)
    if address.startswith("s3://"):
        return Place("store", address)
    answer = fetch(
        client(), address, headers={"accept": "application/json, application/geo+json, text/html;q=0.5"}
    )
    place = str(answer.url)
    if "html" in answer.headers.get("content-type", ""):
        return Place("web", place)
    document: Any = None
    with contextlib.suppress(ValueError):
        document = json.loads(answer.content)
    if not isinstance(document, dict) or document.get("type") not in (
        "Collection", "Catalog", "Feature", "FeatureCollection",
    ):  # fmt: skip
        raise ImageError(f"{address} is neither an image, a STAC document nor a list of files.")
    if document["type"] in ("Feature", "FeatureCollection"):
        return Place("items", place, document)
    if document["type"] == "Collection" and stac_api.link(document, "items", place):
        return Place("api", place, document)
    return Place("catalog", place, stac_api.head_of(document, place))


def forget() -> None:
    """Take no notice any more of what addresses turned out to be."""
    _places.clear()
