"""What the tile addresses answer, apart from HTTP: looks in the cache, asks the pool, remembers problems."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cupola.lab.tiles.pool import Pool
from cupola.lab.tiles.problems import Problems, TileProblem

if TYPE_CHECKING:
    from cupola.lab.tiles.styles import Style

__all__ = ["Kind", "Rendered", "TileAddress", "TileService"]

Kind = Literal["png", "npy"]

CACHE_BYTES = 64 * 1024 * 1024
STRETCHES = 500


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

    @property
    def place(self) -> str:
        """The tile's place, without the chain."""
        return f"{self.tms}/{self.z}/{self.x}/{self.y}"


@dataclass(frozen=True)
class Rendered:
    """A tile, or why there is none."""

    body: bytes = b""
    problem: TileProblem | None = None


class _Cache:
    """The encoded tiles used last, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._tiles: OrderedDict[object, bytes] = OrderedDict()

    def get(self, key: object) -> bytes | None:
        """Return a tile, if it is here."""
        if key not in self._tiles:
            return None
        self._tiles.move_to_end(key)
        return self._tiles[key]

    def put(self, key: object, body: bytes) -> None:
        """Keep a tile, and drop those not used for longest."""
        if len(body) > self._most // 8:
            return
        self._bytes += len(body) - len(self._tiles.pop(key, b""))
        self._tiles[key] = body
        while self._bytes > self._most:
            self._bytes -= len(self._tiles.popitem(last=False)[1])


class TileService:
    """Tiles of chains, by address and style."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool()
        self.problems = Problems()
        self._cache = _Cache(CACHE_BYTES)
        self._stretches: OrderedDict[tuple[str, str, str], dict[str, Any]] = OrderedDict()

    async def tile(self, address: TileAddress, style: Style, kind: Kind) -> Rendered:
        """Return a tile, computed now if need be.

        Parameters
        ----------
        address
            Which tile.
        style
            How to draw it (for PNG); limits left open are the chain's 2nd and 98th percentiles.
        kind
            ``png``, or ``npy`` for the values themselves.

        Returns
        -------
        Rendered
            With a problem instead of a body where it could not be made; nothing is raised for that.
        """
        if kind == "png" and not style.complete:
            stretch = await self.stretch(address.chain, address.tms, address.revision)
            if isinstance(stretch, TileProblem):
                return Rendered(problem=stretch)
            style = style.filled([(low, high) for low, high in stretch["limits"]])
        key = (address, kind, style if kind == "png" else None)
        if (body := self._cache.get(key)) is not None:
            return Rendered(body)
        request = {
            "do": kind,
            "chain": address.chain,
            "revision": address.revision,
            "tms": address.tms,
            "tile": [address.z, address.x, address.y],
            "size": address.size,
            "style": style.to_json() if kind == "png" else None,
        }
        body, problem, _ = await self._ask(address.chain, address.place, request)
        if problem is not None:
            return Rendered(problem=problem)
        self._cache.put(key, body)
        return Rendered(body)

    async def stretch(self, chain: str, tms: str, revision: str) -> dict[str, Any] | TileProblem:
        """Return between which values the colours of `chain` are best spread.

        Returns
        -------
        dict or TileProblem
            ``limits``: a pair of the 2nd and 98th percentile per band, from a coarse read of the whole chain;
            ``bands``: how many there are; ``empty``: whether nothing was valid.
        """
        key = (chain, tms, revision)
        known = self._stretches.get(key)
        if known is not None:
            return known
        request = {"do": "stretch", "chain": chain, "revision": revision, "tms": tms}
        _, problem, header = await self._ask(chain, f"{tms}/stretch", request)
        if problem is not None:
            return problem
        result = {name: header[name] for name in ("limits", "bands", "empty")}
        self._stretches[key] = result
        while len(self._stretches) > STRETCHES:
            self._stretches.popitem(last=False)
        return result

    async def _ask(
        self, chain: str, tile: str, request: dict[str, Any]
    ) -> tuple[bytes, TileProblem | None, dict[str, Any]]:
        """Ask the pool, and keep book of problems."""
        resting = self.problems.resting(chain)
        if resting is not None:
            return b"", resting, {}
        answer = await self.pool.ask(request)
        problem = answer.problem
        if problem is None:
            self.problems.clear(chain, tile)
        else:
            # One sentence on a tile has room for one line.
            problem = _on_one_line(problem)
            self.problems.add(chain, tile, problem)
        return answer.body, problem, answer.header


def _on_one_line(problem: TileProblem) -> TileProblem:
    """Return `problem` with its message on one line."""
    return problem.model_copy(update={"message": " ".join(problem.message.split())})
