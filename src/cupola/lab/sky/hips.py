"""A chain as a HiPS: the tiles, and what has to be known before, computed in a tile worker when they are asked for.

A HiPS (IVOA recommendation 1.0) cuts the sphere into HEALPix cells, four times as many at each order; one tile shows
one cell in 512 x 512 pixels, which are cells too, nine orders finer.
"""

from __future__ import annotations

import io
import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import BodyError, CupolaError
from cupola.lab.collections.images import describe
from cupola.lab.collections.wording import capital
from cupola.lab.sky import coverage
from cupola.lab.sky.properties import DEEPEST, SIZE, Properties
from cupola.lab.tiles import encode, works

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.chains import Chain
    from cupola.lab.chains.compute.evaluate import Pixels
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image
    from cupola.lab.tiles.styles import Style

__all__ = ["compute", "describe_chain", "order_for", "work"]

ALLSKY_ORDER = 3
ALLSKY_SIZE = 64
LOOKED_AT = 300
"""Images whose own pixels are asked for the footprint; of further items the boxes count."""
LOOK_SIZE = 128
"""Rows and columns of the tiles that limits are found in."""
LOOK_TILES = 12
BODY = "Sky"
RGB = 3


def work(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Answer what `cupola.lab.tiles.hips` asks a worker for.

    Parameters
    ----------
    chain
        Of images of the sky.
    request
        ``part``: ``about`` (JSON: the properties and the covered cells), ``moc``, ``stretch`` (JSON: limits, for a ``scale``),
        ``tile`` (with ``order``, ``pixel``, ``kind``, ``style`` and ``exact``) or ``allsky`` (with ``style``).

    Raises
    ------
    BodyError
        The chain does not show the sky.
    """
    from cupola.lab.tiles.styles import Style

    part, revision = request["part"], request["revision"]
    if part == "about":
        about, cells = describe_chain(chain, revision)
        return {}, json.dumps({**about, "cells": coverage.uniq(cells).tolist()}).encode()
    if part == "moc":
        return {}, coverage.moc_file(describe_chain(chain, revision)[1])
    if part == "stretch":
        return {}, json.dumps(limits(chain, revision, request["scale"])).encode()
    if part == "allsky":
        return {}, allsky(chain, revision, Style.from_json(request["style"]))
    pixels = compute(chain, request["order"], request["pixel"], exact=bool(request.get("exact")))
    if request["kind"] == "fits":
        return works.told(pixels), fits_tile(pixels, request["order"], request["pixel"])
    return works.told(pixels), encode.png(pixels.data, pixels.valid, Style.from_json(request["style"]))


def compute(chain: Chain, order: int, pixel: int, size: int = SIZE, *, exact: bool = False) -> Pixels:
    """Compute one tile: the cell `pixel` of `order` in `size` rows and columns, the first row on top.

    One that is wanted `exact` is so as far as `works.looked_at` goes.
    """
    from cupola.lab.chains.compute.evaluate import on_grid
    from cupola.lab.chains.pixels.sampling import HipsGrid

    return works.looked_at(on_grid, chain, HipsGrid(order, pixel, size), exact=exact)


def order_for(degrees: float) -> int:
    """Return the first order whose pixels are no larger than those of an image."""
    # Nothing is gained by the next order for a few per cent.
    needed = math.log2(coverage.cell_degrees(0) / SIZE / degrees) - 0.07
    return min(max(math.ceil(needed), 0), DEEPEST)


def _images(chain: Chain) -> list[Image]:
    """Return the first image of each of the chain's items, as far as they are looked at."""
    found: dict[str, Image] = {}
    for collection in collections_of(chain):
        for item in collection.items[:LOOKED_AT]:
            if item.body is None or item.body.name != BODY:
                what = f"shows {item.body.name}" if item.body else "has no place on the sky"
                raise BodyError(f"{capital(item)} {what}; a sky map shows images with celestial coordinates.")
            band = _band(chain, item)
            if band is not None:
                found[band.path] = describe(band.path)
    return list(found.values())


def _band(chain: Chain, item: Any) -> Any:
    """Return the first band of an item that the chain uses, if it has one."""
    for name in chain.bands:
        try:
            return item.band(name)[0]
        except CupolaError:
            continue
    return None


def collections_of(chain: Any) -> list[Any]:
    """Return the collections that a chain starts from."""
    several = getattr(chain, "collections", None)
    return list(several) if several else [chain.collection]


def pixel_degrees(image: Image) -> float:
    """Return the side of an image's pixel in its middle, in degrees: the square root of its area."""
    placement: Any = image.placement
    column, row = image.width / 2, image.height / 2
    # Three places: in the middle, one pixel beside it, one below it.
    longitudes, latitudes = placement.lonlat(
        np.array([column, column + 1.0, column]), np.array([row, row, row + 1.0])
    )
    across, down = (
        float(coverage.separation(longitudes[pair], latitudes[pair])[0]) for pair in ([0, 1], [0, 2])
    )
    size = math.sqrt(across * down)
    return size if math.isfinite(size) and size > 0 else 1.0


@lru_cache(maxsize=64)
def _described(chain: Chain, _hash: str, _revision: str) -> tuple[Properties, coverage.Cells]:
    images = _images(chain)
    outlines = [coverage.outline_of_image(image) for image in images]
    boxes: list[Box] = []
    for collection in collections_of(chain):
        boxes += [item.bbox for item in collection.items[LOOKED_AT:] if item.bbox is not None]
    cells = coverage.cells_of(outlines, boxes)
    spread = [coverage.outline_of_box(box) for box in boxes[:: max(len(boxes) // LOOKED_AT, 1)]]
    ra, dec, size = coverage.middle([*outlines, *spread])
    finest = min((pixel_degrees(image) for image in images), default=1.0)
    about = {
        "order": order_for(finest),
        "degrees": finest,
        "ra": ra,
        "dec": dec,
        "fov": min(max(size * 1.2, finest * 16), 180.0),
        "fraction": coverage.fraction(cells),
        "title": chain.label,
    }
    return about, cells


def describe_chain(chain: Chain, revision: str) -> tuple[Properties, coverage.Cells]:
    """Return what a chain's HiPS says about itself, and the cells that its images cover."""
    return _described(chain, chain.hash, revision)


def limits(chain: Chain, revision: str, scale: str) -> dict[str, Any]:
    """Return between which values the shades of a chain are best spread, from a coarse look at all of it.

    Returns
    -------
    dict
        ``limits`` (a pair per band, the same for all three of a colour picture), ``bands`` and ``empty``. The upper
        limit is the 98th percentile for a linear scale and the 99.8th for others, which show faint and bright at once.
    """
    _, cells = describe_chain(chain, revision)
    looks = [look for look in _coarse(chain, cells) if look.valid.any()]
    if not looks:
        return {"limits": [[0.0, 1.0]], "bands": 1, "empty": True}
    bands = looks[0].data.shape[0]
    shown = min(bands, RGB)
    values = [np.concatenate([look.data[band][look.valid] for look in looks]) for band in range(shown)]
    if bands >= RGB:
        if all(set(image.dtypes) == {"uint8"} for image in _images(chain)):
            # A picture that is ready for the eye is not stretched once more.
            return {"limits": [[0.0, 255.0]] * RGB, "bands": bands, "empty": False}
        values = [np.concatenate(values)] * RGB
    ends = (2.0, 98.0) if scale == "linear" else (2.0, 99.8)
    return {"limits": [_limits(band, ends) for band in values], "bands": bands, "empty": False}


def _coarse(chain: Chain, cells: coverage.Cells) -> list[Pixels]:
    """Compute the whole chain in a few small tiles."""
    order = 0
    for finer in range(1, DEEPEST + 1):
        if len(coverage.at_order(cells, finer)) > LOOK_TILES:
            break
        order = finer
    about = [(order, pixel) for pixel in coverage.at_order(cells, order)]
    return [compute(chain, order, pixel, LOOK_SIZE) for order, pixel in about]


def _limits(values: NDArray[np.float32], ends: tuple[float, float]) -> list[float]:
    """Return two percentiles that differ."""
    values = values[np.isfinite(values)]
    if not values.size:
        return [0.0, 1.0]
    low, high = (float(limit) for limit in np.percentile(values, ends))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        room = max(abs(low) * 1e-3, 0.5)
        return [low - room, high + room]
    digits = 3 - math.floor(math.log10(high - low))
    return [round(low, digits), round(high, digits)]


def allsky(chain: Chain, revision: str, style: Style) -> bytes:
    """Return all cells of order 3 in one picture: 27 to the row, 64 pixels wide."""
    from PIL import Image

    _, cells = describe_chain(chain, revision)
    across = math.isqrt(12 * 4**ALLSKY_ORDER)
    down = math.ceil(12 * 4**ALLSKY_ORDER / across)
    picture = Image.new("RGBA", (across * ALLSKY_SIZE, down * ALLSKY_SIZE), (0, 0, 0, 0))
    for pixel in coverage.at_order(cells, ALLSKY_ORDER):
        pixels = compute(chain, ALLSKY_ORDER, pixel, ALLSKY_SIZE)
        tile = encode.png(pixels.data, pixels.valid, style)
        with Image.open(io.BytesIO(tile)) as part:
            place = (pixel % across * ALLSKY_SIZE, pixel // across * ALLSKY_SIZE)
            picture.paste(part.convert("RGBA"), place)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def fits_tile(pixels: Pixels, order: int, pixel: int) -> bytes:
    """Return a tile of values: float32, NaN where there is nothing, the last row first; planes for several bands."""
    from astropy.io import fits

    values = np.where(pixels.valid, pixels.data, np.float32(np.nan))[:, ::-1, :]
    unit = fits.PrimaryHDU(np.ascontiguousarray(values[0] if len(values) == 1 else values, dtype=">f4"))
    unit.header["ORDER"] = order
    unit.header["NPIX"] = pixel
    buffer = io.BytesIO()
    unit.writeto(buffer)
    return buffer.getvalue()
