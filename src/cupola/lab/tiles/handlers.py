"""The tile addresses of the session's Jupyter server.

::

    {base}cupola/tiles/HASH/TMS/Z/X/Y.png?cmap=&vmin=&vmax=&size=&v=   a picture
    {base}cupola/tiles/HASH/TMS/Z/X/Y.npy?size=&v=                     float32 (bands, h, w), NaN where invalid
    {base}cupola/tiles/HASH/TMS/stretch?v=                             between which values the colours are spread
    {base}cupola/tiles/HASH/problem                                    what went wrong last

``v`` is any short word: give another one when the collection's files have changed.

All are GET and need the session's cookie or token, as everything on this server does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from typing_extensions import override

from cupola.exceptions import CupolaError, InputError
from cupola.lab.tiles.problems import TileProblem
from cupola.lab.tiles.service import Kind, Rendered, TileAddress, TileService

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["SETTING", "handlers"]

SETTING = "cupola_tiles"
"""Under which the web application keeps the `TileService`."""

RESOURCE = "cupola_tiles"
SIZES = range(16, 2049)
TYPES = {"png": "image/png", "npy": "application/octet-stream"}
REVISION = 64
ONE_YEAR = 365 * 24 * 3600


class _Handler(APIHandler):
    """What all tile addresses share."""

    auth_resource = RESOURCE

    @override
    def initialize(self) -> None:
        self._work: asyncio.Task[Any] | None = None
        self._etag: str | None = None

    @property
    def service(self) -> TileService:
        return cast("TileService", self.settings[SETTING])

    async def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await `work`; it is cancelled when the browser hangs up.

        Leaflet hangs up on every tile that left the viewport, so this is what keeps old viewports from
        being computed.
        """
        self._work = asyncio.ensure_future(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            # Nobody reads this answer; it only tells the log what happened.
            raise web.HTTPError(499, reason="Client Closed Request") from None

    @override
    def on_connection_close(self) -> None:
        """Stop working for a browser that is gone."""
        super().on_connection_close()
        if self._work is not None:
            self._work.cancel()

    @override
    def compute_etag(self) -> str | None:
        """Return what was decided from the address: hashing the body would come too late to save work."""
        return self._etag

    def answer_problem(self, problem: TileProblem) -> None:
        """Answer with problem+json."""
        self.set_status(problem.status)
        self.set_header("Cache-Control", "no-store")
        body = {
            "type": f"https://cupola.invalid/problems/{problem.code}",
            "title": "No tile",
            "status": problem.status,
            "detail": problem.message,
            "line": problem.line,
            "traceback": problem.traceback,
        }
        self.finish(json.dumps(body), set_content_type="application/problem+json")


class TileHandler(_Handler):
    """One tile."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str, z: str, x: str, y: str, kind: Kind) -> None:
        """Answer with the tile."""
        # Brings NumPy: sessions without a map do without it.
        from cupola.lab.tiles.styles import Style

        query = {name: self.get_query_argument(name, "") for name in ("cmap", "vmin", "vmax", "size", "v")}
        # Hash, tile, style and revision say all that the pixels depend on: the address itself names the content.
        key = f"{self.request.path}?{sorted(query.items())}"
        self._etag = f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'
        self.set_etag_header()
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        try:
            size = _size(query["size"])
            style = Style.parse(query)
        except InputError as error:
            self._answer(Rendered(problem=_problem(error)), kind, 256)
            return
        address = TileAddress(chain, tms, int(z), int(x), int(y), size, query["v"][:REVISION])
        self._answer(await self.wait_for(self.service.tile(address, style, kind)), kind, size)

    def _answer(self, rendered: Rendered, kind: Kind, size: int) -> None:
        """Send a tile, or a picture of the sentence why there is none (a map shows it despite the status)."""
        from cupola.lab.tiles.encode import error_png

        problem = rendered.problem
        if problem is None:
            self.set_header("Cache-Control", f"private, max-age={ONE_YEAR}, immutable")
            self.finish(rendered.body, set_content_type=TYPES[kind])
            return
        self._etag = None
        self.clear_header("Etag")
        # Header values are Latin-1 and have no line breaks.
        self.set_header("X-Cupola-Error", problem.message.encode("ascii", "replace").decode()[:500])
        if kind == "npy":
            self.answer_problem(problem)
            return
        self.set_status(problem.status)
        self.set_header("Cache-Control", "no-store")
        text = f"{problem.message} {problem.line}".strip()
        self.finish(error_png(text, size), set_content_type="image/png")


class StretchHandler(_Handler):
    """Between which values a chain's colours are spread."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str) -> None:
        """Answer with the limits by band."""
        result = await self.wait_for(
            self.service.stretch(chain, tms, self.get_query_argument("v", "")[:REVISION])
        )
        if isinstance(result, TileProblem):
            self.answer_problem(result)
            return
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(result))


class ProblemHandler(_Handler):
    """What went wrong last with the tiles of a chain."""

    # A map in a forgotten tab asks again and again: that must not keep a session from being called idle.
    _track_activity = False

    @override
    @web.authenticated
    @authorized
    def get(self, chain: str) -> None:
        """Answer with the last problem, or with null."""
        problem = self.service.problems.last(chain)
        self.set_header("Cache-Control", "no-store")
        tiles = self.service.problems.count(chain)
        self.finish(json.dumps({"problem": problem.to_json() if problem else None, "tiles": tiles}))


def _size(text: str) -> int:
    """Return the size of a tile in pixels."""
    size = int(text) if text.isdecimal() else (0 if text else 256)
    if size not in SIZES:
        raise InputError(f"size={text!r} is no tile size; give one from {SIZES.start} to {SIZES.stop - 1}.")
    return size


def _problem(error: CupolaError) -> TileProblem:
    """Return an error of ours as a problem."""
    return TileProblem(code=error.code, status=error.status, message=str(error))


def handlers(base_url: str) -> list[tuple[str, type]]:
    """Return the addresses and their handlers, for a Jupyter server at `base_url`."""
    root = f"{base_url.rstrip('/')}/cupola/tiles/([0-9a-f]{{64}})"
    return [
        (rf"{root}/(\w{{1,60}})/(\d{{1,2}})/(\d{{1,9}})/(\d{{1,9}})\.(png|npy)", TileHandler),
        (rf"{root}/(\w{{1,60}})/stretch", StretchHandler),
        (rf"{root}/problem", ProblemHandler),
    ]
