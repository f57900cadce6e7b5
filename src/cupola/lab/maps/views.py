"""Where a map looks: its body and grid, the view that shows a box, the scale of each zoom level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from cupola.exceptions import CupolaError
from cupola.lab import bodies
from cupola.lab.collections.images import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.lab.bodies import Body
    from cupola.lab.chains import Chain
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image

__all__ = ["IMAGE", "View", "native_resolution"]

IMAGE = "image"
"""The projection of a map that shows columns and rows of one image."""
IMAGE_TMS = "ImageSpace"
IMAGE_LEVELS = range(-12, 7)
"""Zoom levels of Leaflet's plane in image space, where 0 is one pixel of the image per pixel."""

WIDTH, HEIGHT = 640, 420
"""Pixels that a view is fitted to. The kernel never learns how wide the notebook's cell is drawn."""
MERCATOR_END = 85.0
FARTHEST = 24
LOOKED_AT = 8
"""Items that are asked for their resolution."""


@dataclass(frozen=True)
class View:
    """The grid that a map is drawn on."""

    body: Body
    projection: str = "eqc"
    """One of `bodies.PROJECTIONS`, or `IMAGE`."""
    size: tuple[int, int] = (0, 0)
    """Columns and rows of the image, in image space."""

    @property
    def is_image(self) -> bool:
        """Whether it shows columns and rows of an image that has no place on a body."""
        return self.projection == IMAGE

    @property
    def name(self) -> str:
        """What the map shows, for people."""
        return "Image" if self.is_image else self.body.name

    @property
    def tms(self) -> str:
        """Name of the tile grid."""
        return IMAGE_TMS if self.is_image else bodies.tms_name(self.body, self.projection)

    @property
    def convention(self) -> str:
        """How longitudes are counted: to ``180`` degrees east and west, or to ``360`` degrees east."""
        return "180" if self.body.name in {"Earth", "Moon"} else "360"

    @property
    def cylindrical(self) -> bool:
        """Whether meridians are upright lines."""
        return self.projection in {"eqc", "merc"}

    @property
    def lowest(self) -> int:
        """The zoom level of Leaflet's that the first resolution is of."""
        return IMAGE_LEVELS.start if self.is_image else 0

    @property
    def mercator(self) -> bool:
        """Whether the scale changes with latitude (in both directions)."""
        return self.tms == "WebMercatorQuad" or self.projection == "merc"

    def crs(self) -> dict[str, Any]:
        """Return the coordinate system as ipyleaflet takes it."""
        if self.is_image:
            return {"name": "Simple", "custom": False}
        return bodies.leaflet_crs(self.body, self.projection)

    def resolutions(self) -> list[float]:
        """Return metres per pixel by zoom level, where the map is true (at the equator or the pole)."""
        if self.is_image:
            return [2.0**-level for level in IMAGE_LEVELS]
        grid = bodies.tile_matrix_set(self.tms)
        return [float(grid.matrix(zoom).cellSize) for zoom in range(FARTHEST + 1)]

    def native_zoom(self, resolution: float, latitude: float) -> int:
        """Return the first zoom level that shows all there is, for pixels of `resolution` metres at `latitude`."""
        shrink = math.cos(math.radians(latitude)) if self.mercator else 1.0
        for zoom, metres in enumerate(self.resolutions()):
            # Nothing is gained by the next level for a few per cent.
            if metres * shrink <= resolution * 1.05:
                return zoom
        return FARTHEST

    def zoom_of(self, metres: float, latitude: float) -> int:
        """Return the level at which something of that size on the ground is seen whole, with room around it."""
        shrink = math.cos(math.radians(latitude)) if self.mercator else 1.0
        needed = metres * 1.6 / HEIGHT
        fitting = [zoom for zoom, step in enumerate(self.resolutions()) if step * shrink >= needed]
        return self.lowest + max(fitting, default=0)

    def seen(
        self, pixels: Sequence[Sequence[float]], zoom: float, center: Sequence[float]
    ) -> tuple[Box, int]:
        """Return left, bottom, right, top of a view in the grid's units, and the grid's level.

        Parameters
        ----------
        pixels
            Corners of the view in Leaflet's pixels of that zoom level, as the browser told; empty before it did.
        zoom
            Leaflet's level.
        center
            Latitude and longitude, for a view that no browser has shown yet.
        """
        level = round(zoom) - self.lowest
        step = self.resolutions()[max(0, min(level, FARTHEST))]
        left, top = self._corner()
        if len(pixels) == 2 and all(len(corner) == 2 for corner in pixels):  # noqa: PLR2004 - two corners
            (first_x, first_y), (last_x, last_y) = pixels
        else:
            x, y = self._plane_point(center)
            middle_x, middle_y = (x - left) / step, (top - y) / step
            first_x, last_x = middle_x - WIDTH / 2, middle_x + WIDTH / 2
            first_y, last_y = middle_y - HEIGHT / 2, middle_y + HEIGHT / 2
        return (left + first_x * step, top - last_y * step, left + last_x * step, top - first_y * step), level

    def _corner(self) -> tuple[float, float]:
        """Return where Leaflet counts its pixels from, in the grid's units."""
        if self.is_image:
            return 0.0, 0.0
        origin = bodies.tile_matrix_set(self.tms).matrix(0).pointOfOrigin
        return float(origin[0]), float(origin[1])

    def _plane_point(self, center: Sequence[float]) -> tuple[float, float]:
        latitude, longitude = center
        if self.is_image:
            return longitude, latitude
        if self.cylindrical:
            return math.radians(longitude) * self.body.radius, self._y(latitude)
        x, y = pyproj.Proj(self.crs()["proj4def"])(longitude, latitude)
        return float(x), float(y)

    def fit(self, box: Box) -> tuple[tuple[float, float], int]:
        """Return the centre (latitude, longitude) and the zoom level that show a box in degrees."""
        west, south, east, north = box
        if self.is_image:
            columns, rows = self.size
            return (-rows / 2, columns / 2), self.lowest + self._zoom(columns, rows)
        east = east + 360 if east < west else east
        if not self.cylindrical:
            return self._fit_pole(west, south, east, north)
        if self.mercator:
            south, north = max(south, -MERCATOR_END), min(north, MERCATOR_END)
        bottom, top = self._y(south), self._y(north)
        width = math.radians(east - west) * self.body.radius
        longitude = (west + east) / 2
        longitude -= 360 if longitude > 180 else 0  # noqa: PLR2004 - degrees
        return (self._latitude((bottom + top) / 2), longitude), self._zoom(width, top - bottom)

    def _fit_pole(
        self, west: float, south: float, east: float, north: float
    ) -> tuple[tuple[float, float], int]:
        plane = pyproj.Proj(self.crs()["proj4def"])
        longitudes, latitudes = np.meshgrid(np.linspace(west, east, 65), np.linspace(south, north, 17))
        reach = float(bodies.tile_matrix_set(self.tms).matrix(0).cellSize) * 128
        x, y = (np.clip(axis, -reach, reach) for axis in plane(longitudes.ravel(), latitudes.ravel()))
        longitude, latitude = plane((x.min() + x.max()) / 2, (y.min() + y.max()) / 2, inverse=True)
        return (float(latitude), float(longitude)), self._zoom(float(np.ptp(x)), float(np.ptp(y)))

    def _y(self, latitude: float) -> float:
        angle = math.radians(latitude)
        return self.body.radius * (math.asinh(math.tan(angle)) if self.mercator else angle)

    def _latitude(self, y: float) -> float:
        angle = y / self.body.radius
        return math.degrees(math.atan(math.sinh(angle)) if self.mercator else angle)

    def _zoom(self, width: float, height: float) -> int:
        needed = max(width / WIDTH, height / HEIGHT, 1e-6)
        fitting = [zoom for zoom, metres in enumerate(self.resolutions()) if metres >= needed * 0.999]
        return max(fitting, default=0)


def native_resolution(chain: Chain) -> float | None:
    """Return the finest pixel of a chain's images in metres; nothing where no image tells."""
    found: list[float] = []
    for source in chain.sources:
        names = chain.program.bands(source)
        for item in source.collection.items[:LOOKED_AT]:
            try:
                images = [describe(band.path) for name in names for band in item.band(name)]
            except CupolaError:
                continue
            if item.body is not None:
                steps = [_step(image, item.body.radius) for image in images]
                found += [step for step in steps if step]
    return min(found, default=None)


def _step(image: Image, radius: float) -> float | None:
    """Return the size of an image's pixels in metres; nothing where it cannot be told."""
    if image.crs is None:
        return _swath_step(image, radius)
    size = math.sqrt(abs(image.transform.determinant))
    if image.crs.is_geographic:
        return math.radians(size) * radius
    return size * float(image.crs.linear_units_factor[1])


def _swath_step(image: Image, radius: float) -> float | None:
    """Return the distance in metres between neighbours in the middle of an image that lies along a swath."""
    placement = image.placement
    if placement is None:
        return None
    column, row = image.width / 2, image.height / 2
    longitudes, latitudes = placement.lonlat(
        np.array([column, column + 1, column]), np.array([row, row, row + 1])
    )
    if not np.isfinite([longitudes, latitudes]).all():
        return None
    shrink = math.cos(math.radians(float(latitudes[0])))
    steps = [
        math.radians(math.hypot(((east - longitudes[0] + 180) % 360 - 180) * shrink, north - latitudes[0]))
        for east, north in zip(longitudes[1:], latitudes[1:], strict=True)
    ]
    return float(min(steps) * radius) or None
