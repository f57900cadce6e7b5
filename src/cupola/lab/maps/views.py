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
    from cupola.lab.bodies import Body
    from cupola.lab.chains import Chain
    from cupola.lab.collections.footprint import Box

__all__ = ["View", "native_resolution"]

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
    """One of `bodies.PROJECTIONS`."""

    @property
    def tms(self) -> str:
        """Name of the tile grid."""
        return bodies.tms_name(self.body, self.projection)

    @property
    def mercator(self) -> bool:
        """Whether the scale changes with latitude (in both directions)."""
        return self.tms == "WebMercatorQuad"

    def crs(self) -> dict[str, Any]:
        """Return the coordinate system as ipyleaflet takes it."""
        return bodies.leaflet_crs(self.body, self.projection)

    def resolutions(self) -> list[float]:
        """Return metres per pixel by zoom level, where the map is true (at the equator or the pole)."""
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

    def fit(self, box: Box) -> tuple[tuple[float, float], int]:
        """Return the centre (latitude, longitude) and the zoom level that show a box in degrees."""
        west, south, east, north = box
        east = east + 360 if east < west else east
        if self.projection != "eqc":
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
    found = []
    for item in chain.collection.items[:LOOKED_AT]:
        try:
            bands = [band for name in chain.bands for band in item.band(name)]
            images = [describe(band.path) for band in bands]
        except CupolaError:
            continue
        for image in images:
            if image.crs is None or item.body is None:
                continue
            size = math.sqrt(abs(image.transform.determinant))
            if image.crs.is_geographic:
                size = math.radians(size) * item.body.radius
            else:
                size *= image.crs.linear_units_factor[1]
            found.append(size)
    return min(found, default=None)
