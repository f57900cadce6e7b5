"""A chain over a whole file: window by window to a cloud-optimised GeoTIFF with its STAC item."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from cupola.lab.chains.compute import planning
from cupola.lab.chains.compute.whole import Whole, windows
from cupola.lab.chains.products.files import KEPT
from cupola.lab.chains.products.look import look_of
from cupola.lab.chains.products.packing import Packing
from cupola.lab.chains.products.provenance import describe_inputs, state_of
from cupola.lab.chains.products.skyfile import coordinates_of_image
from cupola.lab.chains.products.writing import Target, write
from cupola.lab.chains.runs.composite import Candidate, GridSource, candidates, restricted
from cupola.lab.collections.placement import Celestial, Swath

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from rasterio.windows import Window

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.compute.whole import Part
    from cupola.lab.chains.products.look import Look
    from cupola.lab.collections.items import Item

__all__ = ["write_product"]


def write_product(  # noqa: PLR0913 - each says one thing about the file
    chain: Chain,
    item: str | Item,
    folder: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    scale: float | None = None,
    nodata: float | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    keep: bool = False,
) -> Path:
    """Compute a chain over one item at full resolution, on the grid of its finest band, into a product.

    Parameters
    ----------
    chain
        What to compute.
    item
        An item of the chain's collection, or its id.
    folder
        Where the product goes: ``NAME.tif`` and ``NAME.json``; made if it is not there.
    dtype, scale, nodata
        How values are stored: ``float32``, or integers of value / scale. NaN becomes `nodata`, values beyond
        the type's range its nearest limit.
    name
        The product's name; the item's id where nothing is said.
    provenance
        What the product's item shall say besides: ``job`` (name of the job), ``by`` (who), and parameters.
    keep
        Whether to leave a product as it is that is whole and was made by the same chain from the same inputs.

    Returns
    -------
    path
        Of the GeoTIFF, or of the FITS file for an image of the sky. A swath is brought to a regular grid of its own
        resolution.

    Raises
    ------
    NotFoundError
        When the collection has no such item.
    BandError, ImageError, InputError
        When a band is missing, a file is damaged, or a function returns no image.
    LimitError
        When the disk is full; nothing is left behind.
    """
    scene = chain.collection.item(item) if isinstance(item, str) else item
    target = Target.of(folder, name or scene.id, Packing.of(dtype, scale, nodata), provenance)
    whole = Whole(chain, scene)
    elsewhere = isinstance(whole.grid.placement, Swath) or _ONLY_PROJ in whole.grid.wkt
    source = _of_swath(chain, whole) if elsewhere else ItemSource(chain, whole)
    path = write(source, target, keep=keep)
    assert path is not None  # noqa: S101 - only empty pieces of composites are left out
    return path


_ONLY_PROJ = 'PROJECTION["custom_proj4"]'
"""GDAL's name for projections that a GeoTIFF cannot hold, such as the oblique cylindrical maps of Titan."""
_HELD = 200_000_000
"""Bytes that a window may take with all that is made of it."""
_BYTES = 20
"""Per pixel and band: as stored, for this window and the next, as read, as computed and as packed."""
_WINDOWS = (1024, 512, 256, 128)


def _of_swath(chain: Chain, whole: Whole) -> GridSource:
    """Return the pixels of a swath, or of a plane that no GeoTIFF knows, brought to a regular grid of its own resolution, in one piece."""
    item = whole.item
    grid = planning.choose_grid([item], chain.bands, box=item.bbox)
    grid = replace(grid, piece=max(grid.width, grid.height))
    return GridSource(restricted(chain, [item.id]), grid, (0, 0), said=chain)


def _others(chain: Chain, item: Item) -> list[Candidate]:
    own = chain.per_item.key if chain.per_item is not None else ""
    if all(source.key == own for source in chain.sources):
        return []
    found = candidates(chain, item.bbox)
    return [one for source, ones in found.items() if source != own for one in ones]


class ItemSource:
    """The pixels of one item, on the grid of its finest band."""

    def __init__(self, chain: Chain, whole: Whole) -> None:
        self.chain = chain
        self.item = item = whole.item
        self.whole = whole
        self.frame = whole.grid
        placement = whole.grid.placement
        self.coordinates = coordinates_of_image(placement) if isinstance(placement, Celestial) else None
        self._bands = sum(len(item.band(name)) for name in chain.bands)
        self._others = _others(chain, item)
        """Items of other collections that the chain reads there, such as the terrain that masks a scene."""
        self.early = True
        self.state = state_of(
            [(item.id, self.whole.files), *sorted((one.item.id, one.files) for one in self._others)]
        )
        self.extra: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.whole.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.whole.__exit__(None, None, None)

    def windows(self) -> Iterator[Window]:
        """Yield windows that are a whole number of the file's blocks, the smaller the more bands are held at once."""
        each = self._bands * _BYTES
        size = next((size for size in _WINDOWS if size * size * each <= _HELD), _WINDOWS[-1])
        return windows(self.whole.grid, size)

    def read(self, window: Window) -> Part:
        """Read the bands of a window and its halo."""
        return self.whole.read(window)

    def compute(self, part: Part) -> NDArray[Any]:
        """Return the chain's values."""
        return self.whole.compute(part)

    def look(self, count: int, packing: Packing) -> Look:
        """Return names, units and colours of the bands."""
        return look_of(self.chain, self.item, count, packing)

    def inputs(self, folder: Path) -> list[dict[str, Any]]:
        """Return the item, those of other collections, and the checksums of their files."""
        # The item's own files are inputs of this product alone, those of others of many.
        others = [describe_inputs(one.item, one.files, folder / KEPT) for one in self._others]
        return [describe_inputs(self.item, self.whole.files), *others]

    def items(self) -> list[Item]:
        """Return the item."""
        return [self.item]
