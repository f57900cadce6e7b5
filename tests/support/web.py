"""Real web servers on the loopback for tests of collections: files by range, and a STAC API."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from cupola.lab.collections.query import parse_query
from cupola.lab.collections.records import record_of_document
from cupola.lab.collections.table import Table
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

__all__ = ["Partial", "StacServer", "WebFiles", "served"]

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application in a thread; yields its address."""
    # Garbage of HDF5 that this thread would find may not go while a test's thread reads HDF5, and so waits for this one.
    gc.collect()
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@dataclass
class WebFiles:
    """The files of a folder, listed on pages as common web servers do, and read by ranges; counts what was sent."""

    folder: Path
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of each request."""

    def __post_init__(self) -> None:
        self._app = FastAPI()
        self._app.add_api_route("/{path:path}", self._get, methods=["GET", "HEAD"])

    async def _get(self, path: str, request: Request) -> Any:
        place = self.folder / path
        self.asked.append((path, request.headers.get("range", "")))
        if place.is_dir():
            rows = "".join(
                f'<a href="{escape(entry.name)}{"/" if entry.is_dir() else ""}">{escape(entry.name)}</a> '
                f"{datetime.fromtimestamp(entry.stat().st_mtime)} {entry.stat().st_size}\n"  # noqa: DTZ006 - as servers write it
                for entry in sorted(place.iterdir())
            )
            return HTMLResponse(
                f'<html><body><a href="?C=N">Name</a> <a href="../">Up</a><pre>{rows}</pre></body></html>'
            )
        if not place.is_file():
            raise HTTPException(404)
        return FileResponse(place)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.body":
                path = scope["path"].lstrip("/")
                self.sent[path] = self.sent.get(path, 0) + len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, counted)


class Partial:
    """Stands before a store and says 206 where it sends a part of an object, as Amazon's does; rclone says 200 there.

    GDAL then takes the part for the whole. Counts what was sent of each object.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.sent: dict[str, int] = {}
        self.refuse: Callable[[dict[str, str]], tuple[int, str, dict[str, str]] | None] = lambda _headers: (
            None
        )
        """Given the headers of a request: status, code and headers of a refusal such as the store itself never makes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # nobody sends a body to a store that is read
        asked = {key.decode(): value.decode() for key, value in scope["headers"]}
        if (refused := self.refuse(asked)) is not None:
            status, code, more = refused
            body = f"<Error><Code>{code}</Code><Message>Refused</Message></Error>".encode()
            given = [(key.encode(), value.encode()) for key, value in more.items()]
            given.append((b"content-type", b"application/xml"))
            await send({"type": "http.response.start", "status": status, "headers": given})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
            return
        path = scope["raw_path"].decode() + (
            f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        )
        # Without TLS over the loopback: certificates would be read for each request.
        # A connection that a loaded machine loses is made again.
        transport = httpx.AsyncHTTPTransport(verify=False, retries=5)
        async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(60, connect=5)) as client:
            answer = await client.request(scope["method"], f"{self.target}{path}", headers=scope["headers"])
        name = scope["path"].lstrip("/")
        self.sent[name] = self.sent.get(name, 0) + len(answer.content)
        status = (
            206 if answer.status_code == 200 and "content-range" in answer.headers else answer.status_code
        )
        headers = [(key, value) for key, value in answer.headers.raw if key.lower() != b"transfer-encoding"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})


class StacServer:
    """A STAC API over items in memory: landing page, collections, search with pages, sorting and CQL2."""

    def __init__(self, items: list[dict[str, Any]], *, conforms: list[str] = CONFORMS) -> None:
        self.items = {"scenes": items}
        self.searches: list[dict[str, Any]] = []
        self.trouble: list[int] = []
        """Codes that the next requests are answered with."""
        self.app = FastAPI()
        self.conforms = conforms
        self.app.middleware("http")(self._troubled)
        self.app.get("/stac")(self._landing)
        self.app.get("/stac/collections")(self._collections)
        self.app.get("/stac/collections/{name}")(self._collection)
        self.app.get("/stac/collections/{name}/items")(self._items)
        self.app.api_route("/stac/search", methods=["GET", "POST"])(self._search)

    async def _troubled(self, request: Request, call_next: Any) -> Any:
        if self.trouble:
            return JSONResponse({"code": "Trouble"}, self.trouble.pop(0), {"retry-after": "0"})
        return await call_next(request)

    def _landing(self, request: Request) -> dict[str, Any]:
        base = str(request.base_url) + "stac"
        links = [
            {"rel": rel, "href": f"{base}{path}", "type": "application/json"}
            for rel, path in (("self", ""), ("root", ""), ("data", "/collections"))
        ] + [
            {"rel": "search", "href": f"{base}/search", "type": "application/geo+json", "method": method}
            for method in ("GET", "POST")
        ]
        return {
            "type": "Catalog", "stac_version": "1.0.0", "id": "tests", "description": "Items of a test",
            "conformsTo": self.conforms, "links": links,
        }  # fmt: skip

    def _document(self, request: Request, name: str) -> dict[str, Any]:
        base = str(request.base_url) + "stac"
        return {
            "type": "Collection", "stac_version": "1.0.0", "id": name, "title": "Scenes", "description": "All scenes",
            "license": "other", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
            "links": [
                {"rel": "root", "href": base}, {"rel": "self", "href": f"{base}/collections/{name}"},
                {"rel": "items", "href": f"{base}/collections/{name}/items", "type": "application/geo+json"},
            ],
        }  # fmt: skip

    def _collections(self, request: Request) -> dict[str, Any]:
        return {"collections": [self._document(request, name) for name in self.items], "links": []}

    def _collection(self, request: Request, name: str) -> dict[str, Any]:
        if name not in self.items:
            raise HTTPException(404, "no such collection")
        return self._document(request, name)

    def _items(self, request: Request, name: str, limit: int = 10, token: int = 0) -> dict[str, Any]:
        return self._page(request, self.items[name], limit, token, {}, f"/collections/{name}/items")

    async def _search(self, request: Request) -> dict[str, Any]:
        wish = dict(request.query_params) if request.method == "GET" else await request.json()
        self.searches.append(wish)
        records = [record_of_document(item, item["id"], (0, 0)) for item in self.items["scenes"]]
        table = Table.of_records("", [record for record in records if record])
        passed = [True] * len(table)
        if wish.get("filter"):
            passed = parse_query(wish["filter"]).test(table)[0].tolist()
        if wish.get("bbox"):
            inside = table.touching(tuple(wish["bbox"])).tolist()
            passed = [one and two for one, two in zip(passed, inside, strict=True)]
        if wish.get("datetime"):
            start, end = (
                None if part == ".." else datetime.fromisoformat(part) for part in wish["datetime"].split("/")
            )
            inside = table.within(start, end).tolist()
            passed = [one and two for one, two in zip(passed, inside, strict=True)]
        by_id = {item["id"]: item for item in self.items["scenes"]}
        found = [by_id[name] for name, good in zip(table.light.ids, passed, strict=True) if good]
        return self._page(
            request, found, int(wish.get("limit", 10)), int(wish.get("token", 0)), wish, "/search"
        )

    def _page(  # noqa: PLR0913, PLR0917 - all that a page depends on
        self,
        request: Request,
        found: list[dict[str, Any]],
        limit: int,
        token: int,
        wish: dict[str, Any],
        path: str,
    ) -> dict[str, Any]:
        links = []
        if token + limit < len(found):
            href = f"{request.base_url}stac{path}"
            if request.method == "POST":
                body = {**wish, "token": token + limit}
                links.append({"rel": "next", "href": href, "method": "POST", "body": body, "merge": False})
            else:
                links.append(
                    {"rel": "next", "href": f"{href}?limit={limit}&token={token + limit}", "method": "GET"}
                )
        page = found[token : token + limit]
        return {
            "type": "FeatureCollection", "features": page, "links": links, "numberMatched": len(found),
            "numberReturned": len(page),
        }  # fmt: skip
