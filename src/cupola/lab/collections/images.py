"""Image files as they are: what a file holds, and its stored numbers turned into physical values.

Values leave this module as float32, with the file's scale and offset applied and NaN where there is no data:
the nodata value, a mask or alpha band, or one of the ISIS special pixels (NULL, LRS, LIS, HIS, HRS), of which
GDAL itself masks only the first. A band may say that saturated ones (all but NULL) are kept.
"""

from __future__ import annotations

import os
import stat
import warnings
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import from_gcps

from cupola.exceptions import ImageError
from cupola.lab.collections import remote
from cupola.lab.collections.formats.address import file_of, join, split
from cupola.lab.collections.formats.image import Band, Image
from cupola.lab.collections.formats.points import is_lattice
from cupola.lab.collections.formats.special import (
    ISIS_DRIVERS,
    ISIS_NULL,
    ISIS_VALID,
    is_isis_null,
    special_pixels,
)
from cupola.lab.collections.placement import Swath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "IMAGE_SUFFIXES",
    "Band",
    "Image",
    "describe",
    "fingerprint",
    "is_image_name",
    "is_many",
    "local_path",
    "open_image",
    "part_address",
    "parts",
    "physical",
]

# Raw planetary images have no coordinate system: that is no accident to warn of at each opening.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_GRIDDED = frozenset({".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf", ".zarr"})
_FITS = frozenset({".fits", ".fit", ".fts", ".fz"})
_LABELS = frozenset({".lbl", ".img", ".xml", ".qub", ".dat", ".cub"})
IMAGE_SUFFIXES = (
    frozenset({".tif", ".tiff", ".jp2", ".cub", ".img", ".xml", ".lbl", ".vrt", ".qub", ".vic"})
    | _GRIDDED
    | _FITS
)
"""Endings of files that are taken for images where no STAC item names them; that of a Zarr store is a folder's."""

_MOST_LABELS = 100
_LABEL_BYTES = 65536


def is_image_name(name: str) -> bool:
    """Whether a file (or folder, for Zarr) is taken for an image by its name; ``.fits.gz`` is one."""
    return _suffix(name) in IMAGE_SUFFIXES


def _suffix(path: str) -> str:
    """Return the ending of a file in small letters, without that of compression."""
    name = file_of(path).rstrip("/").lower().removesuffix(".gz")
    return PurePosixPath(name).suffix


def local_path(path: str) -> str | None:
    """Return the file that `path` (or the part of a file) lies in if it is on this machine, nothing for an address."""
    return None if "://" in path or path.startswith("/vsi") else file_of(path)


def fingerprint(path: str) -> tuple[str, int, int]:
    """Return path, time of change and size: another tuple means another content.

    Raises
    ------
    ImageError
        When there is no such file.
    """
    local = local_path(path)
    if local is None:
        return path, 0, 0
    try:
        status = os.stat(local)  # noqa: PTH116 - pathlib takes three times as long, and this is asked for each tile
        if stat.S_ISDIR(status.st_mode):
            return path, _newest(local), status.st_size
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "it cannot be reached"
        raise ImageError(f"The image {local} cannot be opened: {reason}.") from error
    return path, status.st_mtime_ns, status.st_size


def _newest(folder: str) -> int:
    """Return when a Zarr store or one of its descriptions changed last."""
    with os.scandir(folder) as entries:
        times = [entry.stat().st_mtime_ns for entry in entries if entry.name.startswith((".z", "zarr"))]
    return max([os.stat(folder).st_mtime_ns, *times])  # noqa: PTH116


def parts(path: str) -> tuple[str, ...]:
    """Return the names of the parts of a file that holds several images; none for other files.

    A part is opened by ``path#name``.

    Raises
    ------
    ImageError
        When the file is not there or cannot be read.
    """
    if split(path)[1]:
        return ()
    kind = _suffix(path)
    if kind in _FITS:
        from cupola.lab.collections.formats.fits import parts_of_fits

        found = tuple(name for name, _ in parts_of_fits(*_file(path)))
    elif kind in _GRIDDED:
        from cupola.lab.collections.formats.gridded import parts_of_store

        found = parts_of_store(*_file(path))
    else:
        return ()
    return found if len(found) > 1 else ()


def is_many(path: str) -> bool:
    """Whether a file, by its name, is of a format that holds several images."""
    return not split(path)[1] and _suffix(path) in _FITS | _GRIDDED


def part_address(path: str, part: str) -> str:
    """Return the address of one part of a file."""
    return join(path, part)


def _file(path: str) -> tuple[str, int, int]:
    """Return the fingerprint of a file that is read without GDAL.

    Raises
    ------
    ImageError
        When there is none, or it is a folder of another machine.
    """
    if local_path(path) is None and _suffix(path) == ".zarr":
        raise ImageError(
            f"{path} can only be read from a file system: copy the store to a volume or to your home first."
        )
    return fingerprint(path)


def open_image(path: str, **options: Any) -> Any:
    """Open a file, or a part of one, for reading; `options` go to GDAL's driver.

    Returns
    -------
    dataset
        A rasterio dataset, or something with the few methods of one that readers of images need: ``read``,
        ``dataset_mask``, ``width``, ``height``, ``count``, ``close``. Use it in one thread.

    Raises
    ------
    ImageError
        When the file is not there or is no image; the text names it.
    """
    kind = _suffix(path)
    if kind in _FITS:
        from cupola.lab.collections.formats.fits import open_fits

        return open_fits(describe(path), _file(path)[1:])
    if kind in _GRIDDED:
        from cupola.lab.collections.formats.gridded import open_variable

        return open_variable(describe(path), _file(path)[1:])
    fingerprint(path)
    try:
        return _open_raster(path, **options)
    except ImageError:
        if kind in _LABELS and describe(path).driver == "PDR":
            from cupola.lab.collections.formats.labels import open_product

            return open_product(describe(path), fingerprint(path)[1:])
        raise


def _open_raster(path: str, **options: Any) -> Any:
    """Open a file with GDAL."""
    try:
        with remote.opening(path) as address:
            return rasterio.open(address, **options)
    except RasterioError as error:
        if "://" in path:
            raise ImageError(remote.sentence(path, error)) from error
        raise ImageError(f"{path} is not an image that Cupola can read{_way_out(path)}.") from error


def _way_out(path: str) -> str:
    """Name the label beside a data file that cannot be read without it."""
    if (label := _label_of(path)) is not None:
        return f"; open its label {label} instead"
    return ": use GeoTIFF, JPEG 2000, netCDF, FITS, an ISIS cube, or the label of a PDS3 or PDS4 product"


def _label_of(path: str) -> str | None:
    """Return the name of the label beside a data file: one of the same name, or one that names the file."""
    if local_path(path) is None:
        return None
    place, kinds = Path(path), (".xml", ".lbl")
    try:
        beside = [
            other for other in place.parent.iterdir() if other.suffix.lower() in kinds and other != place
        ]
    except OSError:
        return None
    for other in beside:
        if other.stem == place.stem:
            return other.name
    for other in beside[:_MOST_LABELS]:
        try:
            with other.open("rb") as file:
                if place.name.encode() in file.read(_LABEL_BYTES):
                    return other.name
        except OSError:
            continue
    return None


def describe(path: str) -> Image:
    """Return what the file at `path` holds, from memory while the file does not change.

    Raises
    ------
    ImageError
        When the file is not there or is no image.
    """
    return _describe(*fingerprint(path))


@lru_cache(maxsize=20_000)
def _describe(path: str, mtime: int, size: int) -> Image:
    kind = _suffix(path)
    if kind in _FITS:
        from cupola.lab.collections.formats.fits import describe_fits

        return describe_fits(*_file(path))
    if kind in _GRIDDED:
        from cupola.lab.collections.formats.gridded import describe_variable

        return describe_variable(*_file(path))
    try:
        return _describe_raster(path, mtime, size)
    except ImageError:
        if kind in _LABELS and local_path(path) is not None:
            from cupola.lab.collections.formats.labels import describe_product, is_product

            if is_product(file_of(path)):
                return describe_product(path, mtime, size)
        raise


def _describe_raster(path: str, mtime: int, size: int) -> Image:
    with _open_raster(path) as dataset:
        if dataset.count == 0:
            raise ImageError(f"{path} holds no raster band of its own; open one of its parts.")
        alpha = next(
            (n for n, kind in enumerate(dataset.colorinterp, 1) if kind == ColorInterp.alpha and n > 1),
            None,
        )
        kept = [n for n in dataset.indexes if n != alpha]
        flags = {flag for band in dataset.mask_flag_enums for flag in band}
        transform, crs, curved = _place_of(dataset, path, (mtime, size))
        special, saturation = special_pixels(path, dataset.driver, dataset.dtypes[0], dataset.nodatavals[0])
        return Image(
            path=path,
            driver=dataset.driver,
            width=dataset.width,
            height=dataset.height,
            count=len(kept),
            crs=crs,
            transform=transform,
            dtypes=tuple(dataset.dtypes[n - 1] for n in kept),
            nodata=tuple(dataset.nodatavals[n - 1] for n in kept),
            scales=tuple(dataset.scales[n - 1] for n in kept),
            offsets=tuple(dataset.offsets[n - 1] for n in kept),
            descriptions=tuple(dataset.descriptions[n - 1] for n in kept),
            blocks=dataset.block_shapes[0],
            overviews=tuple(dataset.overviews(1)),
            alpha=alpha,
            masked=alpha is not None or MaskFlags.per_dataset in flags,
            special=special,
            saturation=saturation,
            wkt=crs.to_wkt() if crs else "",
            curved=curved,
            units=tuple(dataset.units[n - 1] for n in kept),
        )


def _place_of(dataset: Any, path: str, revision: tuple[int, int]) -> tuple[Any, Any, Swath | None]:
    """Return transform, coordinate system, and the swath of an image that only has ground control points."""
    points, system = dataset.gcps
    if dataset.crs or not points:
        return dataset.transform, dataset.crs, None
    if is_lattice(points):
        return dataset.transform, None, Swath(path, revision, dataset.width, dataset.height)
    return from_gcps(points), system, None


def physical(
    raw: NDArray[Any], band: Band, image: Image, mask: NDArray[np.uint8] | None = None
) -> NDArray[np.float32]:
    """Turn stored numbers into physical values.

    Parameters
    ----------
    raw
        Stored numbers of one band, any shape.
    band, image
        What they were read from.
    mask
        The file's own mask of the same shape, 0 where there is no data.

    Returns
    -------
    values
        float32, NaN where there is no data.
    """
    number = band.index - 1
    if np.iscomplexobj(raw):
        raise ImageError(f"{band.path} holds complex numbers; convert it to magnitude first.")
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[np.float32] = raw.astype(np.float32)
    scale, offset = image.scales[number], image.offsets[number]
    if (scale, offset) == (1.0, 0.0):
        scale = 1.0 if band.scale is None else band.scale
        offset = 0.0 if band.offset is None else band.offset
    if scale != 1.0:
        values *= np.float32(scale)
    if offset != 0.0:
        values += np.float32(offset)
    nodata = image.nodata[number] if image.nodata[number] is not None else band.nodata
    for bad in _missing(raw, nodata, image):
        values[bad] = np.nan
    if band.saturated is not None and image.saturation is not None:
        image.saturation.put(values, raw, band.saturated, (scale, offset), image.path)
    if mask is not None:
        values[mask == 0] = np.nan
    return values


def _missing(raw: NDArray[Any], nodata: float | None, image: Image) -> Sequence[NDArray[np.bool_]]:
    """Return masks of the numbers that stand for no data."""
    found: list[NDArray[np.bool_]] = []
    if image.valid is not None:
        low, high = image.valid
        found.append((raw < low) | (raw > high))
    if image.special:
        with np.errstate(over="ignore", invalid="ignore"):
            # A label's decimal numbers stand for the stored ones: compare in the stored type.
            found.append(np.isin(raw, np.array(image.special).astype(raw.dtype)))
    if nodata is not None and not np.isnan(nodata):
        found.append(raw == nodata)
    if raw.dtype == np.float32 and (image.driver in ISIS_DRIVERS or is_isis_null(nodata)):
        found.append(raw <= ISIS_NULL)
    elif image.driver in ISIS_DRIVERS and raw.dtype.name in ISIS_VALID:
        least, most = ISIS_VALID[raw.dtype.name]
        found.append((raw < least) | (raw > most))
    return found
