"""A frame of pixels over the images of a chain, for what is computed piece by piece in memory: statistics, lines, views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from cupola.exceptions import BandError, InputError, NotFoundError
from cupola.lab.chains.pixels.grids import Grid
from cupola.lab.chains.pixels.ground import image_spacing
from cupola.lab.collections.images import describe
from cupola.lab.collections.placement import Affine
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = ["WINDOW", "Bounds", "Frame", "bounds_of_box", "frame_of", "ring"]

WINDOW = 512
"""Rows and columns that are computed at once."""
_LOOKED_AT = 20
_MESH = 33
_SMALL_MESH = 3

Bounds = tuple[int, int, int, int]
"""Columns and rows: left, top, right, bottom; the last two are the first beyond."""


@dataclass(frozen=True)
class Frame:
    """A grid that goes on without end in all directions, counted from the corner of an image."""

    grid: Grid
    """Its beginning."""
    wkt: str
    body: Body

    @property
    def lonlat_crs(self) -> pyproj.CRS:
        """Longitude and latitude on its body."""
        if self.body.name == "Earth":
            return pyproj.CRS.from_epsg(4326)
        geodetic = pyproj.CRS.from_wkt(self.wkt).geodetic_crs
        return geodetic if geodetic is not None else pyproj.CRS.from_wkt(self.wkt)

    def clipped(self, bounds: tuple[float, float, float, float]) -> Bounds | None:
        """Return whole columns and rows around `bounds`, at most once around the body; nothing where there is none."""
        left, top, right, bottom = bounds
        period = self.grid.plane.period
        if period is not None:
            half, middle = period / self.grid.resolution_x / 2, self.grid.width / 2
            left, right = max(left, round(middle - half)), min(right, round(middle + half))
        found = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        return found if found[2] > found[0] and found[3] > found[1] else None

    def around(self, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> Bounds | None:
        """Return the columns and rows that hold these places; nothing where the plane has none of them."""
        columns, rows = self.grid.pixels(longitudes, latitudes)
        good = np.isfinite(columns) & np.isfinite(rows)
        if not good.any():
            return None
        columns, rows = columns[good], rows[good]
        return self.clipped((columns.min(), rows.min(), columns.max(), rows.max()))

    def window(self, bounds: Bounds) -> Grid:
        """Return the grid of columns and rows."""
        left, top, right, bottom = bounds
        return self.grid.window(left, top, right - left, bottom - top)


def bounds_of_box(frame: Frame, box: Box) -> Bounds | None:
    """Return the columns and rows that hold a box in degrees."""
    west, south, east, north = box
    east = east + 360 if east < west else east
    # A parallel is bent on most maps: the farther apart the points, the more lies beyond a straight line between them.
    steps = np.linspace(0, 1, _SMALL_MESH if max(east - west, north - south) < 1 else _MESH)
    longitudes, latitudes = np.meshgrid(west + (east - west) * steps, south + (north - south) * steps)
    return frame.around(longitudes.ravel(), latitudes.ravel())


def ring(longitude: float, latitude: float, metres: float, body: Body) -> tuple[Any, Any]:
    """Return places all around another at a distance on the ground, and the place itself, in degrees."""
    bearing = np.radians(np.arange(0, 360, 5))
    far, lat = min(metres / body.radius, math.pi / 2), math.radians(latitude)
    sine = np.sin(lat) * np.cos(far) + np.cos(lat) * np.sin(far) * np.cos(bearing)
    latitudes = np.arcsin(np.clip(sine, -1, 1))
    turn = np.arctan2(
        np.sin(bearing) * np.sin(far) * np.cos(lat), np.cos(far) - np.sin(lat) * np.sin(latitudes)
    )
    return (
        np.append(longitude + np.degrees(turn), longitude),
        np.append(np.degrees(latitudes), latitude),
    )


def frame_of(chain: Chain, items: Sequence[Item], metres: float | None = None) -> Frame:
    """Return the frame for some items of a chain: the grid of the finest image of the first, or larger pixels.

    Swaths, and images that lie askew, get a grid of longitude and latitude with pixels of the same size.

    Parameters
    ----------
    chain
        Whose bands are read.
    items
        Of its first collection; there must be one.
    metres
        Size of the pixels on the ground; the image's own where nothing is said.

    Raises
    ------
    InputError
        When images have no place on a body, or the size is no positive number.
    BandError
        When no item has the bands.
    """
    if metres is not None and not (math.isfinite(metres) and metres > 0):
        raise InputError(f"The size of pixels is a positive number of metres, not {metres!r}.")
    image, item = _finest(chain, items)
    body, placement = item.body, image.placement
    if body is None or placement is None:
        raise InputError(
            f"{capital(item)} has no coordinate system, so its pixels have no place on the ground."
        )
    across, down = image_spacing(image, body)
    if isinstance(placement, Affine) and placement.transform.b == placement.transform.d == 0:
        a, _, c, _, e, f = placement.transform[:6]
        step_x = abs(a) * (metres / across if metres else 1)
        step_y = abs(e) * (metres / down if metres else 1)
        left, top = min(c, c + a * image.width), max(f, f + e * image.height)
        width, height = abs(a) * image.width / step_x, abs(e) * image.height / step_y
        grid = Grid(placement.plane, left, top, step_x, step_y, round(width) or 1, round(height) or 1)
        return Frame(grid, placement.wkt, body)
    wkt = _lonlat_wkt(placement, body)
    size = math.degrees((metres or math.sqrt(across * down)) / body.radius)
    whole = Grid(lonlat_of_wkt(wkt), -180.0, 90.0, size, size, round(360 / size), round(180 / size))
    return Frame(whole, wkt, body)


def _lonlat_wkt(placement: Any, body: Body) -> str:
    if body.name == "Earth":
        return str(pyproj.CRS.from_epsg(4326).to_wkt())
    wkt = getattr(placement, "wkt", "")
    if wkt and (geodetic := pyproj.CRS.from_wkt(wkt).geodetic_crs) is not None:
        return str(geodetic.to_wkt())
    return str(pyproj.CRS.from_proj4(f"+proj=longlat +R={body.radius} +no_defs").to_wkt())


def _finest(chain: Chain, items: Sequence[Item]) -> tuple[Image, Item]:
    """Return the image with the smallest pixels of the first item that has the bands."""
    missing: BandError | None = None
    reads = [
        step for step in chain.program.reads(chain.program.last) if step.source.collection is chain.collection
    ]
    names = dict.fromkeys(name for step in reads for name in step.names) or dict.fromkeys(chain.bands)
    for item in items[:_LOOKED_AT]:
        try:
            images = [describe(band.path) for name in names for band in item.band(name)]
        except BandError as error:
            missing = missing or error
            continue
        return min(images, key=lambda image: math.prod(image_spacing(image, item.body))), item
    if missing is not None:
        raise missing
    raise NotFoundError(f"{capital(chain.collection)} has no item here.")
