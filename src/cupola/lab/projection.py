"""Between a coordinate system and longitude and latitude, on any body.

PROJ refuses to go between systems that it takes for different bodies, and it guesses the body by radius: the
local radii of planetary products (``Mars_localRadius`` of 3,376 km at a pole) make it fail. Off the Earth we
therefore go through degrees: planetocentric latitude and east longitude are the same on every sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.crs import CRS

__all__ = ["LonLat", "lonlat_of", "lonlat_of_wkt"]

_CYLINDRICAL = ("Equidistant Cylindrical", "Mercator", "Plate Carr")
_EARTH_RADII = (6_330_000.0, 6_400_000.0)


@dataclass(frozen=True)
class LonLat:
    """One coordinate system seen from longitude and latitude in degrees (WGS 84 on the Earth)."""

    to_plane: pyproj.Transformer
    shape: float
    """(1 - flattening)², to turn planetographic into planetocentric latitude; 1 where nothing is to be done."""
    period: float | None
    """After how many units x repeats itself, for a system that goes once around; else nothing."""

    def forward(self, longitudes: Any, latitudes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y; infinite where the system has no such place."""
        if self.shape != 1.0:
            radians = np.radians(np.asarray(latitudes, dtype=np.float64))
            latitudes = np.degrees(np.arctan2(np.sin(radians), np.cos(radians) * self.shape))
        x, y = self.to_plane.transform(longitudes, latitudes, errcheck=False)
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    def inverse(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return longitudes and latitudes in degrees; infinite where there are none."""
        longitudes, latitudes = self.to_plane.transform(
            x, y, direction=pyproj.enums.TransformDirection.INVERSE, errcheck=False
        )
        longitudes = np.asarray(longitudes, dtype=np.float64)
        latitudes = np.asarray(latitudes, dtype=np.float64)
        if self.shape != 1.0:
            radians = np.radians(latitudes)
            latitudes = np.degrees(np.arctan2(np.sin(radians) * self.shape, np.cos(radians)))
        return longitudes, latitudes


def lonlat_of(crs: CRS) -> LonLat:
    """Return the way between `crs` and degrees."""
    return lonlat_of_wkt(crs.to_wkt())


@lru_cache(maxsize=1024)
def lonlat_of_wkt(wkt: str) -> LonLat:
    """Return the way between a coordinate system, as well-known text, and degrees."""
    system = pyproj.CRS.from_wkt(wkt)
    ellipsoid = system.ellipsoid
    on_earth = ellipsoid is None or _EARTH_RADII[0] <= ellipsoid.semi_major_metre <= _EARTH_RADII[1]
    base = pyproj.CRS.from_epsg(4326) if on_earth else system.geodetic_crs
    to_plane = pyproj.Transformer.from_crs(base, system, always_xy=True)
    shape = 1.0
    if not on_earth and ellipsoid is not None and ellipsoid.inverse_flattening and not _ocentric(system):
        shape = (1 - 1 / ellipsoid.inverse_flattening) ** 2
    return LonLat(to_plane, shape, _period(system, to_plane))


def _ocentric(system: pyproj.CRS) -> bool:
    """Whether the system's latitudes already are planetocentric."""
    geodetic = system.geodetic_crs
    axes = geodetic.axis_info if geodetic is not None else []
    return any("planetocentric" in axis.name.lower() for axis in axes)


def _period(system: pyproj.CRS, to_plane: pyproj.Transformer) -> float | None:
    """Measure the length of a parallel for systems in which all are equally long."""
    if system.is_geographic:
        unit = system.axis_info[0].unit_conversion_factor
        return 2 * math.pi / unit if unit else 360.0
    operation = system.coordinate_operation
    if operation is None or not any(word in operation.method_name for word in _CYLINDRICAL):
        return None
    if "Transverse" in operation.method_name or "Oblique" in operation.method_name:
        return None
    middle = next((float(p.value) for p in operation.params if p.name == "Longitude of natural origin"), 0.0)
    quarter = to_plane.transform([middle - 45.0, middle + 45.0], [0.0, 0.0])[0]
    length = abs(quarter[1] - quarter[0]) * 4
    return length if math.isfinite(length) and length > 0 else None
