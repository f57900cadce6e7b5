"""What is seen from a place, and what lies along a line, of a chain of heights."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains.compute.areas import WINDOW, frame_of
from cupola.lab.chains.compute.evaluate import on_grid
from cupola.lab.chains.graph.context import distance
from cupola.lab.chains.pixels.grids import Grid
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray
    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.compute.areas import Frame
    from cupola.lab.collections.items import Item

__all__ = ["profile", "seen_from", "viewshed"]

_MOST_PIXELS = 9_000_000
_MOST_POINTS = 200_000
_MOST_WINDOWS = 400
_RADIUS = 0.5

Floats = Any  # NDArray[np.float64], written short


def seen_from(  # noqa: PLR0913 - a surface, an eye and how far
    heights: NDArray[np.float32],
    pixel: float,
    radius: float,
    *,
    height: float = 2.0,
    target: float = 0.0,
    around: float | None = None,
) -> NDArray[np.float32]:
    """Return what is seen from the middle of a square of heights: 1 seen, 0 hidden, NaN where nothing is known.

    Lines of sight go out in all directions, two for each pixel of the farthest circle; along each, a pixel is seen when
    nothing nearer rises above it, on a globe of the given radius.

    Parameters
    ----------
    heights
        Odd numbers of rows and columns, distances and directions from the middle true (azimuthal equidistant), in metres
        above the globe.
    pixel
        Metres.
    radius
        Of the globe in metres, larger where the air bends the light.
    height, target
        Of the eye above the ground in the middle, and of what is looked at above its own, in metres.
    around
        Metres from the middle to which is looked.
    """
    size = heights.shape[0]
    middle = size // 2
    eye = float(heights[middle, middle]) + height
    reach = middle if around is None else min(middle, int(around / pixel))
    turn = np.linspace(0, 2 * np.pi, 16 * max(reach, 1), endpoint=False)
    steps_x, steps_y = np.sin(turn), -np.cos(turn)
    seen = np.zeros(heights.shape, dtype=bool)
    looked = np.zeros(heights.shape, dtype=bool)
    steepest = np.full(turn.shape, -np.inf)
    seen[middle, middle] = looked[middle, middle] = True
    for step in range(1, reach + 1):
        columns = np.rint(middle + steps_x * step).astype(np.intp)
        rows = np.rint(middle + steps_y * step).astype(np.intp)
        ground = heights[rows, columns].astype(np.float64)
        away = np.hypot(columns - middle, rows - middle) * pixel / radius
        known = np.isfinite(ground)
        with np.errstate(invalid="ignore"):
            looked[rows, columns] |= known
            visible = known & (_rise(eye, ground + target, away, radius) >= steepest)
            seen[rows[visible], columns[visible]] = True
            steepest = np.where(known, np.maximum(steepest, _rise(eye, ground, away, radius)), steepest)
    return np.where(looked, seen, np.nan).astype(np.float32)


def _rise(eye: float, other: Floats, away: Floats, radius: float) -> Floats:
    """Return the tangent of the angle at which a height is seen, over an arc in radians."""
    # The difference of radii is taken before the small curvature, so that no digits are lost.
    up = (other - eye) - (radius + other) * 2 * np.sin(away / 2) ** 2
    return up / ((radius + other) * np.sin(away))


def viewshed(  # noqa: PLR0913 - a place, an eye and how far
    chain: Chain,
    longitude: float,
    latitude: float,
    *,
    height: float = 2.0,
    target: float = 0.0,
    radius: float = 10_000.0,
    metres: float | None = None,
    refraction: float = 0.0,
) -> xarray.DataArray:
    """Return what is seen from a place; see `Chain.viewshed`."""
    import xarray

    item, frame = _at(chain, longitude, latitude, metres)
    body = frame.body
    own = _spacing(frame, longitude, latitude, body)
    pixel = float(metres or own)
    reach = math.ceil(radius / pixel)
    if not (radius > 0 and reach >= 1):
        raise InputError(
            f"radius is how far to look in metres, more than a pixel ({pixel:g} m), not {radius!r}."
        )
    if radius > body.radius:
        raise InputError(f"radius is {radius:g} m and {body.name} is not that large: take less.")
    if (2 * reach + 1) ** 2 > _MOST_PIXELS:
        raise LimitError(
            f"That is {(2 * reach + 1) ** 2 / 1e6:,.0f} million pixels of {pixel:g} m: look less far, or give larger pixels "
            "with metres=."
        )
    system = _around(longitude, latitude, body)
    size = 2 * reach + 1
    edge = (reach + 0.5) * pixel
    grid = Grid(lonlat_of_wkt(system.to_wkt()), -edge, edge, pixel, pixel, size, size)
    heights = _smooth_heights(chain, frame, grid)
    if not np.isfinite(heights[reach, reach]):
        raise NotFoundError(
            f"{capital(item)} has no height at {longitude:g}, {latitude:g}: choose another place."
        )
    if heights[reach, reach] > _RADIUS * body.radius:
        heights = heights - np.float32(body.radius)
    seen = seen_from(
        heights, pixel, body.radius / (1 - refraction), height=height, target=target, around=radius
    )
    places = -edge + pixel * (np.arange(size) + 0.5)
    return xarray.DataArray(
        seen[np.newaxis],
        dims=("band", "y", "x"),
        coords={"band": [0], "y": -places, "x": places},
        name="viewshed",
        attrs={
            "item": item.id,
            "crs": system.to_wkt(),
            "transform": (pixel, 0.0, -edge, 0.0, -pixel, edge),
            "longitude": longitude,
            "latitude": latitude,
        },
    )


def _around(longitude: float, latitude: float, body: Body) -> pyproj.CRS:
    """Return the plane around a place in which distances and directions from it are true."""
    globe = "+datum=WGS84" if body.name == "Earth" else f"+R={body.radius}"
    return pyproj.CRS.from_proj4(f"+proj=aeqd +lat_0={latitude} +lon_0={longitude} {globe} +units=m +no_defs")


def _smooth_heights(chain: Chain, frame: Frame, grid: Grid) -> Floats:
    """Return heights at a grid's places, between those of the images' own pixels where all four around are known.

    The nearest pixel would do for a picture, but its steps hide what lies behind them.
    """
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    across, down = frame.grid.pixels(*grid.lonlat(columns.ravel(), rows.ravel()))
    good = np.isfinite(across) & np.isfinite(down)
    if not good.any():
        return np.full(columns.shape, np.nan, dtype=np.float32)
    left, top = int(across[good].min()) - 1, int(down[good].min()) - 1
    width, height = int(across[good].max()) + 2 - left, int(down[good].max()) + 2 - top
    if width * height > 4 * max(grid.width * grid.height, WINDOW * WINDOW):
        # Around a pole, or across the antimeridian, the images' own pixels lie far apart.
        return on_grid(chain, grid, max_items=None).data[0]
    own: Floats = on_grid(chain, frame.window((left, top, left + width, top + height)), max_items=None).data[
        0
    ]
    x = np.clip(np.where(good, across, 0) - left - 0.5, 0, width - 1.001)
    y = np.clip(np.where(good, down, 0) - top - 0.5, 0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    part_x, part_y = x - column, y - row
    upper = own[row, column] * (1 - part_x) + own[row, column + 1] * part_x
    lower = own[row + 1, column] * (1 - part_x) + own[row + 1, column + 1] * part_x
    found = upper * (1 - part_y) + lower * part_y
    found = np.where(np.isnan(found), own[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)], found)
    found[~good] = np.nan
    return found.reshape(columns.shape).astype(np.float32)


def _at(chain: Chain, longitude: float, latitude: float, metres: float | None) -> tuple[Item, Frame]:
    """Return the newest item at a place, and its frame."""
    west = (longitude + 180) % 360 - 180
    items = chain.collection.touching((west, latitude, west, latitude))
    if not items:
        raise NotFoundError(f"No image of {chain.collection} lies at {longitude:g}, {latitude:g}.")
    return items[0], frame_of(chain, items, metres)


def _spacing(frame: Frame, longitude: float, latitude: float, body: Body) -> float:
    """Return the size of the frame's pixels at a place in metres."""
    column, row = (float(part[0]) for part in frame.grid.pixels(np.array([longitude]), np.array([latitude])))
    sizes = [
        float(distance(frame.grid, body, before, behind)[0])
        for before, behind in (
            ((np.array([column - 0.5]), np.array([row])), (np.array([column + 0.5]), np.array([row]))),
            ((np.array([column]), np.array([row - 0.5])), (np.array([column]), np.array([row + 0.5]))),
        )
    ]
    return max(sizes)


def profile(
    chain: Chain, line: Sequence[tuple[float, float]], *, metres: float | None = None
) -> pd.DataFrame:
    """Return what a chain is worth along a line; see `Chain.profile`."""
    import pandas as pd

    corners = _corners(line)
    _, frame = _first_at(chain, corners, metres)
    step = float(metres or min(_spacing(frame, *corner, frame.body) for corner in corners))
    longitudes, latitudes, along = _walk(corners, step, frame.body)
    columns, rows = frame.grid.pixels(longitudes, latitudes)
    good = np.isfinite(columns) & np.isfinite(rows)
    across, down = (np.floor(np.where(good, part, 0)).astype(np.int64) for part in (columns, rows))
    windows = {(int(c), int(r)) for c, r in zip(across[good] // WINDOW, down[good] // WINDOW, strict=True)}
    if len(windows) > _MOST_WINDOWS:
        raise LimitError(
            f"This line passes through {len(windows):,} windows of {WINDOW} pixels, and at most {_MOST_WINDOWS} are computed "
            "for a profile: give larger pixels with metres=."
        )
    values: NDArray[np.float32] | None = None
    for column, row in windows:
        here = good & (across // WINDOW == column) & (down // WINDOW == row)
        left, top = int(across[here].min()), int(down[here].min())
        part = frame.window((left, top, int(across[here].max()) + 1, int(down[here].max()) + 1))
        found = on_grid(chain, part, max_items=None).data
        if values is None:
            values = np.full((len(found), len(along)), np.nan, dtype=np.float32)
        values[:, here] = found[:, down[here] - top, across[here] - left]
    if values is None:
        values = np.full((1, len(along)), np.nan, dtype=np.float32)
    names = ["value"] if len(values) == 1 else [f"value_{number}" for number in range(1, len(values) + 1)]
    table = {"distance": along, "longitude": longitudes, "latitude": latitudes}
    return pd.DataFrame({**table, **dict(zip(names, values, strict=True))})


def _first_at(chain: Chain, corners: list[tuple[float, float]], metres: float | None) -> tuple[Item, Frame]:
    """Return the newest item at the first corner that has one."""
    missing: NotFoundError | None = None
    for corner in corners:
        try:
            return _at(chain, *corner, metres)
        except NotFoundError as error:
            missing = missing or error
    raise missing or NotFoundError("A line has no places.")


def _corners(line: Any) -> list[tuple[float, float]]:
    line = getattr(line, "coords", line)
    try:
        corners = [(float(place[0]), float(place[1])) for place in line]
    except (TypeError, ValueError, IndexError) as error:
        raise InputError("A line is a list of (longitude, latitude), or a LineString of shapely.") from error
    if len(corners) < 2 or not np.isfinite(corners).all() or max(abs(lat) for _, lat in corners) > 90:  # noqa: PLR2004
        raise InputError("A line has at least two places, each (longitude, latitude) in degrees.")
    return corners


def _walk(corners: list[tuple[float, float]], step: float, body: Body) -> tuple[Floats, Floats, Floats]:
    """Return places every `step` metres along great circles (geodesics on the Earth), and their distances in metres."""
    globe = pyproj.Geod(ellps="WGS84") if body.name == "Earth" else pyproj.Geod(a=body.radius, b=body.radius)
    longitudes, latitudes, along = [corners[0][0]], [corners[0][1]], [0.0]
    gone = 0.0
    for (lon, lat), (lon2, lat2) in itertools.pairwise(corners):
        azimuth, _, length = globe.inv(lon, lat, lon2, lat2)
        count = math.floor(length / step * (1 + 1e-12))
        if len(along) + count > _MOST_POINTS:
            raise LimitError(
                f"This line is {(gone + length) / 1000:,.0f} km long, which makes more than {_MOST_POINTS:,} places: give larger "
                "steps with metres=."
            )
        away = step * np.arange(1, count + 1)
        if count == 0 or length - away[-1] > step * 1e-6:
            away = np.append(away, length)
        ones = np.ones_like(away)
        found = globe.fwd(lon * ones, lat * ones, azimuth * ones, away)
        longitudes.extend(np.asarray(found[0]).tolist())
        latitudes.extend(np.asarray(found[1]).tolist())
        along.extend((gone + away).tolist())
        gone += length
    return np.array(longitudes), np.array(latitudes), np.array(along)
