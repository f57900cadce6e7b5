"""Where the pixels of an image lie: on a plane of a body, along a swath, or on the sky.

Every placement has ``pixels(longitudes, latitudes)``, which gives columns and rows counted from the image's corner (the
first pixel reaches from 0 to 1), and ``lonlat(columns, rows)``, its inverse, in degrees. NaN stands for places that
the image does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.projection import LonLat, lonlat_of_wkt

if TYPE_CHECKING:
    from affine import Affine as Transform
    from rasterio.crs import CRS

__all__ = ["Affine", "Celestial", "Placement", "Swath"]

Floats = Any  # NDArray[np.float64], written short


@dataclass(frozen=True)
class Affine:
    """Pixels that lie evenly on a plane: a coordinate system and six numbers."""

    crs: CRS = field(compare=False)
    transform: Transform
    width: int
    height: int
    wkt: str

    @cached_property
    def plane(self) -> LonLat:
        """The coordinate system, seen from longitude and latitude."""
        return lonlat_of_wkt(self.wkt)

    @cached_property
    def _inverse(self) -> tuple[float, ...]:
        return tuple((~self.transform)[:6])

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees; beyond the image they go on as its grid does."""
        shape = np.shape(longitudes)
        x, y = self.plane.forward(np.ravel(longitudes), np.ravel(latitudes))
        columns, rows = self.of_plane(x, y)
        return columns.reshape(shape), rows.reshape(shape)

    def of_plane(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in the image's own coordinates."""
        a, b, c, d, e, f = self._inverse
        with np.errstate(invalid="ignore", over="ignore"):
            if self.plane.period is not None:
                x = self._unroll(x, self.plane.period)
            columns, rows = a * x + b * y + c, d * x + e * y + f
        bad = ~(np.isfinite(columns) & np.isfinite(rows))
        if bad.any():
            columns[bad] = rows[bad] = np.nan
        return columns, rows

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes of places in pixels."""
        a, b, c, d, e, f = self.transform[:6]
        columns, rows = np.asarray(columns, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        longitudes, latitudes = self.plane.inverse(
            (a * columns + b * rows + c).ravel(), (d * columns + e * rows + f).ravel()
        )
        bad = ~(np.isfinite(longitudes) & np.isfinite(latitudes))
        longitudes[bad] = latitudes[bad] = np.nan
        return longitudes.reshape(columns.shape), latitudes.reshape(columns.shape)

    def _unroll(self, x: Floats, period: float) -> Floats:
        """Move x by whole turns to where the image lies: products count longitude from -180, 0 or elsewhere."""
        a, b, c = self.transform[:3]
        ends = [c, c + a * self.width, c + b * self.height, c + a * self.width + b * self.height]
        middle = (min(ends) + max(ends)) / 2
        return x - np.round((x - middle) / period) * period


@dataclass(frozen=True)
class Swath:
    """Pixels whose longitude and latitude are written down, for each or for the nodes of a net."""

    source: str
    """Where the arrays are: the address of the file or of its part."""
    revision: tuple[int, int]
    """Time of change and size of the file: arrays are kept in memory until it changes."""
    width: int
    height: int
    longitude: str = ""
    latitude: str = ""
    """Names of the arrays within the file; empty for ground control points."""

    @property
    def _net(self) -> Any:
        # Not kept here: descriptions of thousands of swaths stay in memory, their arrays must not.
        from cupola.lab.collections.formats.swath import net_of

        return net_of(self)

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees, NaN outside of the swath."""
        shape = np.shape(longitudes)
        columns, rows = self._net.pixels(np.ravel(longitudes), np.ravel(latitudes))
        return columns.reshape(shape), rows.reshape(shape)

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes of places in pixels, NaN outside of the swath."""
        columns, rows = np.asarray(columns, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        longitudes, latitudes = self._net.lonlat(columns.ravel(), rows.ravel())
        return longitudes.reshape(columns.shape), latitudes.reshape(columns.shape)


@dataclass(frozen=True)
class Celestial:
    """Pixels on the sky: the world coordinates of a FITS header, distortion (SIP) and lookup tables included.

    Longitude is right ascension and latitude declination, in degrees, ICRS.
    """

    source: str
    """The address of the file or of its part."""
    revision: tuple[int, int]
    width: int
    height: int

    @property
    def _coordinates(self) -> Any:
        from cupola.lab.collections.formats.celestial import coordinates_of

        return coordinates_of(self)

    @property
    def wcs(self) -> Any:
        """The ``astropy.wcs.WCS``, distortion included; in the header's own frame (galactic, FK5 ...)."""
        return self._coordinates.wcs

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of right ascensions and declinations, NaN where the projection has none."""
        shape = np.shape(longitudes)
        columns, rows = self._coordinates.pixels(np.ravel(longitudes), np.ravel(latitudes))
        return columns.reshape(shape), rows.reshape(shape)

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return right ascensions and declinations of places in pixels."""
        columns, rows = np.asarray(columns, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        longitudes, latitudes = self._coordinates.lonlat(columns.ravel(), rows.ravel())
        return longitudes.reshape(columns.shape), latitudes.reshape(columns.shape)


Placement = Affine | Swath | Celestial
