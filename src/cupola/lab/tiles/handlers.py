"""The tile addresses of the session's Jupyter server.

::

    {base}cupola/tiles/HASH/TMS/Z/X/Y.{png,webp}?cmap=&vmin=&vmax=&size=&exact=&v=   a picture
    {base}cupola/tiles/HASH/TMS/Z/X/Y.npy?size=&exact=&v=             float32 (bands, h, w), NaN where invalid
    {base}cupola/tiles/HASH/TMS/stretch?v=                            between which values the colours are spread
    {base}cupola/tiles/HASH/TMS/stretch?box=&zoom=&v=                 the same, of one viewport
    {base}cupola/tiles/HASH/TMS/way?width=&height=&v=                 whether tiles or one image are cheaper
    {base}cupola/tiles/HASH/problem                                   what went wrong last
    {base}cupola/view/HASH/TMS.{png,webp,npy}?box=&width=&height=&cmap=&vmin=&vmax=&exact=&v=
                                                                      one picture of a whole viewport
    {base}cupola/probe/HASH?lon=&lat=&v=                              values at a place
    {base}cupola/area/HASH?metres=&v=                                 POST GeoJSON: statistics of an area

``box`` is left, bottom, right, top in the units of the tile grid (metres, on the sky degrees). ``v`` is any short
word: give another one when the collection's files have changed; answers to addresses with it are kept for good.

All need the session's cookie or token, as everything on this server does.
"""

from __future__ import annotations

import json
import math
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.tiles.base import SETTING, ChainHandler
from cupola.lab.tiles.problems import TileProblem
from cupola.lab.tiles.service import Kind, TileAddress

__all__ = ["SETTING", "handlers"]

SIZES = range(16, 2049)
MOST_EDGE = 4096
"""Rows and columns of a viewport's image; the largest screens have fewer."""
MOST_GEOJSON = 1024 * 1024
HIGHEST_ZOOM = 30


class TileHandler(ChainHandler):
    """One tile."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str, z: str, x: str, y: str, kind: Kind) -> None:
        """Answer with the tile."""
        size = 256
        try:
            size = self._size()
            style = self.style()
        except InputError as error:
            self.answer_error(error, kind, size)
            return
        exact = _wanted(self.get_query_argument("exact", ""))
        if self.unchanged("tile", chain, tms, z, x, y, kind, size, exact, style.to_json()):
            return
        address = TileAddress(chain, tms, int(z), int(x), int(y), size, self.revision, exact)
        self.answer(await self.wait_for(self.service.tile(address, style, kind)), kind, size)

    def _size(self) -> int:
        """Return the size of a tile in pixels."""
        text = self.get_query_argument("size", "")
        size = int(text) if text.isdecimal() else (0 if text else 256)
        if size not in SIZES:
            raise InputError(
                f"size={text!r} is no tile size; give one from {SIZES.start} to {SIZES.stop - 1}."
            )
        return size


class ViewHandler(ChainHandler):
    """One image of a whole viewport."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str, kind: Kind) -> None:
        """Answer with the image."""
        try:
            box = _box(self.get_query_argument("box", ""))
            width, height = (int(self.number(name, 1, MOST_EDGE)) for name in ("width", "height"))
            style = self.style()
        except InputError as error:
            self.answer_error(error, kind)
            return
        exact = _wanted(self.get_query_argument("exact", ""))
        if self.unchanged("view", chain, tms, box, width, height, kind, exact, style.to_json()):
            return
        options = {"tms": tms, "box": box, "width": width, "height": height, "exact": exact}
        work = self.service.picture("view", chain, self.revision, options, style, kind)
        self.answer(await self.wait_for(work), kind, min(max(height, 64), 512))


class StretchHandler(ChainHandler):
    """Between which values a chain's colours are spread: over all of it, or over a viewport."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str) -> None:
        """Answer with the limits by band."""
        box: list[float] | None = None
        zoom: int | None = None
        try:
            if self.get_query_argument("box", ""):
                box = _box(self.get_query_argument("box"))
                zoom = (
                    int(self.number("zoom", 0, HIGHEST_ZOOM)) if self.get_query_argument("zoom", "") else None
                )
        except InputError as error:
            self.answer_error(error, "json")
            return
        result = await self.wait_for(self.service.stretch(chain, tms, self.revision, box, zoom))
        if isinstance(result, TileProblem):
            self.answer_problem(result)
            return
        # Small, and asked for by whoever wants it now: not worth a validator of its own in the browser.
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(result))


class WayHandler(ChainHandler):
    """Whether tiles or one image per viewport are cheaper."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, tms: str) -> None:
        """Answer with the way and the expected milliseconds."""
        try:
            sizes = [
                int(self.number(name, 1, MOST_EDGE)) if self.get_query_argument(name, "") else usual
                for name, usual in (("width", 1280), ("height", 800))
            ]
        except InputError as error:
            self.answer_error(error, "json")
            return
        result = await self.wait_for(self.service.way(chain, tms, self.revision, sizes[0], sizes[1]))
        if isinstance(result, TileProblem):
            self.answer_problem(result)
            return
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(result))


class ProbeHandler(ChainHandler):
    """The values of a chain at a place."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str) -> None:
        """Answer with the values of each item."""
        try:
            # Celestial and planetary longitudes are counted to 360 as well.
            longitude, latitude = self.number("lon", -1e9, 1e9), self.number("lat", -1e9, 1e9)
        except InputError as error:
            self.answer_error(error, "json")
            return
        if self.unchanged("probe", chain, longitude, latitude):
            return
        options = {"lon": longitude, "lat": latitude}
        self.answer(await self.wait_for(self.service.compute("probe", chain, self.revision, options)), "json")


class AreaHandler(ChainHandler):
    """The statistics of a chain in an area."""

    @override
    @web.authenticated
    @authorized
    async def post(self, chain: str) -> None:
        """Answer with the statistics; the base class has checked the XSRF token."""
        try:
            geometry = _geometry(self.request.body)
            metres = self.number("metres", 1e-6, 1e9) if self.get_query_argument("metres", "") else None
        except InputError as error:
            self.answer_error(error, "json")
            return
        options: dict[str, Any] = {"geometry": geometry, "metres": metres}
        self.answer(await self.wait_for(self.service.compute("area", chain, self.revision, options)), "json")


class ProblemHandler(ChainHandler):
    """What went wrong last with the tiles of a chain."""

    # A map in a forgotten tab asks again and again: that must not keep a session from being called idle.
    _track_activity = False

    @override
    @web.authenticated
    @authorized
    def get(self, chain: str) -> None:
        """Answer with the last problem, or with null, and how often tiles that lacked images have become whole."""
        self.service.looked_at(chain)
        problem = self.service.problem(chain)
        self.set_header("Cache-Control", "no-store")
        tiles = self.service.problems.count(chain)
        told = {"problem": problem.to_json() if problem else None, "tiles": tiles}
        fresh = {"fresher": self.service.fresher.get(chain, 0), "waiting": chain in self.service.short}
        self.finish(json.dumps(told | fresh))


def _wanted(text: str) -> bool:
    """Whether a word of the query means yes."""
    return text.lower() in {"1", "true", "yes"}


def _box(text: str) -> list[float]:
    """Return left, bottom, right, top."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    sides = 4
    if len(numbers) != sides or not all(map(math.isfinite, numbers)):
        raise InputError(f"box={text!r} is no box; give left, bottom, right, top in the units of the grid.")
    left, bottom, right, top = numbers
    if left >= right or bottom >= top:
        raise InputError(f"box={text!r} is empty; left has to be below right, and bottom below top.")
    return numbers


def _geometry(body: bytes) -> dict[str, Any]:
    """Return the GeoJSON geometry, or feature, that was sent."""
    if len(body) > MOST_GEOJSON:
        raise InputError(f"The area has more than {MOST_GEOJSON // 1024} KiB; simplify its outline.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "type" not in found:
        raise InputError("The area is no GeoJSON; send a polygon, or a feature with one.")
    geometry = found.get("geometry") if found["type"] == "Feature" else found
    if not isinstance(geometry, dict):
        raise InputError("The area's feature has no geometry; send a polygon.")
    return geometry


def handlers(base_url: str) -> list[tuple[str, type]]:
    """Return the addresses and their handlers, for a Jupyter server at `base_url`."""
    root = f"{base_url.rstrip('/')}/cupola"
    name = "([0-9a-f]{64})"
    tms = r"(\w{1,60})"
    return [
        (rf"{root}/tiles/{name}/{tms}/(\d{{1,2}})/(\d{{1,9}})/(\d{{1,9}})\.(png|webp|npy)", TileHandler),
        (rf"{root}/tiles/{name}/{tms}/stretch", StretchHandler),
        (rf"{root}/tiles/{name}/{tms}/way", WayHandler),
        (rf"{root}/tiles/{name}/problem", ProblemHandler),
        (rf"{root}/view/{name}/{tms}\.(png|webp|npy)", ViewHandler),
        (rf"{root}/probe/{name}", ProbeHandler),
        (rf"{root}/area/{name}", AreaHandler),
    ]
