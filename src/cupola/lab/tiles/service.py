"""What the tile addresses answer, apart from HTTP: looks in the cache, asks the pool, remembers problems and costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cupola.lab.tiles.cache import Cache
from cupola.lab.tiles.disk import SLOW_SECONDS, Disk
from cupola.lab.tiles.pool import Pool
from cupola.lab.tiles.problems import Problems, TileProblem
from cupola.lab.tiles.remote import Nodes
from cupola.lab.tiles.ways import Costs

if TYPE_CHECKING:
    from cupola.exceptions import CupolaError
    from cupola.lab.tiles.process import Answer
    from cupola.lab.tiles.styles import Style

__all__ = ["Kind", "Rendered", "TileAddress", "TileService"]

Kind = Literal["png", "webp", "npy"]

CACHE_BYTES = 64 * 1024 * 1024
STRETCHES = 500
LOOK_AGAIN_SECONDS = 10
"""An address that names no revision means the files as they are: so long an answer to it stands."""
TOLD = ("scale", "exact", "overview", "partial", "note")
OVERVIEWS = 100
TILE = 256
MOST_WANTED = 40
FIRST_ROUND, ROUND = 6.0, 20.0
"""Seconds of reading until what is there of an overview is shown: at first, and then."""
LOOKED_SECONDS = 120.0
"""So long after somebody looked at a map its overview goes on being made."""
AGAIN_SECONDS = 20.0
"""So long after it ended an overview that lacks something is made again."""
PATIENCE = {"overview": 30.0, "view": 4.0, "stretch": 4.0, "area": 4.0, "probe": 2.0}
"""How many times longer than a tile these may take: they look at more."""


@dataclass(frozen=True)
class TileAddress:
    """Which tile of which chain."""

    chain: str
    """The chain's hash."""
    tms: str
    """Name of the tile grid, such as ``WebMercatorQuad`` or ``Moon2015eqc``."""
    z: int
    x: int
    y: int
    size: int = 256
    """Height and width in pixels."""
    revision: str = ""
    """Changes when the collection's folder has: a chain's hash says what is computed, not over which items."""
    exact: bool = False
    """Whether it is to be computed at full resolution."""

    @property
    def place(self) -> str:
        """The tile's place, without the chain."""
        return f"{self.tms}/{self.z}/{self.x}/{self.y}"


@dataclass(frozen=True)
class Rendered:
    """What was computed, or why there is nothing."""

    body: bytes = b""
    problem: TileProblem | None = None
    told: dict[str, Any] = field(default_factory=dict)
    """What is known of it: the scale it was computed at, and whether it is exact."""
    partial: bool = False
    """Whether a later answer to the same address may show more."""


_Key = tuple[str, str, str]


class _Overview:
    """An overview that is made in the background."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.ended = 0.0
        self.wanted: list[list[int]] = []

    def want(self, tile: list[int], size: int) -> None:
        """Have a tile made first; those of 512 pixels are made of four."""
        z, x, y = tile
        places = [tile]
        if size != TILE:
            places = [[z + 1, 2 * x + column, 2 * y + row] for row in (0, 1) for column in (0, 1)]
        self.wanted = [place for place in self.wanted if place not in places][-MOST_WANTED:] + places


class TileService:
    """Tiles of chains, by address and style."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool()
        self.nodes = Nodes(self.pool)
        self.pool.avoid = self.nodes.avoid
        self.problems = Problems()
        self.costs = Costs()
        self.disk = Disk()
        self._cache = Cache(CACHE_BYTES)
        self._stretches: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.short: dict[str, str] = {}
        """Chains of which tiles were sent that lack some of their items until an overview is there, and the sentence."""
        self.fresher: dict[str, int] = {}
        """How often tiles of a chain that lacked items have become whole: a map then draws them again."""
        self._overviews: OrderedDict[_Key, _Overview] = OrderedDict()
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def tile(self, address: TileAddress, style: Style, kind: Kind) -> Rendered:
        """Return a tile, computed now if need be.

        Parameters
        ----------
        address
            Which tile.
        style
            How to draw it (for pictures); limits left open are the chain's 2nd and 98th percentiles.
        kind
            ``png`` or ``webp``, or ``npy`` for the values themselves.

        Returns
        -------
        Rendered
            With a problem instead of a body where it could not be made; nothing is raised for that.
        """
        options = {
            "tms": address.tms,
            "tile": [address.z, address.x, address.y],
            "size": address.size,
            "exact": address.exact,
        }
        return await self.picture(
            "tile", address.chain, address.revision, options, style, kind, place=address.place
        )

    async def picture(  # noqa: PLR0913, PLR0917 - what an image depends on
        self,
        work: str,
        chain: str,
        revision: str,
        options: dict[str, Any],
        style: Style,
        kind: str,
        place: str = "",
    ) -> Rendered:
        """Return an image that `work` makes of a chain and draws with `style`.

        Parameters
        ----------
        work
            One of `cupola.lab.tiles.works.WORKS`; it gets ``kind`` and ``style`` beside the options.
        chain
            The chain's hash.
        revision
            The word of the address; see `TileAddress`.
        options
            Plain data; ``tms`` among them, for the limits that the style leaves open.
        style
            How to draw it, where `kind` is ``png`` or ``webp``.
        kind
            What the work makes: ``png``, ``webp``, or anything that needs no style.
        place
            By which a problem is remembered, and forgotten when the image could be made.
        """
        drawn = kind in {"png", "webp"}
        if drawn and not style.complete:
            stretch = await self.stretch(chain, options.get("tms", ""), revision)
            if isinstance(stretch, TileProblem):
                return Rendered(problem=stretch)
            style = style.filled([(low, high) for low, high in stretch["limits"]])
        more = {**options, "kind": kind, "style": style.to_json() if drawn else None}
        return await self.compute(work, chain, revision, more, place=place)

    async def compute(
        self, work: str, chain: str, revision: str, options: dict[str, Any], place: str = ""
    ) -> Rendered:
        """Return what `work` makes of a chain, from the cache where it was made before; see `picture`."""
        request = {"do": work, "chain": chain, "revision": revision or _now(), **options}
        key = json.dumps(request, sort_keys=True)
        self.looked_at(chain)
        if (kept := self._cache.get(key)) is not None:
            self._note(chain, options, place or key, kept.told)
            return kept
        lasting = self.disk.keeps(request["revision"]) and self.costs.slow(chain)
        if lasting and (found := await self.disk.get(key)) is not None:
            rendered = Rendered(found[0], None, found[1])
            self._cache.put(key, rendered)
            return rendered
        answer = await self._ask(chain, place or f"{work}/{key}", request, key)
        if answer.problem is not None:
            return Rendered(problem=answer.problem)
        header = answer.header
        told = {name: header[name] for name in TOLD if header.get(name) is not None}
        coming = bool(header.get("build")) and self._make_overview(
            chain, request, bool(header.get("partial"))
        )
        rendered = Rendered(answer.body, None, told, bool(header.get("partial")))
        if work in {"tile", "view"} and header.get("seconds") is not None:
            pixels = options["size"] ** 2 if work == "tile" else options["width"] * options["height"]
            self.costs.add(chain, work, pixels, header["seconds"])
        if rendered.partial and coming:
            self.short[chain] = str(told.get("note", ""))
        else:
            self._note(chain, options, place or key, told)
        if not rendered.partial:
            self._cache.put(key, rendered)
            if self.disk.keeps(request["revision"]) and header.get("seconds", 0.0) >= SLOW_SECONDS:
                await self.disk.put(key, rendered.body, told)
        return rendered

    async def stretch(
        self,
        chain: str,
        tms: str,
        revision: str,
        box: list[float] | None = None,
        zoom: int | None = None,
    ) -> dict[str, Any] | TileProblem:
        """Return between which values the colours of `chain` are best spread.

        Parameters
        ----------
        chain, tms, revision
            As for a tile.
        box, zoom
            Left, bottom, right, top in the grid's units, and the zoom level: the limits of this viewport.

        Returns
        -------
        dict or TileProblem
            ``limits``: a pair of the 2nd and 98th percentile per band, from a coarse read of the whole chain or of
            the viewport; ``bands``: how many there are; ``empty``: whether nothing was valid.
        """
        request: dict[str, Any] = {
            "do": "stretch",
            "chain": chain,
            "revision": revision or _now(),
            "tms": tms,
        }
        if box is not None:
            request |= {"box": box, "zoom": zoom}
        key = json.dumps(request, sort_keys=True)
        known = self._stretches.get(key)
        if known is not None:
            return known
        answer = await self._ask(chain, f"{tms}/stretch", request, key)
        if answer.problem is not None:
            return answer.problem
        result = {name: answer.header[name] for name in ("limits", "bands", "empty")}
        if answer.header.get("seconds") is not None and answer.header.get("pixels"):
            self.costs.add(chain, "tile", answer.header["pixels"], answer.header["seconds"])
        self._stretches[key] = result
        while len(self._stretches) > STRETCHES:
            self._stretches.popitem(last=False)
        return result

    async def way(
        self, chain: str, tms: str, revision: str, width: int, height: int
    ) -> dict[str, Any] | TileProblem:
        """Return whether tiles or one image are cheaper for a viewport; see `Costs.way`."""
        if not self.costs.known(chain):
            # Nothing was drawn yet: the coarse look that chooses the colours is a measurement, too.
            looked = await self.stretch(chain, tms, revision)
            if isinstance(looked, TileProblem):
                return looked
        return self.costs.way(chain, width, height, self.pool.slots)

    def looked_at(self, chain: str) -> None:
        """Take note that somebody looks at a map of `chain`."""
        self._asked[chain] = time.monotonic()
        self._asked.move_to_end(chain)
        while len(self._asked) > OVERVIEWS:
            self._asked.popitem(last=False)

    def problem(self, chain: str) -> TileProblem | None:
        """Return what is wrong with the tiles of `chain`, or what they lack."""
        found = self.problems.last(chain)
        if (found is None or found.code == "left-out") and self.short.get(chain):
            return TileProblem(code="left-out", status=200, message=self.short[chain])
        return found

    def _note(self, chain: str, options: dict[str, Any], place: str, told: dict[str, Any]) -> None:
        """Remember what an image lacks for good."""
        if "tile" in options or "box" in options:
            group = f"{options.get('tms')}/{options['tile'][0]}" if "tile" in options else place
            self.problems.note(chain, group, place, str(told.get("note", "")))

    def _make_overview(self, chain: str, request: dict[str, Any], partial: bool) -> bool:
        """Have the overview of a chain's collection made in the background, once for each of its revisions.

        Returns whether it is under way.
        """
        said = request["revision"]
        key = (chain, "" if said.startswith("~") else said, request["tms"])
        entry = self._overviews.get(key)
        if entry is None or (
            entry.task.done() and partial and time.monotonic() > entry.ended + AGAIN_SECONDS
        ):
            entry = self._overviews[key] = _Overview()
            entry.task = asyncio.ensure_future(self._rounds(entry, chain, request))
            while len(self._overviews) > OVERVIEWS:
                self._overviews.popitem(last=False)[1].task.cancel()
        if partial and "tile" in request:
            entry.want(request["tile"], request["size"])
        return not entry.task.done()

    async def _rounds(self, entry: _Overview, chain: str, request: dict[str, Any]) -> None:
        """Have an overview made little by little, what somebody looks at first, as long as somebody does."""
        about = {name: request[name] for name in ("chain", "revision", "tms")}
        more, most = True, FIRST_ROUND
        while more and time.monotonic() < self._asked.get(chain, 0.0) + LOOKED_SECONDS:
            asked = {"do": "overview", **about, "wanted": entry.wanted, "most": most}
            entry.wanted, most = [], ROUND
            answer = await self.pool.alone(asked, patience=PATIENCE["overview"])
            more = answer.problem is None and bool(answer.header.get("more"))
            entry.ended = time.monotonic()
            if chain in self.short:
                self.fresher[chain] = self.fresher.get(chain, 0) + 1
                if not more:
                    del self.short[chain]
        self.short.pop(chain, None)

    @staticmethod
    def refused(error: CupolaError) -> Rendered:
        """Return an error of ours as an answer."""
        return Rendered(problem=TileProblem(code=error.code, status=error.status, message=str(error)))

    async def _ask(self, chain: str, place: str, request: dict[str, Any], key: str) -> Answer:
        """Ask the pool, and keep book of problems."""
        from cupola.lab.tiles.process import Answer

        resting = self.problems.resting(chain)
        if resting is not None:
            return Answer(problem=resting)
        self.nodes.look()
        answer = await self.pool.ask(request, key=key, patience=PATIENCE.get(request["do"], 1.0))
        if answer.problem is None:
            self.problems.clear(chain, place)
            return answer
        # One sentence on a tile has room for one line.
        problem = _on_one_line(answer.problem)
        self.problems.add(chain, place, problem)
        return Answer(answer.body, answer.header, problem)


def _now() -> str:
    """Return the revision of an address that names none: another one after a while."""
    return f"~{int(time.monotonic() // LOOK_AGAIN_SECONDS)}"


def _on_one_line(problem: TileProblem) -> TileProblem:
    """Return `problem` with its message on one line."""
    return problem.model_copy(update={"message": " ".join(problem.message.split())})
