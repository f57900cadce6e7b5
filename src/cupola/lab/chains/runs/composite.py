"""A chain over a grid: one image of many items, written piece by piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rasterio.windows import Window

from cupola.exceptions import BandError
from cupola.lab.bodies import SKY
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.compute import evaluate
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.reduce import Reduce
from cupola.lab.chains.graph.source import Source
from cupola.lab.chains.products.files import KEPT
from cupola.lab.chains.products.look import look_of
from cupola.lab.chains.products.packing import Packing
from cupola.lab.chains.products.provenance import describe_inputs, state_of
from cupola.lab.chains.products.skyfile import coordinates_of_grid
from cupola.lab.chains.products.writing import Target, write

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cupola.lab.chains.compute.planning import OutputGrid
    from cupola.lab.chains.graph.base import Step
    from cupola.lab.chains.products.look import Look
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.items import Item

__all__ = ["Candidate", "GridSource", "candidates", "piece_name", "restricted", "write_piece"]

_HELD = 220_000_000
"""Bytes that the images of one window may take together."""
_WINDOWS = (1024, 512, 256, 128, 64)
_STREAMED_BYTES = 40
"""Per pixel and band, for sums of double precision and what is added to them."""
_RANKED_BYTES = 8
"""Per pixel, band and image, where all are held and sorted."""


def piece_name(name: str, grid: OutputGrid, piece: tuple[int, int]) -> str:
    """Return the name of a piece's product: its row and column, counted from 0, unless it is the only one."""
    column, row = piece
    if grid.single:
        return name
    high, wide = len(str(grid.rows - 1)), len(str(grid.columns - 1))
    return f"{name}-r{row:0{high}}-c{column:0{wide}}"


def write_piece(  # noqa: PLR0913 - each says one thing about the file
    chain: Chain,
    grid: OutputGrid,
    piece: tuple[int, int],
    folder: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    scale: float | None = None,
    nodata: float | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    keep: bool = False,
    only: Collection[str] | None = None,
) -> Path | None:
    """Compute a chain over one piece of a grid into a product.

    Items are reduced as the chain says; one that reduces nothing lays them over one another, the newest on top.

    Parameters
    ----------
    chain
        What to compute.
    grid
        The grid of all pieces, from `cupola.lab.chains.compute.planning.choose_grid`.
    piece
        Column and row of the piece, from the upper left.
    folder
        Where the product goes: ``NAME.tif`` and ``NAME.json``; made if it is not there.
    dtype, scale, nodata
        How values are stored, as for `write_product`.
    name
        What all pieces are called; the folder's name where nothing is said.
    provenance
        What the product's item shall say besides.
    keep
        Whether to leave a product as it is that is whole and was made by the same chain from the same inputs.
    only
        Ids of the items to use, where not all are.

    Returns
    -------
    path
        Of the GeoTIFF; nothing where no pixel has a value: then none is written.

    Raises
    ------
    BandError, ImageError, BodyError, InputError
        When a band is missing, a file is damaged, the grid is another body's, or a function returns no image.
    LimitError
        When the disk is full; nothing is left behind.
    """
    stem = piece_name(name or Path(folder).name, grid, piece)
    target = Target.of(folder, stem, Packing.of(dtype, scale, nodata), provenance)
    used = chain if only is None else restricted(chain, only)
    return write(GridSource(used, grid, piece, said=chain), target, keep=keep, skip_empty=True)


def restricted(chain: Chain, only: Collection[str]) -> Chain:
    """Return the chain over these items of its collections alone."""
    sources = {
        source: Source.of(source.collection.filter(query={"id": {"in": sorted(only)}}))
        for source in chain.sources
    }

    def change(step: Step) -> Step:
        return replace(step, source=sources[step.source]) if isinstance(step, Bands) else step

    return Chain.of_step(chain.program.rebuilt(change))


class _Places(NamedTuple):
    """A window, as it comes from reading to computing."""

    inner: Window


class Candidate(NamedTuple):
    """An item that touches the piece, and its files that are read."""

    item: Item
    files: list[str]


class GridSource:
    """The pixels of one piece of a grid."""

    early = False

    def __init__(
        self, used: Chain, grid: OutputGrid, piece: tuple[int, int], *, said: Chain | None = None
    ) -> None:
        self.chain = used if said is None else said
        """The chain that was asked for."""
        self._used_chain = used
        """The same, over some of the items alone."""
        self.frame = grid.part(*piece)
        self.coordinates = coordinates_of_grid(self.frame) if used.body == SKY else None
        self._candidates = candidates(used, self.frame.box)
        self._used: dict[str, None] = {}
        self.state = state_of(
            sorted((one.item.id, one.files) for ones in self._candidates.values() for one in ones)
        )
        self.extra: dict[str, Any] = {"cupola:grid": grid.to_json(), "cupola:piece": list(piece)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave files open: the evaluator keeps them for the next piece."""

    def windows(self) -> Iterator[Window]:
        """Yield squares that are small enough for as many images as are held at once."""
        size = self._size()
        for top in range(0, self.frame.height, size):
            for left in range(0, self.frame.width, size):
                yield Window(
                    left, top, min(size, self.frame.width - left), min(size, self.frame.height - top)
                )

    def _size(self) -> int:
        ranked = any(not step.streamed for step in self.chain.program.of_kind(Reduce))
        images = max((len(ones) for ones in self._candidates.values()), default=0)
        bands = max(1, len(self.chain.bands))
        each = bands * (_STREAMED_BYTES + (_RANKED_BYTES * images if ranked else 0))
        return next((size for size in _WINDOWS if size * size * each <= _HELD), _WINDOWS[-1])

    def read(self, window: Window) -> _Places:
        """Return the window: reading and computing are one here."""
        return _Places(window)

    def compute(self, part: _Places) -> NDArray[np.float32]:
        """Return the chain's values."""
        pixels = evaluate.on_grid(self._used_chain, self.frame.window(part.inner), max_items=None)
        self._used.update(dict.fromkeys(pixels.items))
        return pixels.data

    def look(self, count: int, packing: Packing) -> Look:
        """Return names, units and colours of the bands."""
        first = next((one.item for ones in self._candidates.values() for one in ones), None)
        return look_of(self.chain, first, count, packing)

    def inputs(self, folder: Path) -> list[dict[str, Any]]:
        """Return the items that were used and the checksums of their files."""
        return [describe_inputs(one.item, one.files, folder / KEPT) for one in self._used_ones()]

    def items(self) -> list[Item]:
        """Return the items that were used."""
        return [one.item for one in self._used_ones()]

    def _used_ones(self) -> list[Candidate]:
        return [one for ones in self._candidates.values() for one in ones if one.item.id in self._used]


def candidates(chain: Chain, box: Box | None) -> dict[str, list[Candidate]]:
    """Return the items of each collection that touch a box, the newest first, with the files that are read."""
    bands: dict[str, dict[str, None]] = {}
    for step in chain.program.of_kind(Bands):
        bands.setdefault(step.source.key, {}).update(dict.fromkeys(step.names))
    found: dict[str, list[Candidate]] = {}
    for source in chain.sources:
        ones = found[source.key] = []
        for item in source.collection.touching(box) if box else []:
            try:
                files = dict.fromkeys(
                    band.path for name in bands.get(source.key, {}) for band in item.band(name)
                )
            except BandError:
                continue  # an item without the bands adds nothing; where none has them the evaluator says so
            ones.append(Candidate(item, list(files)))
    return found
