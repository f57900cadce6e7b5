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

__all__ = ["LonLat", "lonlat_of", "lonlat_of_wkt", "system_of_wkt"]

_CYLINDRICAL = ("Equidistant Cylindrical", "Mercator", "Plate Carr")
_EARTH_RADII = (6_330_000.0, 6_400_000.0)


@dataclass(frozen=True)
class LonLat:
    """One coordinate system seen from longitude and latitude in degrees (WGS 84 on the Earth)."""

    to_plane: pyproj.Transformer | None
    """Nothing for longitude and latitude themselves."""
    shape: float
    """(1 - flattening)², to turn planetographic into planetocentric latitude; 1 where nothing is to be done."""
    period: float | None
    """After how many units x repeats itself, for a system that goes once around; else nothing."""
    unit: tuple[float, float] = (1.0, 1.0)
    """Of longitude and latitude, in degrees; negative where longitude counts westwards."""

    def forward(self, longitudes: Any, latitudes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y; infinite where the system has no such place."""
        if self.shape != 1.0:
            radians = np.radians(np.asarray(latitudes, dtype=np.float64))
            latitudes = np.degrees(np.arctan2(np.sin(radians), np.cos(radians) * self.shape))
        if self.to_plane is None:
            x, y = np.asarray(longitudes, dtype=np.float64), np.asarray(latitudes, dtype=np.float64)
            return x / self.unit[0], y / self.unit[1]
        x, y = self.to_plane.transform(longitudes, latitudes, errcheck=False)
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    def inverse(self, x: Any, y: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return longitudes and latitudes in degrees; infinite where there are none."""
        if self.to_plane is None:
            longitudes, latitudes = np.multiply(x, self.unit[0]), np.multiply(y, self.unit[1])
        else:
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
def system_of_wkt(wkt: str) -> pyproj.CRS:
    """Return a coordinate system, from memory: PROJ takes a twentieth of a second for one that no database knows."""
    return pyproj.CRS.from_wkt(wkt)


@lru_cache(maxsize=1024)
def lonlat_of_wkt(wkt: str) -> LonLat:
    """Return the way between a coordinate system, as well-known text, and degrees."""
    system = system_of_wkt(wkt)
    ellipsoid = system.ellipsoid
    if ellipsoid is None or _EARTH_RADII[0] <= ellipsoid.semi_major_metre <= _EARTH_RADII[1]:
        to_plane = pyproj.Transformer.from_crs(pyproj.CRS.from_epsg(4326), system, always_xy=True)
        return LonLat(to_plane, 1.0, _period(system, to_plane))
    shape = (1 - 1 / ellipsoid.inverse_flattening) ** 2 if ellipsoid.inverse_flattening else 1.0
    if system.is_geographic:
        return _degrees(system, 1.0 if _ocentric(system) else shape)
    # From plain longitude and latitude on this ellipsoid, east and north: the systems of the IAU may count longitude
    # westwards, or latitude from the body's centre.
    radii = f"+a={ellipsoid.semi_major_metre!r} +b={ellipsoid.semi_minor_metre!r}"
    to_plane = pyproj.Transformer.from_crs(
        pyproj.CRS.from_proj4(f"+proj=longlat {radii} +no_defs"), system, always_xy=True
    )
    return LonLat(to_plane, shape, _period(system, to_plane))


def _degrees(system: pyproj.CRS, shape: float) -> LonLat:
    """Return the way of a system that is longitude and latitude, in whatever unit and direction."""
    units = [
        math.degrees(axis.unit_conversion_factor) if axis.unit_conversion_factor else 1.0
        for axis in system.axis_info
    ]
    across = next((n for n, axis in enumerate(system.axis_info) if axis.direction in ("east", "west")), 0)
    west = bool(system.axis_info) and system.axis_info[across].direction == "west"
    unit = units[across] if units else 1.0
    return LonLat(None, shape, 360.0 / unit, (-unit if west else unit, unit))


def _ocentric(system: pyproj.CRS) -> bool:
    """Whether the system's latitudes already are planetocentric."""
    return any("planetocentric" in axis.name.lower() for axis in system.axis_info)


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
