"""Writing pixels of the sky: a FITS file with its world coordinates, filled window by window."""

from __future__ import annotations

import io
import math
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cupola.lab.chains.products.cog import check_bands, disk_errors

if TYPE_CHECKING:
    from pathlib import Path

    from rasterio.windows import Window

    from cupola.lab.chains.compute.planning import OutputGrid
    from cupola.lab.chains.products.cog import Frame
    from cupola.lab.chains.products.look import Look
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.chains.products.statistics import Statistics

__all__ = ["FitsFile", "coordinates_of_grid", "coordinates_of_image"]

_BITPIX = {"uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "float32": -32, "float64": -64}
_SIGNED = {"uint16": ("int16", 32768), "uint32": ("int32", 2147483648)}
"""FITS has no unsigned numbers but bytes: they are stored around zero."""
_BLOCK = 2880
_ARCSECONDS = 3600.0


def coordinates_of_image(placement: Any) -> tuple[Any, bytes]:
    """Return the header cards and the extensions (lookup tables of the distortion) of an image's own coordinates."""
    hdus = placement.wcs.to_fits(relax=True)
    whole = io.BytesIO()
    hdus.writeto(whole, output_verify="silentfix")
    # Extensions follow the primary header, which has no pixels here.
    return hdus[0].header, whole.getvalue()[len(hdus[0].header.tostring()) :]


def coordinates_of_grid(grid: OutputGrid) -> tuple[Any, bytes]:
    """Return the header cards of a grid of arcseconds in right ascension and declination (ICRS, plate carrée)."""
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---CAR", "DEC--CAR"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.cdelt = [grid.step_x / _ARCSECONDS, -grid.step_y / _ARCSECONDS]
    # The reference point lies on the equator: there alone the plate carrée is as simple as its name.
    middle = grid.left + grid.width * grid.step_x / 2
    wcs.wcs.crval = [(middle / _ARCSECONDS) % 360.0, 0.0]
    wcs.wcs.crpix = [grid.width / 2 + 0.5, grid.top / grid.step_y + 0.5]
    return wcs.to_header(relax=True), b""


class FitsFile:
    """A FITS file, made when the first window tells the number of bands: its rows lie as those of the frame do."""

    def __init__(self, path: Path, frame: Frame, packing: Packing, coordinates: tuple[Any, bytes]) -> None:
        self._path, self._frame, self._packing = path, frame, packing
        self._cards, self._extensions = coordinates
        self.look: Look | None = None
        """What the bands are called and measured in; to be set before the first window."""
        self._file: Any = None
        self._bands = 0
        self._start = 0
        stored, self._shift = _SIGNED.get(packing.dtype, (packing.dtype, 0))
        self._dtype = np.dtype(stored).newbyteorder(">")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, stored: Any, window: Window) -> None:
        """Write stored numbers (bands, rows, columns).

        Raises
        ------
        InputError
            When there are more or fewer bands than before.
        LimitError
            When the disk is full.
        """
        with disk_errors(self._path.parent):
            if self._file is None:
                self._create(stored.shape[0])
            check_bands(self._bands, stored.shape[0])
            numbers = (stored.astype(np.int64) - self._shift) if self._shift else stored
            packed = numbers.astype(self._dtype)
            for band in range(self._bands):
                for row in range(window.height):
                    place = (
                        band * self._frame.height + window.row_off + row
                    ) * self._frame.width + window.col_off
                    self._file.seek(self._start + place * self._dtype.itemsize)
                    self._file.write(packed[band, row].tobytes())

    @property
    def _size(self) -> int:
        return self._bands * self._frame.height * self._frame.width * self._dtype.itemsize

    def _create(self, bands: int) -> None:
        self._bands = bands
        header = self._header().tostring().encode("ascii")
        self._start = len(header)
        end = self._start + math.ceil(self._size / _BLOCK) * _BLOCK
        self._file = self._path.open("w+b")
        os.posix_fallocate(self._file.fileno(), 0, end)
        self._file.write(header)
        self._file.seek(end)
        self._file.write(self._extensions)

    def _header(self) -> Any:
        from astropy.io import fits

        packing = self._packing
        shape = (self._bands, 1, 1) if self._bands > 1 else (1, 1)
        header = fits.PrimaryHDU(np.zeros(shape, dtype=self._dtype), header=self._cards).header
        header["BITPIX"] = _BITPIX[packing.dtype]
        header["NAXIS1"], header["NAXIS2"] = self._frame.width, self._frame.height
        if packing.scale != 1.0 or self._shift:
            header["BSCALE"], header["BZERO"] = packing.scale, self._shift * packing.scale
        if not packing.is_float:
            header["BLANK"] = int(packing.nodata) - self._shift
        if self.look is not None:
            for number, band in enumerate(self.look.bands, 1):
                header[f"BAND{number}"] = (band.name[:60], "name of this plane")
            units = {band.unit for band in self.look.bands}
            if len(units) == 1 and (unit := units.pop()):
                header["BUNIT"] = unit[:60]
        header["CREATOR"] = "Cupola"
        return header

    def describe(self, statistics: Statistics) -> None:  # noqa: ARG002 - as `PlainFile` has it
        """Write all to the disk. The header stays: statistics of one number for all planes would mislead.

        Raises
        ------
        LimitError
            When the disk is full.
        """
        with disk_errors(self._path.parent):
            self._file.flush()
            os.fsync(self._file.fileno())

    def check(self) -> int:
        """Return the size of the pixels in bytes; their place on the disk was taken before the first was written."""
        return self._size
