"""A chain at full resolution into memory: one item, or the part of it in a box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.windows import Window

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains.compute import evaluate
from cupola.lab.chains.compute.planning import plan
from cupola.lab.chains.compute.whole import Whole, windows
from cupola.lab.collections.footprint import check_box
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray
    from numpy.typing import NDArray

    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = ["compute"]

_MOST_PIXELS = 64_000_000
"""What a notebook's kernel is asked to hold at once: 256 MB per band."""


def compute(
    chain: Chain, item: str | None = None, *, bbox: Iterable[float] | None = None
) -> xarray.DataArray:
    """Compute a chain over one item, or the part of it in a box, at full resolution into memory.

    Parameters
    ----------
    chain
        What to compute.
    item
        Id of the item; the newest (that touches `bbox`) where nothing is said.
    bbox
        West, south, east, north in degrees; the whole item where nothing is said.

    Returns
    -------
    values
        float32 with the dimensions (band, y, x); `attrs` has ``item``, ``crs`` (WKT) and ``transform``.

    Raises
    ------
    NotFoundError
        When there is no such item, or none touches the box.
    LimitError
        When it is more than a kernel should hold.
    """
    box = None if bbox is None else check_box(bbox)
    if chain.reduced:
        return _reduced(chain, item, box)
    items = chain.collection.items if box is None else chain.collection.touching(box)
    if not items:
        where = "" if box is None else f" that touches {box}"
        raise NotFoundError(f"{capital(chain.collection)} has no item{where}.")
    scene = chain.collection.item(item) if item is not None else items[0]
    with Whole(chain, scene) as whole:
        grid = whole.grid
        area = Window(0, 0, grid.width, grid.height) if box is None else _window_of(box, grid, scene)
        _check_size(area.width, area.height)
        pieces: dict[int, list[Any]] = {}
        for window in windows(grid):
            piece = _overlap(window, area)
            if piece is not None:
                pieces.setdefault(piece.row_off, []).append(whole.compute(whole.read(piece)))
    values = np.concatenate([np.concatenate(row, axis=2) for row in pieces.values()], axis=1)
    a, b, c, d, e, f = grid.transform[:6]
    left, top = area.col_off, area.row_off
    transform = (a, b, c + a * left + b * top, d, e, f + d * left + e * top)
    return _array(chain, values, transform, {"item": scene.id, "crs": grid.wkt})


def _reduced(chain: Chain, item: str | None, box: Box | None) -> xarray.DataArray:
    """Compute one image of many items, on the grid that a run would write."""
    if item is not None:
        raise InputError(
            "This chain makes one image of all items, so none of them can be chosen: leave out item, or choose it "
            "before with collection.only(item)."
        )
    grid = plan(chain, bbox=box)
    _check_size(grid.width, grid.height)
    whole = Window(0, 0, grid.width, grid.height)
    pixels = evaluate.on_grid(chain, grid.window(whole), max_items=None)
    return _array(chain, pixels.data, tuple(grid.transform[:6]), {"items": pixels.items, "crs": grid.wkt})


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise LimitError(
            f"That is {width * height / 1e6:,.0f} million pixels, more than a notebook should hold: "
            "give a smaller bbox, or use run() to write products."
        )


def _array(
    chain: Chain, values: NDArray[np.float32], transform: tuple[float, ...], attributes: dict[str, Any]
) -> xarray.DataArray:
    """Return values (band, y, x) with the coordinates of their pixels."""
    import xarray

    a, b, c, d, e, f = transform
    coordinates: dict[str, Any] = {"band": np.arange(values.shape[0])}
    if b == d == 0:
        coordinates["x"] = c + a * (0.5 + np.arange(values.shape[2]))
        coordinates["y"] = f + e * (0.5 + np.arange(values.shape[1]))
    attributes = {**attributes, "transform": transform}
    return xarray.DataArray(
        values, dims=("band", "y", "x"), coords=coordinates, name=chain.label, attrs=attributes
    )


def _overlap(one: Window, other: Window) -> Window | None:
    """Return what two windows share."""
    left, top = max(one.col_off, other.col_off), max(one.row_off, other.row_off)
    right = min(one.col_off + one.width, other.col_off + other.width)
    bottom = min(one.row_off + one.height, other.row_off + other.height)
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None


def _window_of(box: tuple[float, float, float, float], grid: Image, item: Item) -> Window:
    """Return the window of an image that holds a box in degrees."""
    if grid.crs is None:
        raise InputError(f"{capital(item)} has no coordinate system, so a bbox says nothing: leave it out.")
    west, south, east, north = box
    east = east + 360 if east < west else east
    steps = np.linspace(0, 1, 33)
    longitudes, latitudes = np.meshgrid(west + (east - west) * steps, south + (north - south) * steps)
    x, y = lonlat_of(grid.crs).forward(longitudes.ravel(), latitudes.ravel())
    a, b, c, d, e, f = (~grid.transform)[:6]
    columns, rows = a * x + b * y + c, d * x + e * y + f
    good = np.isfinite(columns) & np.isfinite(rows)
    if good.any():
        left, right = (
            max(0, int(np.floor(columns[good].min()))),
            min(grid.width, int(np.ceil(columns[good].max()))),
        )
        top, bottom = (
            max(0, int(np.floor(rows[good].min()))),
            min(grid.height, int(np.ceil(rows[good].max()))),
        )
        if right > left and bottom > top:
            return Window(left, top, right - left, bottom - top)
    raise NotFoundError(f"No pixel of {item} lies in {box}.")
