"""A chain where somebody looks: a tile, a viewport, any grid, at the scale of what is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from morecantile import Tile

from cupola.exceptions import InputError
from cupola.lab import bodies
from cupola.lab.chains.compute.evaluation import Evaluation
from cupola.lab.chains.compute.exact import exact_whole
from cupola.lab.chains.compute.gaps import Uncovered
from cupola.lab.chains.compute.probing import area, probe
from cupola.lab.chains.pixels.grids import Grid, ImageGrid, tile_grid
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from morecantile import TileMatrixSet
    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.images import Image
    from cupola.lab.projection import LonLat

__all__ = ["IMAGE_SPACE", "MAX_ITEMS", "Pixels", "area", "on_grid", "probe", "tile", "viewport"]

MAX_ITEMS = 64
"""Most items that are read for one tile: each costs 5 to 30 ms. Those that lie wholly below others are not."""
IMAGE_SPACE = "ImageSpace"
"""The tile grid of images without a coordinate system: columns and rows of one image."""

FIRST_ITEMS = 16
"""Most items that are read for a tile that is to be made of an overview soon."""
_MAX_SIZE = 2048
_MAX_VIEW = 8192
_IMAGE_LEVEL = 12
"""The level of image space that has one pixel of the image per pixel."""
_IMAGE_LEVELS = 18
_TILE = 256


@dataclass(frozen=True)
class Pixels:
    """What a chain is worth in a grid."""

    data: NDArray[np.float32]
    """(bands, rows, columns), NaN where there is no data."""
    valid: NDArray[np.bool_]
    """(rows, columns): whether any band has a finite value."""
    items: list[str]
    """Ids of the items it was computed from."""
    scale: float = 0.0
    """Metres per pixel at which the coarsest step was computed: arcseconds on the sky, pixels in image space."""
    exact: bool = True
    """Whether a run gives these values at these places: each step saw full-resolution pixels, or has its own scale."""
    left_out: int = 0
    """How many items were not looked at although they may fill what is missing: there were too many."""


def tile(  # noqa: PLR0913, PLR0917 - the order of every tile address
    chain: Chain,
    tms: str | TileMatrixSet,
    x: int,
    y: int,
    z: int,
    size: int = 256,
    *,
    exact: bool = False,
    max_items: int = MAX_ITEMS,
) -> Pixels:
    """Compute a chain in one tile, at the tile's own scale.

    The items that touch the tile are laid over one another, the newest on top, until no pixel is missing, unless the
    chain itself reduces them. Values are those of the fitting level of the pyramid.

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
    exact
        Compute on full-resolution pixels, and take those at the tile's places of the result.
    max_items
        Most items to read.

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
    LimitError
        When an exact preview would be too large, or a reduction is of too many images.
    """
    name = tms if isinstance(tms, str) else str(tms.id)
    if not 1 <= size <= _MAX_SIZE:
        raise InputError(f"A tile has 1 to {_MAX_SIZE} rows, not {size}.")
    if name == IMAGE_SPACE:
        if not (0 <= z <= _IMAGE_LEVELS and x >= 0 and y >= 0):
            raise InputError(f"The grid {name} has no tile {z}/{x}/{y}.")
        step = 2.0 ** (_IMAGE_LEVEL - z)
        box = (x * _TILE * step, -(y + 1) * _TILE * step, (x + 1) * _TILE * step, -y * _TILE * step)
        return viewport(chain, name, box, size, size, exact=exact, max_items=max_items)
    grid_set = bodies.tile_matrix_set(name)
    matrix = grid_set.matrix(z) if grid_set.minzoom <= z <= grid_set.maxzoom else None
    if matrix is None or not (0 <= x < matrix.matrixWidth and 0 <= y < matrix.matrixHeight):
        raise InputError(f"The grid {grid_set.id} has no tile {z}/{x}/{y}.")
    bounds = grid_set.xy_bounds(Tile(x, y, z))
    grid = tile_grid(_plane(name), (bounds.left, bounds.bottom, bounds.right, bounds.top), size)
    return _computed(chain, grid, bodies.body_of_tms(name), exact=exact, max_items=max_items)


def viewport(  # noqa: PLR0913 - a place, a size and how
    chain: Chain,
    tms: str | TileMatrixSet,
    box: Sequence[float],
    width: int,
    height: int,
    *,
    exact: bool = False,
    max_items: int = MAX_ITEMS,
) -> Pixels:
    """Compute a chain in one image of a whole viewport: what its tiles hold, for less than they cost together.

    Parameters
    ----------
    chain, tms, exact, max_items
        As for `tile`.
    box
        Left, bottom, right and top in the grid's own metres.
    width, height
        Columns and rows of the result.

    Returns
    -------
    pixels
        All invalid where there is nothing.

    Raises
    ------
    InputError
        When box or size are wrong; besides the errors of `tile`.
    """
    name = tms if isinstance(tms, str) else str(tms.id)
    left, bottom, right, top = (float(value) for value in box)
    if not (left < right and bottom < top and np.isfinite([left, bottom, right, top]).all()):
        raise InputError(f"A viewport's box is left, bottom, right, top in metres, not {tuple(box)}.")
    if not (1 <= width <= _MAX_VIEW and 1 <= height <= _MAX_VIEW):
        raise InputError(f"A viewport has 1 to {_MAX_VIEW} columns and rows, not {width} x {height}.")
    step_x, step_y = (right - left) / width, (top - bottom) / height
    if name == IMAGE_SPACE:
        image = _image_of(chain)
        view = ImageGrid(image, left, -top, step_x, width, height, step_y)
        return _computed(chain, view, image.body, exact=exact, max_items=1)
    grid = Grid(_plane(name), left, top, step_x, step_y, width, height)
    return _computed(chain, grid, bodies.body_of_tms(name), exact=exact, max_items=max_items)


def on_grid(chain: Chain, grid: AnyGrid, *, exact: bool = False, max_items: int | None = MAX_ITEMS) -> Pixels:
    """Compute a chain on any grid of `cupola.lab.chains.pixels.grids`.

    Parameters
    ----------
    chain, exact
        As for `tile`.
    grid
        Where; of the body that the chain's images show.
    max_items
        Most items to read; nothing for a run, which has no limits of a preview either.

    Returns
    -------
    pixels
        All invalid where there is nothing.

    Raises
    ------
    BandError, BodyError, ImageError, InputError, LimitError
        As for `tile`.
    """
    return _computed(chain, grid, chain.body, exact=exact, max_items=max_items)


@lru_cache(maxsize=64)
def _plane(name: str) -> LonLat:
    """Return the coordinate system of a tile grid."""
    system = bodies.tile_matrix_set(name).crs
    return lonlat_of_wkt(system._pyproj_crs.to_wkt())  # noqa: SLF001 - morecantile has no other way


def _image_of(chain: Chain) -> Image:
    """Return the image whose columns and rows image space has: the finest of the newest item."""
    items = chain.collection.items
    if not items:
        raise InputError("The collection has no images to show.")
    return Evaluation(chain.program, items[0].body).images(chain.program.last, items[0])[0]


def _computed(
    chain: Chain, grid: AnyGrid, body: Body | None, *, exact: bool, max_items: int | None
) -> Pixels:
    """Compute a chain on a grid: items over one another, or the one image that the chain makes of them."""
    program = chain.program
    evaluation = Evaluation(program, body, exact=exact, limited=max_items is not None)
    if program.source is None:
        data = exact_whole(evaluation, grid) if exact else evaluation.values(program.last, grid)
        found = None if data is None else (data, _seen(data))
    else:
        found = _layered(evaluation, program.source, grid, max_items)
    if found is None:
        size = (grid.height, grid.width)
        found = np.full((1, *size), np.nan, dtype=np.float32), np.zeros(size, dtype=np.bool_)
    return Pixels(*found, list(evaluation.used), evaluation.scale, evaluation.exact, evaluation.left_out)


def _seen(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell where any band has a value."""
    known: NDArray[np.bool_] = np.isfinite(values)
    if len(known) == 1:
        first: NDArray[np.bool_] = known[0]
        return first
    return np.asarray(known.any(axis=0), dtype=np.bool_)


def _layered(
    evaluation: Evaluation, source: Source, grid: AnyGrid, max_items: int | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Lay items over one another, the newest on top, until the grid is full."""
    queue = Uncovered(evaluation.items(source, grid), grid, max_items)
    found: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None
    for item, values in evaluation.each(evaluation.program.last, grid, queue):
        if queue.learns:
            queue.learn(evaluation.covered(evaluation.program.last, grid, item))
        seen = _seen(values)
        new = seen if found is None else seen & ~found[1]
        if not new.any():
            continue
        evaluation.used[item.id] = None
        if found is None:
            if not new.all():
                values[:, ~new] = np.nan
            found = values, new
        elif values.shape == found[0].shape:
            np.copyto(found[0], values, where=new)
            np.logical_or(found[1], new, out=found[1])
        else:
            raise InputError(
                f"The chain has {values.shape[0]} bands for {item} and {found[0].shape[0]} for "
                f"{next(iter(evaluation.used))}: its function must return the same number for all."
            )
        queue.missing = ~found[1]
        if not queue.missing.any():
            break
    evaluation.left_out += queue.left
    return found
