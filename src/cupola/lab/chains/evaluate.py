"""A chain where a map looks: one tile, at the scale of the tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from morecantile import Tile

from cupola.exceptions import BandError, BodyError, InputError
from cupola.lab import bodies
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.context import Context
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.sampling import Sampler, as_it_lies, tile_grid
from cupola.lab.collections.footprint import outline_box
from cupola.lab.collections.images import describe
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from morecantile import TileMatrixSet
    from numpy.typing import NDArray

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.sampling import Grid
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Band
    from cupola.lab.collections.items import Item
    from cupola.lab.projection import LonLat

__all__ = ["MAX_ITEMS", "Pixels", "tile"]

MAX_ITEMS = 16
"""Most items looked at for one tile: each costs 10 to 30 ms."""

_MAX_SIZE = 2048


@dataclass(frozen=True)
class Pixels:
    """What a chain is worth in a tile."""

    data: NDArray[np.float32]
    """(bands, rows, columns), NaN where there is no data."""
    valid: NDArray[np.bool_]
    """(rows, columns): whether any band has a finite value."""
    items: list[str]
    """Ids of the items it was computed from."""


def tile(  # noqa: PLR0913, PLR0917 - the order of every tile address
    chain: Chain,
    tms: str | TileMatrixSet,
    x: int,
    y: int,
    z: int,
    size: int = 256,
    *,
    max_items: int = MAX_ITEMS,
) -> Pixels:
    """Compute a chain in one tile, at the tile's own scale.

    The items that touch the tile are laid over one another, the newest on top, until no pixel is missing.
    Values are the nearest pixels of the fitting overview.

    Parameters
    ----------
    chain
        What to compute.
    tms
        A tile grid of `cupola.lab.bodies` or its name: ``WebMercatorQuad``, ``Mars2015eqc``, ``Moon2015npolar`` ...
    x, y, z
        Column, row and zoom level.
    size
        Rows and columns of the result.
    max_items
        Most items to look at.

    Returns
    -------
    pixels
        All invalid where there is nothing.

    Raises
    ------
    BodyError
        When the images show another body than the grid's, or have no coordinate system.
    BandError
        When no item here has the bands.
    ImageError
        When a file cannot be read.
    InputError
        When a function of the chain returns no image, or there is no such tile.
    """
    name = tms if isinstance(tms, str) else str(tms.id)
    grid_set = bodies.tile_matrix_set(name)
    if not 1 <= size <= _MAX_SIZE:
        raise InputError(f"A tile has 1 to {_MAX_SIZE} rows, not {size}.")
    matrix = grid_set.matrix(z) if grid_set.minzoom <= z <= grid_set.maxzoom else None
    if matrix is None or not (0 <= x < matrix.matrixWidth and 0 <= y < matrix.matrixHeight):
        raise InputError(f"The grid {grid_set.id} has no tile {z}/{x}/{y}.")
    box = grid_set.xy_bounds(Tile(x, y, z))
    grid = tile_grid(_plane(name), (box.left, box.bottom, box.right, box.top), size)
    return _mosaic(chain, grid, bodies.body_of_tms(name), max_items)


@lru_cache(maxsize=64)
def _plane(name: str) -> LonLat:
    """Return the coordinate system of a tile grid."""
    system = bodies.tile_matrix_set(name).crs
    return lonlat_of_wkt(system._pyproj_crs.to_wkt())  # noqa: SLF001 - morecantile has no other way


def _mosaic(chain: Chain, grid: Grid, body: bodies.Body, max_items: int) -> Pixels:
    """Lay items over one another, the newest on top, until the grid is full."""
    collection = chain.collection
    _check_body(collection.items[:1], body)
    box = _box(grid)
    touching = collection.touching(box) if box else []
    data: NDArray[np.float32] | None = None
    valid = np.zeros((grid.height, grid.width), dtype=bool)
    used: list[str] = []
    no_band: BandError | None = None
    for item in touching[:max_items]:
        _check_body((item,), body)
        try:
            values = _one_item(chain, item, grid)
        except BandError as error:
            no_band = no_band or error
            continue
        if values is None:
            continue
        new = np.isfinite(values).any(axis=0) & ~valid
        if not new.any():
            continue
        used.append(item.id)
        if data is None:
            data = values
            data[:, ~new] = np.nan
        elif values.shape == data.shape:
            np.copyto(data, values, where=new)
        else:
            raise InputError(
                f"The chain has {values.shape[0]} bands for {item} and {data.shape[0]} for {used[0]}: "
                "its function must return the same number for all."
            )
        valid |= new
        if valid.all():
            break
    if data is None:
        if no_band is not None:
            raise no_band
        data = np.full((1, grid.height, grid.width), np.nan, dtype=np.float32)
    return Pixels(data, valid, used)


def _one_item(chain: Chain, item: Item, grid: Grid) -> NDArray[np.float32] | None:
    """Return a chain's values for one item; nothing where the item has no pixel here."""
    bands = {name: item.band(name) for name in chain.bands}
    images = [describe(band.path) for found in bands.values() for band in found]
    # A function that looks at neighbours must see pixels as they lie in the image: nearest pixels of a finer grid
    # repeat, and would show as steps. So it is computed there, and its result brought to the grid.
    lies = as_it_lies(grid, max(images, key=lambda image: image.width * image.height)) if chain.halo else None
    if lies is None:
        return _on_grid(chain, item, bands, grid)
    values = _on_grid(chain, item, bands, lies.grid)
    return None if values is None else lies.bring(values)


def _on_grid(
    chain: Chain, item: Item, bands: dict[str, list[Band]], grid: Grid
) -> NDArray[np.float32] | None:
    """Return a chain's values at the places of `grid`; nothing where no band has a pixel there."""
    halo = chain.halo
    sampler = Sampler(grid.padded(halo))
    if not sampler.prefetch([band for found in bands.values() for band in found]):
        return None
    program = chain.program

    def leaf(place: int) -> NDArray[np.float32]:
        step = program.lines[place].step
        if not isinstance(step, Bands):
            raise InputError(f"A viewport cannot show {step.op} yet: run the chain instead.")
        return np.stack([sampler.read(band) for name in step.names for band in bands[name]])

    context = Context(sampler.grid, item, item.body)
    values = compute(program, program.section(program.last), leaf, context)
    return values[:, halo : halo + grid.height, halo : halo + grid.width] if halo else values


def _check_body(items: tuple[Item, ...], body: bodies.Body) -> None:
    """Refuse data of one body on the grid of another."""
    for item in items:
        if item.body is None:
            raise BodyError(
                f"{capital(item)} has no coordinate system, so it has no place on a map of {body.name}; "
                "run the chain over it, or give it a camera model first."
            )
        if item.body.name != body.name:
            raise BodyError(
                f"{capital(item)} shows {item.body.name}, which cannot be drawn on a map of {body.name}; "
                f"use a map of {item.body.name} ({bodies.tms_name(item.body)})."
            )


def _box(grid: Grid) -> Box | None:
    """Return the grid's box in degrees, poles and antimeridian taken into account."""
    steps = np.linspace(0, 1, 17)
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    # A hair inside: on the very edge of the world -180 and +180 are the same place.
    columns = 1e-6 + np.concatenate([steps, ones, steps[::-1], zeros]) * (grid.width - 2e-6)
    rows = 1e-6 + np.concatenate([zeros, steps, ones, steps[::-1]]) * (grid.height - 2e-6)
    return outline_box(*grid.lonlat(columns, rows))
