"""Places on the sky: from right ascension and declination to the pixels of a FITS image, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import ImageError
from cupola.lab.collections.formats.address import split
from cupola.lab.collections.formats.swath import unit_vectors

if TYPE_CHECKING:
    from cupola.lab.collections.placement import Celestial

__all__ = ["Coordinates", "coordinates_of"]

Floats = Any  # NDArray[np.float64], written short

_MARGIN = 0.25
"""How far beside the image distortion is computed, in its widths: further out its polynomials mean nothing."""
_TURN = 360.0
_CYLINDRICAL = frozenset({"CAR", "CEA", "CYP", "MER"})


def coordinates_of(placement: Celestial) -> Coordinates:
    """Return the coordinates of an image, from memory while its file does not change.

    Raises
    ------
    ImageError
        When the header's coordinates mean nothing.
    """
    return _coordinates_of(placement.source, placement.revision, placement.width, placement.height)


@lru_cache(maxsize=256)
def _coordinates_of(source: str, _revision: tuple[int, int], width: int, height: int) -> Coordinates:
    from astropy.wcs import WCS

    from cupola.lab.collections.formats.fits import open_file, quiet

    path, part = split(source)
    with open_file(path) as hdus, quiet():
        try:
            # The whole file is given along: lookup tables of the distortion lie in extensions of their own.
            wcs = WCS(hdus[int(part)].header, hdus, naxis=2)
            wcs.wcs.set()
        except (ValueError, KeyError, MemoryError, OSError) as error:
            raise ImageError(
                f"The sky coordinates in the header of {path} cannot be understood ({error})."
            ) from error
    return Coordinates(wcs, width, height)


class Coordinates:
    """The world coordinates of an image with the frame of the sky taken into account.

    Parameters
    ----------
    wcs
        An ``astropy.wcs.WCS`` with two celestial axes.
    width, height
        Of the image.
    """

    def __init__(self, wcs: Any, width: int, height: int) -> None:
        self.wcs = wcs
        self.width, self.height = width, height
        self._turn = _rotation(wcs)
        self._distorted = wcs.has_distortion
        self._longitude = wcs.wcs.lng
        self._period = self._columns_of_a_turn()

    def _columns_of_a_turn(self) -> float | None:
        """Return after how many columns a cylindrical map of the sky repeats itself."""
        kind = str(self.wcs.wcs.ctype[self._longitude])[-3:]
        step = self.wcs.pixel_scale_matrix
        straight = abs(step[0, 1]) < 1e-12 and abs(step[1, 0]) < 1e-12 and self._longitude == 0  # noqa: PLR2004
        return abs(_TURN / step[0, 0]) if kind in _CYLINDRICAL and straight and not self._distorted else None

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows from the image's corner, NaN where there are none."""
        world = self._to_frame(
            np.asarray(longitudes, dtype=np.float64), np.asarray(latitudes, dtype=np.float64)
        )
        with np.errstate(invalid="ignore"):
            columns, rows = self.wcs.wcs_world2pix(*self._ordered(*world), 0)
        columns, rows = np.asarray(columns, dtype=np.float64), np.asarray(rows, dtype=np.float64)
        if self._period is not None:
            columns -= np.round((columns - (self.width - 1) / 2) / self._period) * self._period
        if self._distorted:
            self._distort(world, columns, rows)
        bad = ~(np.isfinite(columns) & np.isfinite(rows))
        columns[bad] = rows[bad] = np.nan
        return columns + 0.5, rows + 0.5

    def _distort(self, world: tuple[Floats, Floats], columns: Floats, rows: Floats) -> None:
        """Put pixels with distortion in the place of those without it, where the image is near."""
        beside = _MARGIN * max(self.width, self.height) + 16
        with np.errstate(invalid="ignore"):
            near = (
                (columns > -beside)
                & (columns < self.width + beside)
                & (rows > -beside)
                & (rows < self.height + beside)
            )
        columns[~near] = rows[~near] = np.nan
        if near.any():
            places = self._ordered(world[0][near], world[1][near])
            # Quiet: places outside of the image need no convergence.
            columns[near], rows[near] = self.wcs.all_world2pix(*places, 0, tolerance=1e-3, quiet=True)

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return right ascensions and declinations of pixels from the image's corner."""
        with np.errstate(invalid="ignore"):
            found = self.wcs.all_pix2world(columns - 0.5, rows - 0.5, 0)
        longitudes, latitudes = self._ordered(*(np.asarray(part, dtype=np.float64) for part in found))
        bad = ~(np.isfinite(longitudes) & np.isfinite(latitudes))
        longitudes, latitudes = self._from_frame(longitudes, latitudes)
        longitudes[bad] = latitudes[bad] = np.nan
        return longitudes, latitudes

    def _ordered(self, one: Floats, other: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude in the order of the header's axes, or the other way round."""
        return (one, other) if self._longitude == 0 else (other, one)

    def _to_frame(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        return (longitudes, latitudes) if self._turn is None else _turned(self._turn, longitudes, latitudes)

    def _from_frame(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        return (longitudes, latitudes) if self._turn is None else _turned(self._turn.T, longitudes, latitudes)


def _turned(matrix: Floats, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
    """Return places as seen from axes that are turned."""
    x, y, z = np.moveaxis(unit_vectors(longitudes, latitudes) @ matrix.T, -1, 0)
    return np.degrees(np.arctan2(y, x)) % _TURN, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _rotation(wcs: Any) -> Floats:
    """Return the matrix from ICRS to the header's frame; nothing where that is ICRS.

    Frames differ by a rotation (FK4's terms of aberration, a third of an arcsecond, are left out), so astropy is asked
    for three axes only.
    """
    from astropy.coordinates import ICRS, SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    try:
        frame = wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise ImageError("The header places the image in a frame that is not known on the sky.") from error
    if isinstance(frame, ICRS):
        return None
    axes = SkyCoord([0.0, 90.0, 0.0], [0.0, 0.0, 90.0], unit="deg", frame="icrs").transform_to(frame)
    matrix = unit_vectors(axes.spherical.lon.deg, axes.spherical.lat.deg).T
    # The nearest rotation: axes that were carried one by one are a hair off a right angle.
    left, _, right = np.linalg.svd(matrix)
    return left @ right
