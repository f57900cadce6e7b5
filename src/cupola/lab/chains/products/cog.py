"""Writing pixels: a plain file to fill window by window, and from it a cloud-optimised GeoTIFF."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError, InputError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from affine import Affine
    from rasterio.crs import CRS

    from cupola.lab.chains.products.look import Look
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.chains.products.statistics import Statistics

__all__ = ["CACHE_BYTES", "Frame", "PlainFile", "check_bands", "disk_errors", "to_cog"]

CACHE_BYTES = 128 * 1024 * 1024
"""GDAL's block cache. rasterio.Env takes bytes; the default of 5 % of the memory grows with the machine."""
_THREADS = "2"
_BLOCK = 256
"""A random tile costs 1.6 times less to read than with 512."""
_PLAIN_BLOCK = 512
_SMALL_CACHE = 48 * 1024 * 1024
_SWATH = str(10 * 1024 * 1024)
"""Bytes that GDAL copies at a time."""
_SPARE_BYTES = 8 * 1024 * 1024
_FEW_BANDS = 4
"""Blocks of more bands stored pixel by pixel would be large: each takes its part of GDAL's cache whole."""


class Frame(Protocol):
    """The size of an image, and where it lies."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def crs(self) -> CRS | None:
        """Nothing for an image without a coordinate system."""

    @property
    def transform(self) -> Affine:
        """From columns and rows to the coordinate system."""


class PlainFile:
    """An uncompressed tiled GeoTIFF, made when the first window tells the number of bands."""

    def __init__(self, path: Path, grid: Frame, packing: Packing) -> None:
        self._path, self._grid, self._packing = path, grid, packing
        self.look: Look | None = None
        """What the bands are called and coloured with; to be set before the first window."""
        self._dataset: Any = None
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._dataset is not None:
            self._dataset.close()

    def write(self, stored: Any, window: Window) -> None:
        """Write stored numbers (bands, rows, columns).

        Raises
        ------
        InputError
            When there are more or fewer bands than before.
        LimitError
            When the disk is full.
        """
        bands = stored.shape[0]
        with disk_errors(self._path.parent, self._size):
            if self._dataset is None:
                self._dataset = self._create(bands)
            check_bands(self._dataset.count, bands)
            self._dataset.write(stored, window=window)

    def _create(self, bands: int) -> Any:
        grid, packing = self._grid, self._packing
        self._size = grid.width * grid.height * bands * np.dtype(packing.dtype).itemsize
        free = shutil.disk_usage(self._path.parent).free
        if free < self._size + _SPARE_BYTES:
            raise LimitError(
                f"The disk of {self._path.parent} has {free / 1e6:,.0f} MB left and this product needs "
                f"{self._size / 1e6:,.0f} MB for a while: delete something, or choose another folder."
            )
        place = {"crs": grid.crs, "transform": grid.transform} if grid.crs else {}
        dataset = rasterio.open(
            self._path,
            "w",
            driver="GTiff",
            width=grid.width,
            height=grid.height,
            count=bands,
            dtype=packing.dtype,
            nodata=packing.nodata,
            tiled=True,
            blockxsize=_PLAIN_BLOCK,
            blockysize=_PLAIN_BLOCK,
            interleave="pixel" if bands <= _FEW_BANDS else "band",
            BIGTIFF="IF_SAFER",
            **place,
        )
        if packing.scale != 1.0:
            dataset.scales = (packing.scale,) * bands
        if self.look is not None:
            _apply(self.look, dataset)
        return dataset

    def describe(self, statistics: Statistics) -> None:
        """Write the bands' statistics into the file, where other programs look for them."""
        for number in range(1, self._dataset.count + 1):
            known = statistics.to_json(number - 1)
            names = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV"}
            scale = self._packing.scale
            tags = {
                f"STATISTICS_{name}": repr(known[key] / scale) for key, name in names.items() if key in known
            }
            tags["STATISTICS_VALID_PERCENT"] = repr(known["valid_percent"])
            self._dataset.update_tags(number, **tags)

    def check(self) -> int:
        """Return the size of the closed file's pixels in bytes, once they are all there.

        GDAL writes its cache when the file is closed, and a disk that is full then only goes to its log: the
        blocks that are missing would read as zero.

        Raises
        ------
        LimitError
            When they are not.
        """
        with disk_errors(self._path.parent, self._size):
            if self._path.stat().st_size < self._size:
                raise OSError(errno.ENOSPC, "the file is shorter than its pixels")
        return self._size


def check_bands(first: int, bands: int) -> None:
    """Refuse a window with another number of bands than the first one had.

    Raises
    ------
    InputError
        When it has.
    """
    if bands != first:
        raise InputError(
            f"The function returned {first} bands for one window and {bands} for another: it must return the same number for "
            "all."
        )


def _apply(look: Look, dataset: Any) -> None:
    """Write names, units and colours into a file."""
    for number, band in enumerate(look.bands, 1):
        dataset.set_band_description(number, band.name)
        if band.unit:
            dataset.set_band_unit(number, band.unit)
    if look.colours is not None:
        dataset.colorinterp = look.colours
    if look.palette is not None:
        dataset.write_colormap(1, look.palette)


def to_cog(plain: Path, packed: Path, packing: Packing) -> None:
    """Copy a plain file into a cloud-optimised one, with a pyramid.

    The pyramid is built into the plain file first: left to itself, the COG driver compresses its levels twice,
    which takes a quarter more time.
    """
    resampling = Resampling.average if packing.smooth else Resampling.nearest
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS=_THREADS, COMPRESS_OVERVIEW="NONE"),
        rasterio.open(plain, "r+") as dataset,
    ):
        bands, factors = dataset.count, _pyramid(dataset.width, dataset.height)
        if factors:
            dataset.build_overviews(factors, resampling)
    common = {"COMPRESS": "DEFLATE", "NUM_THREADS": _THREADS, "BIGTIFF": "IF_SAFER"}
    if bands <= _FEW_BANDS:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS=_THREADS):
            levels = "FORCE_USE_EXISTING" if factors else "NONE"
            rasterio.shutil.copy(
                plain,
                packed,
                driver="COG",
                PREDICTOR="YES",
                BLOCKSIZE=str(_BLOCK),
                OVERVIEWS=levels,
                **common,
            )
    else:
        # GDAL's COG driver stores bands pixel by pixel, so that one band of a tile costs as much as all, and holds
        # whole rows of blocks of all bands in memory: the layout is the same with the plain driver, band by band.
        with rasterio.Env(GDAL_CACHEMAX=_SMALL_CACHE, GDAL_SWATH_SIZE=_SWATH):
            rasterio.shutil.copy(
                plain,
                packed,
                driver="GTiff",
                PREDICTOR="3" if packing.is_float else "2",
                TILED="YES",
                BLOCKXSIZE=str(_BLOCK),
                BLOCKYSIZE=str(_BLOCK),
                INTERLEAVE="BAND",
                COPY_SRC_OVERVIEWS="YES",
                **common,
            )
    # Full resolution is written last: a file that was cut off lacks the last block.
    with rasterio.open(packed) as dataset:
        dataset.read(window=Window(dataset.width - 1, dataset.height - 1, 1, 1))


def _pyramid(width: int, height: int) -> list[int]:
    """Return the factors of the pyramid's levels: until the whole image is one tile."""
    factors: list[int] = []
    while max(width, height) // 2 ** len(factors) > _BLOCK:
        factors.append(2 ** (len(factors) + 1))
    return factors


@contextmanager
def disk_errors(folder: Path, needed: int = 0) -> Iterator[None]:
    """Turn failed writing into a sentence that names the folder.

    GDAL does not say why a write failed: a disk with less than `needed` bytes left was too small.

    Raises
    ------
    LimitError
        When the disk is full.
    InputError
        When nothing may be written there.
    ImageError
        When GDAL failed for another reason.
    """
    try:
        yield
    except (OSError, RasterioError, CPLE_BaseError) as error:
        # rasterio's errors are OSErrors as well, but without the system's reason.
        number = error.errno if isinstance(error, OSError) and not isinstance(error, RasterioError) else None
        full = number in (errno.ENOSPC, errno.EDQUOT)
        if number is None:
            full = shutil.disk_usage(folder).free < needed + _SPARE_BYTES
        if full:
            raise LimitError(
                f"The disk of {folder} is full: delete something, or choose another folder."
            ) from error
        if number is None:
            raise ImageError(f"The product in {folder} could not be written ({error}).") from error
        raise InputError(
            f"Nothing can be written to {folder}: {getattr(error, 'strerror', error)}."
        ) from error
