"""Between which values the colours of a chain are best spread, from a coarse look at all of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab import bodies
from cupola.lab.chains.compute import evaluate
from cupola.lab.collections.images import describe
from cupola.lab.tiles.encode import RGB

if TYPE_CHECKING:
    import numpy.typing as npt

    from cupola.lab.chains import Chain
    from cupola.lab.chains.compute.evaluate import Pixels

__all__ = ["coarse_tiles", "of_view", "stretch"]

PERCENTILES = (2.0, 98.0)
MOST_TILES = 4
"""Tiles that the coarse look may take."""
FINEST = 22
IMAGE_LEVEL = 12
"""The level of image space that has one pixel of the image per pixel."""
TILE = 256
LOOK = 400
"""Most pixels along a side of a look at a viewport: its percentiles do not need more."""


def coarse_tiles(tms: str, box: tuple[float, float, float, float] | None) -> list[tuple[int, int, int]]:
    """Return the tiles (x, y, z) that show `box` at the largest scale at which they are at most four.

    Parameters
    ----------
    tms
        Name of the tile grid.
    box
        West, south, east, north in degrees, west > east across the antimeridian; the whole body where there is none.
    """
    grid = bodies.tile_matrix_set(tms)
    first = grid.matrix(0)
    found = [(x, y, 0) for x in range(first.matrixWidth) for y in range(first.matrixHeight)]
    if box is None or "polar" in tms:
        return found
    west, south, east, north = box
    for zoom in range(1, FINEST + 1):
        # The limit on the grid first: below it tiles() would list millions.
        share = ((east - west) % 360 or 360) / 360 * (north - south) / 180
        if share * 4**zoom > MOST_TILES * 16:
            break
        tiles = [
            (tile.x, tile.y, tile.z)
            for tile in grid.tiles(west, south, east, north, zooms=[zoom], truncate=True)
        ]
        if len(tiles) > MOST_TILES:
            break
        found = tiles or found
    return found


def stretch(chain: Chain, tms: str) -> dict[str, Any]:
    """Look at a whole chain coarsely.

    Returns
    -------
    dict
        ``limits``: the 2nd and 98th percentile per band (common to all three of a colour picture, so that white
        stays white); ``bands``: how many the chain has; ``empty``: whether nothing was valid.
    """
    if tms == evaluate.IMAGE_SPACE:
        return _of([evaluate.tile(chain, tms, 0, 0, _whole_image(chain))])
    looks = [evaluate.tile(chain, tms, x, y, z) for x, y, z in coarse_tiles(tms, chain.collection.bbox)]
    return _of(looks)


def _whole_image(chain: Chain) -> int:
    """Return the level of image space at which one tile shows the whole first image."""
    image = describe(chain.collection.items[0].band(chain.bands[0])[0].path)
    return max(0, math.floor(IMAGE_LEVEL - math.log2(max(image.width, image.height, TILE) / TILE)))


def of_view(
    chain: Chain, tms: str, box: tuple[float, float, float, float], zoom: int | None
) -> dict[str, Any]:
    """Look at a viewport.

    Parameters
    ----------
    chain, tms
        What is shown, on which tile grid.
    box
        Left, bottom, right, top in the grid's units.
    zoom
        The level whose pixels the map shows; a look of `LOOK` pixels is enough where it would take more.

    Returns
    -------
    dict
        As `stretch` gives it.
    """
    left, bottom, right, top = box
    across, down = right - left, top - bottom
    cell = max(across, down) / LOOK
    if zoom is not None:
        cell = max(cell, _cell(tms, zoom))
    size = [min(max(round(length / cell), 1), LOOK) for length in (across, down)]
    return _of([evaluate.viewport(chain, tms, box, *size)])


def _cell(tms: str, zoom: int) -> float:
    """Return the size of a pixel at a level of a grid."""
    if tms == evaluate.IMAGE_SPACE:
        return 2.0 ** (IMAGE_LEVEL - zoom)
    return float(bodies.tile_matrix_set(tms).matrix(zoom).cellSize)


def _of(looks: list[Pixels]) -> dict[str, Any]:
    """Return the limits of what was looked at."""
    pixels = sum(look.valid.size for look in looks)
    looks = [look for look in looks if look.valid.any()]
    if not looks:
        return {"limits": [[0.0, 1.0]], "bands": 1, "empty": True}
    bands = looks[0].data.shape[0]
    values = [
        np.concatenate([look.data[band][look.valid] for look in looks]) for band in range(min(bands, RGB))
    ]
    values = [band[np.isfinite(band)] for band in values]
    if bands >= RGB:
        values = [np.concatenate(values)] * RGB
    return {"limits": [_limits(band) for band in values], "bands": bands, "empty": False, "pixels": pixels}


def _limits(values: npt.NDArray[np.float32]) -> list[float]:
    """Return two percentiles that differ."""
    if not values.size:
        return [0.0, 1.0]
    low, high = (float(limit) for limit in np.percentile(values, PERCENTILES))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        # Everything is the same: it gets the middle colour.
        room = max(abs(low) * 1e-3, 0.5)
        return [low - room, high + room]
    digits = 3 - math.floor(math.log10(high - low))
    return [round(low, digits), round(high, digits)]
