"""Where the places of a grid lie in an image, in the image's pixels.

The places are carried over for a coarse net of control points only, and spread evenly between them; meshes of the net
in which that is not good enough (edges of swaths, poles, the antimeridian) are computed place by place.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cupola.exceptions import InputError
from cupola.lab.chains.pixels.grids import Grid, ImageGrid
from cupola.lab.collections.placement import Affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.images import Image

__all__ = ["Lying", "image_pixels", "lying", "same_pixels"]

Floats = Any  # NDArray[np.float64], written short

_NETS = (9, 17, 33, 65, 129)
"""Control points along each side: a finer net is taken where the one before is not good enough for most meshes."""
_FEW = 0.05
"""Share of bad meshes that are computed place by place rather than on a finer net."""
_TOLERANCE = 0.125
"""How far the net may be off, in pixels of the level that is read; GDAL's warper takes the same."""
_BACK = 33
"""Points along each side of an image that are carried back to the grid, to find an image that falls through its net."""
_BACK_LONG = 513
"""Along the longer side of a long one."""


class Lying(NamedTuple):
    """Where the places of a grid lie in an image."""

    columns: Floats
    rows: Floats
    """In pixels from `left` and `top`, NaN where the image has no such place; a single row of columns and a single
    column of rows where the grid shares the image's axes."""
    factor: float
    """How many image pixels make one of the grid's."""
    left: int = 0
    top: int = 0
    hull: tuple[float, float, float, float] | None = None
    """Least and greatest column, least and greatest row, from the image's corner, where no place is NaN."""


def image_pixels(grid: AnyGrid, image: Image) -> tuple[Floats, Floats, float] | None:
    """Return columns and rows of the grid's places in the image, and how many image pixels make one of the grid's.

    Places that the image does not have are NaN. Nothing where the image certainly has none of them.
    """
    found = lying(grid, image)
    if found is None:
        return None
    if not (found.left or found.top):
        return found.columns, found.rows, found.factor
    return (
        found.columns.astype(np.float64) + found.left,
        found.rows.astype(np.float64) + found.top,
        found.factor,
    )


def lying(grid: AnyGrid, image: Image) -> Lying | None:
    """Return where the grid's places lie in the image; nothing where the image certainly has none of them."""
    straight = _straight(grid, image)
    if straight is not None:
        return straight
    if image.placement is None:
        return None
    most = min(grid.width, grid.height) // 2
    for points in _NETS:
        if points > most:
            break
        net_columns = np.linspace(0.5, grid.width - 0.5, points)
        net_rows = np.linspace(0.5, grid.height - 0.5, points)
        mesh = np.meshgrid(net_columns, net_rows)
        columns, rows = _transform(grid, image, *mesh)
        factor = _decimation(columns, rows, net_columns, net_rows)
        bad = _bad_meshes(grid, image, mesh, (columns, rows), factor)
        if not bad.any():
            return None if _beside(columns, rows, image) else _whole(columns, rows, grid, factor)
        empty = bad & _empty(grid, image, columns, rows)
        if empty.all():
            return None
        if (bad & ~empty).mean() < _FEW or points == _NETS[-1] or 2 * points > most:
            return _partly(grid, image, (columns, rows), (bad & ~empty, empty), factor)
    every = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    columns, rows = _transform(grid, image, *every)
    return Lying(columns, rows, _decimation(columns, rows, every[0][0], every[1][:, 0]))


def _whole(columns: Floats, rows: Floats, grid: AnyGrid, factor: float) -> Lying:
    """Return all places of a good net; in single precision, from a corner near by."""
    hull = float(columns.min()), float(columns.max()), float(rows.min()), float(rows.max())
    left, top = math.floor(hull[0]), math.floor(hull[2])
    near = ((axis - corner).astype(np.float32) for axis, corner in ((columns, left), (rows, top)))
    spread_columns, spread_rows = (_spread(axis, grid) for axis in near)
    return Lying(spread_columns, spread_rows, factor, left, top, hull)


def _straight(grid: AnyGrid, image: Image) -> Lying | None:
    """Return the places of a grid that shares the image's axes, without going through degrees.

    Columns have shape (1, width) and rows (height, 1): what is straight needs no more.
    """
    at_x, at_y = np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5
    if isinstance(grid, ImageGrid):
        if not same_pixels(grid.image, image):
            if image.placement is None or grid.image.placement is None:
                _refuse(grid.image, image)
            return None
        columns, rows = grid.of_image(at_x, at_y)
        return Lying(columns[np.newaxis], rows[:, np.newaxis], max(1.0, min(grid.step, abs(grid.down))))
    placement = image.placement
    if not isinstance(grid, Grid) or not isinstance(placement, Affine) or grid.plane is not placement.plane:
        return None
    a, b, _, d, e, _ = placement.transform[:6]
    if b or d or placement.plane.period is not None:
        return None
    columns, _ = placement.of_plane(grid.left + at_x * grid.resolution_x, np.full(grid.width, grid.top))
    _, rows = placement.of_plane(np.full(grid.height, grid.left), grid.top - at_y * grid.resolution_y)
    factor = min(abs(grid.resolution_x / a), abs(grid.resolution_y / e))
    return Lying(columns[np.newaxis], rows[:, np.newaxis], max(1.0, factor))


def same_pixels(one: Image, other: Image) -> bool:
    """Whether the pixels of two images lie at the same places."""
    if (one.width, one.height) != (other.width, other.height):
        return False
    if one.path == other.path:
        return True
    if one.placement is None or other.placement is None:
        return one.placement is other.placement
    if one.curved is not None or other.curved is not None:
        return one.curved == other.curved
    return one.wkt == other.wkt and one.transform.almost_equals(other.transform, 1e-6 * abs(one.transform.a))


def _refuse(one: Image, other: Image) -> None:
    raise InputError(
        f"{one.path} ({one.width} x {one.height}) and {other.path} ({other.width} x {other.height}) have no common "
        "coordinate system and differ in size, so their pixels cannot be laid over one another: bring them to one "
        "size first."
    )


def _transform(grid: AnyGrid, image: Image, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Carry places from the grid to the image, both in pixels."""
    shape, placement = columns.shape, image.placement
    if placement is None:
        nowhere = np.full(shape, np.nan)
        return nowhere, nowhere.copy()
    columns, rows = columns.ravel(), rows.ravel()
    if isinstance(grid, Grid) and isinstance(placement, Affine) and grid.plane is placement.plane:
        found = placement.of_plane(*grid.coordinates(columns, rows))
    else:
        found = placement.pixels(*grid.lonlat(columns, rows))
    return found[0].reshape(shape), found[1].reshape(shape)


def _beside(columns: Floats, rows: Floats, image: Image) -> bool:
    """Whether all of a good net lies on one side of the image; a pixel is left for what the net leaves open."""
    return bool(
        columns.max() < -1
        or columns.min() > image.width + 1
        or rows.max() < -1
        or rows.min() > image.height + 1
    )


def _decimation(columns: Floats, rows: Floats, at_x: Floats, at_y: Floats) -> float:
    """Return how many image pixels make one pixel of the grid, along the finer direction of the image."""
    if columns.shape[0] < 2 or columns.shape[1] < 2:  # noqa: PLR2004 - no step to measure
        return 1.0
    with np.errstate(invalid="ignore"):
        along_x = np.hypot(np.diff(columns, axis=1), np.diff(rows, axis=1)) / np.diff(at_x)
        along_y = np.hypot(np.diff(columns, axis=0), np.diff(rows, axis=0)) / np.diff(at_y)[:, np.newaxis]
    steps = [_median(step) for step in (along_x, along_y) if np.isfinite(step).any()]
    return max(1.0, float(min(steps))) if steps else 1.0


def _median(values: Floats) -> float:
    """Return the median; numpy.nanmedian takes ten times as long for so few numbers."""
    return float(np.median(values[np.isfinite(values)]))


def _bad_meshes(
    grid: AnyGrid, image: Image, mesh: Any, found: tuple[Floats, Floats], factor: float
) -> NDArray[np.bool_]:
    """Tell which meshes the net does not stand for, by looking at the middle of each."""
    middle_x, middle_y = ((part[1:, 1:] + part[:-1, :-1]) / 2 for part in mesh)
    exact = _transform(grid, image, middle_x, middle_y)
    bad = np.zeros(middle_x.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        for whole, precise in zip(found, exact, strict=True):
            guess = (whole[1:, 1:] + whole[:-1, :-1] + whole[1:, :-1] + whole[:-1, 1:]) / 4
            bad |= ~(np.abs(guess - precise) <= _TOLERANCE * factor)
    return bad


def _partly(
    grid: AnyGrid,
    image: Image,
    net: tuple[Floats, Floats],
    meshes: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    factor: float,
) -> Lying:
    """Spread the net where it is good, and compute the places of bad meshes one by one; empty ones have none."""
    columns, rows = (_spread(axis, grid) for axis in net)
    bad, empty = meshes
    points = len(net[0])
    (in_x, _), (in_y, _) = _between(grid.width, points), _between(grid.height, points)
    nowhere = empty[in_y][:, in_x]
    columns[nowhere] = rows[nowhere] = np.nan
    which_y, which_x = np.nonzero(bad[in_y][:, in_x])
    if len(which_x):
        exact = _transform(grid, image, which_x + 0.5, which_y + 0.5)
        columns[which_y, which_x], rows[which_y, which_x] = exact
    return Lying(columns, rows, factor)


def _empty(grid: AnyGrid, image: Image, columns: Floats, rows: Floats) -> NDArray[np.bool_]:
    """Tell which meshes the image does not reach: no corner is in it, and none of its own points falls there."""
    meshes = len(columns) - 1
    with np.errstate(invalid="ignore"):
        seen = (columns >= 0) & (columns <= image.width) & (rows >= 0) & (rows <= image.height)
    touched = seen[1:, 1:] | seen[:-1, :-1] | seen[1:, :-1] | seen[:-1, 1:]
    if image.placement is not None:
        longer = max(image.width, image.height) / min(image.width, image.height)
        most = min(_BACK_LONG, int(_BACK * longer))
        wide = image.width >= image.height
        across = np.linspace(0, image.width, most if wide else _BACK)
        down = np.linspace(0, image.height, _BACK if wide else most)
        longitudes, latitudes = image.placement.lonlat(*np.meshgrid(across, down))
        good = np.isfinite(longitudes)
        across, down = grid.pixels(longitudes[good], latitudes[good])
        with np.errstate(invalid="ignore"):
            in_x = np.floor(across / grid.width * meshes)
            in_y = np.floor(down / grid.height * meshes)
            hit = (in_x >= 0) & (in_x < meshes) & (in_y >= 0) & (in_y < meshes)
        touched[in_y[hit].astype(np.intp), in_x[hit].astype(np.intp)] = True
    grown = np.pad(touched, 1)
    around = [grown[y : y + meshes, x : x + meshes] for y in range(3) for x in range(3)]
    alone: NDArray[np.bool_] = ~np.any(around, axis=0)
    return alone


def _spread(net: Floats, grid: AnyGrid) -> Floats:
    """Return values at the net's points spread over all pixels of the grid, linearly.

    Not as a product of matrices: for ones so small BLAS would spend ten times as long on waking its threads.
    """
    lower, part = _between(grid.width, len(net))
    along_x = (net[:, lower] * (1 - part) + net[:, lower + 1] * part).astype(net.dtype, copy=False)
    lower, part = _between(grid.height, len(net))
    # In place: an array of this size costs more to get than to fill.
    spread = np.diff(along_x, axis=0)[lower]
    spread *= part[:, np.newaxis].astype(net.dtype)
    spread += along_x[lower]
    return spread


@lru_cache(maxsize=64)
def _between(size: int, points: int) -> tuple[NDArray[np.intp], Floats]:
    """Return, for each of `size` pixels, the net's point before it and how far on it is to the next."""
    position = np.linspace(0, points - 1, size)
    lower = np.minimum(position.astype(np.intp), points - 2)
    return lower, position - lower
