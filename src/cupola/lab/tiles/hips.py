"""The HiPS addresses of the session's Jupyter server, for Aladin Lite in a notebook's sky map.

::

    {base}cupola/hips/HASH/LOOK/properties
    {base}cupola/hips/HASH/LOOK/Moc.fits                      which cells the images cover
    {base}cupola/hips/HASH/LOOK/NorderK/DirD/NpixN.png|fits   a tile: a picture, or float32 values with NaN
    {base}cupola/hips/HASH/LOOK/Norder3/Allsky.png
    {base}cupola/hips/HASH/LOOK/stretch                       between which values the shades are spread
    {base}cupola/vendor/{aladin.js,land-50m.json,land-110m.json}   what the build fetched for maps

``LOOK`` is ``-``, or a query in the path (Aladin appends its names to an address, so there is no room behind it):
``cmap=gray&vmin=0&vmax=9&scale=asinh&exact=1&v=REVISION``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from jupyter_server.auth.decorator import authorized
from tornado import web
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.tiles.base import ChainHandler
from cupola.lab.tiles.service import Rendered

if TYPE_CHECKING:
    from cupola.lab.sky.coverage import Cells
    from cupola.lab.sky.looks import Look
    from cupola.lab.tiles.problems import TileProblem

__all__ = ["handlers"]

VENDOR = Path(__file__).parents[1] / "vendor"


class _Refused(Exception):  # noqa: N818 - no error of ours: carries the worker's answer
    """A worker could not answer."""

    def __init__(self, problem: TileProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@lru_cache(maxsize=32)
def _about(body: bytes) -> tuple[dict[str, Any], Cells]:
    """Read a worker's answer; it stays the same object in the service's memory, tile after tile."""
    import numpy as np

    from cupola.lab.sky import coverage

    told = json.loads(body)
    return told, coverage.decode(np.array(told.pop("cells"), dtype=np.int64))


class HipsHandler(ChainHandler):
    """What the addresses of a HiPS share."""

    kind = "json"
    """What they answer with, a key of `cupola.lab.tiles.base.TYPES`."""
    look: Look

    @override
    def get_argument(self, name: str, *rest: Any, **options: Any) -> Any:
        """Return an argument; the word that a hub wants with a script's requests stands in the path, as the look does."""
        if name == "_xsrf" and len(self.path_args) > 1:
            found = dict(parse_qsl(self.path_args[1])).get(name)
            if found:
                return found
        return super().get_argument(name, *rest, **options)

    @property
    @override
    def revision(self) -> str:
        """The word by which the address says which state of the files it means."""
        return self.look.revision

    async def make(self, chain: str) -> Rendered | None:
        """Return what was asked for; nothing where a HiPS has no such file."""
        raise NotImplementedError

    async def reply(self, chain: str, look: str, *parts: object) -> None:
        """Answer, or say that the browser has it already, or why there is nothing."""
        # Brings NumPy: sessions without a map do without it.
        from cupola.lab.sky.looks import Look

        try:
            self.look = Look.parse(look)
            if self.unchanged("hips", type(self).__name__, self.kind, chain, look, *parts):
                return
            made = await self.make(chain)
        except InputError as error:
            self.answer_problem(self.service.refused(error).problem)  # type: ignore[arg-type]
        except _Refused as error:
            self.answer(Rendered(problem=error.problem), self.kind)
        else:
            if made is None:
                self._etag = None
                self.set_status(404)
                self.finish("", set_content_type=self.content_type)
                return
            self.answer(made, self.kind)

    @property
    def content_type(self) -> str:
        """Of the answer."""
        from cupola.lab.tiles.base import TYPES

        return TYPES[self.kind]

    async def ask(self, chain: str, part: str, place: str = "", **options: Any) -> Rendered:
        """Have a worker make a part of the HiPS; what was made lately comes from memory."""
        work = self.service.compute("hips", chain, self.revision, {"part": part, **options}, place)
        made: Rendered = await self.wait_for(work)
        if made.problem is not None:
            raise _Refused(made.problem)
        return made

    async def about(self, chain: str) -> tuple[dict[str, Any], Cells]:
        """Return what the HiPS says about itself, and the cells that it covers."""
        return _about((await self.ask(chain, "about")).body)

    async def limits(self, chain: str) -> dict[str, Any]:
        """Return between which values the shades are spread."""
        scale = "linear" if self.look.style.scale == "linear" else "other"
        told: dict[str, Any] = json.loads((await self.ask(chain, "stretch", scale=scale)).body)
        return told

    async def drawn(self, chain: str) -> dict[str, Any]:
        """Return how to draw, with both limits, as plain data."""
        style = self.look.style
        if not style.complete:
            told = await self.limits(chain)
            style = style.filled([(low, high) for low, high in told["limits"]])
        return style.to_json()


class PropertiesHandler(HipsHandler):
    """The file ``properties``."""

    kind = "text"

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, look: str) -> None:
        """Answer with it."""
        await self.reply(chain, look)

    @override
    async def make(self, chain: str) -> Rendered:
        from cupola.lab.sky.properties import properties

        about, _ = await self.about(chain)
        style = self.look.style
        # A look at the whole image only where nothing is said: the first tiles wait for this file.
        told = {"limits": [style.limits(0)]} if style.complete else await self.limits(chain)
        return Rendered(properties(about | told, self.revision, chain).encode())


class MocHandler(HipsHandler):
    """The cells that the images cover."""

    kind = "fits"

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, look: str) -> None:
        """Answer with a FITS file."""
        await self.reply(chain, look)

    @override
    async def make(self, chain: str) -> Rendered:
        return await self.ask(chain, "moc")


class LimitsHandler(HipsHandler):
    """Between which values the shades are spread, and what the HiPS says about itself."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, look: str) -> None:
        """Answer with limits by band."""
        await self.reply(chain, look)

    @override
    async def make(self, chain: str) -> Rendered:
        about, _ = await self.about(chain)
        return Rendered(json.dumps({**about, **await self.limits(chain)}).encode())


class CellHandler(HipsHandler):
    """One tile."""

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, look: str, order: str, folder: str, pixel: str, kind: str) -> None:
        """Answer with the tile of one cell."""
        self.kind = kind
        self._cell = int(order), int(folder), int(pixel)
        await self.reply(chain, look, *self._cell)

    @override
    async def make(self, chain: str) -> Rendered | None:
        from cupola.lab.sky import coverage
        from cupola.lab.sky.properties import DEEPEST, SIZE
        from cupola.lab.tiles import encode

        order, folder, pixel = self._cell
        if order > DEEPEST or pixel >= 12 * 4**order or folder != pixel // 10000 * 10000:
            raise InputError(
                f"There is no tile Norder{order}/Dir{folder}/Npix{pixel}: orders go from 0 to {DEEPEST}, "
                "and a folder is named by its first tile."
            )
        about, cells = await self.about(chain)
        if order > about["order"]:
            return None
        if not coverage.touched(cells, order, pixel):
            # Viewers ask for the coarsest tiles everywhere, whatever the cells say: for pictures that is no mistake.
            return Rendered(encode.empty_png(SIZE)) if self.kind == "png" else None
        style = await self.drawn(chain) if self.kind == "png" else None
        return await self.ask(
            chain,
            "tile",
            f"hips/{order}/{pixel}",
            order=order,
            pixel=pixel,
            kind=self.kind,
            style=style,
            exact=self.look.exact,
        )


class AllskyHandler(HipsHandler):
    """All cells of order 3 in one picture."""

    kind = "png"

    @override
    @web.authenticated
    @authorized
    async def get(self, chain: str, look: str) -> None:
        """Answer with the picture."""
        await self.reply(chain, look)

    @override
    async def make(self, chain: str) -> Rendered:
        return await self.ask(chain, "allsky", "hips/allsky", style=await self.drawn(chain))


class VendorHandler(ChainHandler):
    """What the build fetched for maps: Aladin Lite, and the Earth's land."""

    @override
    @web.authenticated
    @authorized
    def get(self, name: str) -> None:
        """Answer with the file."""
        path = VENDOR / name
        try:
            status = path.stat()
        except OSError:
            raise web.HTTPError(
                404, reason=f"{name} is not installed: build the package again with npm reachable"
            ) from None
        self._etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        self.set_etag_header()
        self.set_header("Cache-Control", "private, max-age=3600")
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        kind = "text/javascript; charset=UTF-8" if path.suffix == ".js" else "application/json"
        self.finish(path.read_bytes(), set_content_type=kind)


def handlers(base_url: str) -> list[tuple[str, type]]:
    """Return the addresses and their handlers, for a Jupyter server at `base_url`."""
    cupola = f"{base_url.rstrip('/')}/cupola"
    root = rf"{cupola}/hips/([0-9a-f]{{64}})/([^/]{{1,900}})"
    return [
        (rf"{root}/properties", PropertiesHandler),
        (rf"{root}/Moc\.fits", MocHandler),
        (rf"{root}/stretch", LimitsHandler),
        (rf"{root}/Norder3/Allsky\.png", AllskyHandler),
        (rf"{root}/Norder(\d{{1,2}})/Dir(\d{{1,14}})/Npix(\d{{1,14}})\.(png|fits)", CellHandler),
        (rf"{cupola}/vendor/(aladin\.js|land-(?:50|110)m\.json)", VendorHandler),
    ]
