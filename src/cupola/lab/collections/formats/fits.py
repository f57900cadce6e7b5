"""FITS: image extensions, compressed ones too, with the numbers and the coordinates of their headers."""

from __future__ import annotations

import contextlib
import gzip
import threading
import warnings
import weakref
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from cupola.exceptions import ImageError
from cupola.lab.collections.formats.address import join, split
from cupola.lab.collections.formats.arrays import ArrayDataset
from cupola.lab.collections.formats.image import Image
from cupola.lab.collections.placement import Celestial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["describe_fits", "open_fits", "parts_of_fits", "quiet"]

_TABLES = frozenset({"WCSDVARR", "D2IMARR"})
"""Images that are lookup tables of the coordinates of others."""
_TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
"""NumPy's types for BITPIX."""
_GZIP = b"\x1f\x8b"
_COLOURS = 3
_SIDES = 2
_lock = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep astropy from warning of headers that it mends by itself; headers are as they are."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_file(path: str) -> Any:
    """Open a FITS file; numbers stay as they are stored.

    Raises
    ------
    ImageError
        When it is none, or is cut off.
    """
    from astropy.io import fits

    if "://" in path:
        return _open_afar(path)
    try:
        with quiet():
            return fits.open(path, memmap=True, do_not_scale_image_data=True, lazy_load_hdus=True)
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"{path} is not a FITS file that can be read: it is damaged, cut off or of another format."
        ) from error


def _open_afar(address: str) -> Any:
    """Open a FITS file on another machine; only its headers are fetched."""
    from astropy.io import fits

    from cupola.lab.collections.formats.ranges import explained, open_remote

    file = open_remote(address)
    try:
        with explained(file), quiet():
            # By its name astropy sees whether a file is packed; an open one it takes as it is.
            packed = file.part(0, 2) == _GZIP
            given = gzip.GzipFile(fileobj=file) if packed else file
            return fits.open(given, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True)
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"{address} is not a FITS file that can be read: it is damaged, cut off or of another format."
        ) from error


def _is_image(hdu: Any) -> bool:
    """Whether an extension holds an image of two dimensions and more."""
    return bool(hdu.is_image and hdu.header.get("NAXIS", 0) >= _SIDES and min(hdu.shape[-2:]) > 0)


@lru_cache(maxsize=4096)
def parts_of_fits(path: str, _mtime: int, _size: int) -> tuple[tuple[str, int], ...]:
    """Return the names of a file's images and their numbers among its extensions.

    The name is that of the extension (``SCI``), with its version where several are called so (``SCI,2``), its number
    where it has none (``0``).

    Raises
    ------
    ImageError
        When the file is none, or holds no image.
    """
    with open_file(path) as hdus, quiet():
        try:
            images = [(number, hdu.name, hdu.ver) for number, hdu in enumerate(hdus) if _is_image(hdu)]
        except (OSError, ValueError, TypeError, IndexError) as error:
            raise ImageError(f"{path} cannot be read to its end: the file is damaged or cut off.") from error
    images = [entry for entry in images if entry[1] not in _TABLES] or images
    if not images:
        raise ImageError(f"{path} holds no image: all its extensions are tables or empty.")
    names = [name for _, name, _ in images]
    parts: dict[str, int] = {}
    for number, name, version in images:
        own = not name or (name == "PRIMARY" and number == 0)
        given = str(number) if own else name if names.count(name) == 1 else f"{name},{version}"
        # Of extensions with the same name and version, the first has it.
        parts[str(number) if given in parts else given] = number
    return tuple(parts.items())


def _number_of(path: str, part: str, revision: tuple[int, int]) -> int:
    """Return the number of an extension by its name; that of the first image where none is named."""
    parts = parts_of_fits(path, *revision)
    if not part:
        return parts[0][1]
    wanted = part.strip().upper()
    for name, number in parts:
        # ``SCI`` is short for ``SCI,1``, and any extension may be called by its number.
        if (
            wanted in (name.upper(), str(number))
            or f"{wanted},1" == name.upper()
            or wanted == f"{name.upper()},1"
        ):
            return number
    with open_file(path) as hdus, quiet():
        for number, hdu in enumerate(hdus):
            if wanted in (hdu.name, f"{hdu.name},{hdu.ver}", str(number)) and _is_image(hdu):
                return number
    raise ImageError(f"{path} has no image {part!r}; it has {', '.join(name for name, _ in parts)}.")


def describe_fits(address: str, mtime: int, size: int) -> Image:
    """Return what one image of a FITS file is.

    Raises
    ------
    ImageError
        When the file or the part is not there, or is no image.
    """
    path, part = split(address)
    revision = (mtime, size)
    number = _number_of(path, part, revision)
    with open_file(path) as hdus, quiet():
        hdu = hdus[number]
        header, shape = hdu.header, hdu.shape
        integer = header["BITPIX"] > 0
        count = int(np.prod(shape[:-2])) if len(shape) > _SIDES else 1
        dtype = np.dtype(_TYPES[header["BITPIX"]])
        height, width = shape[-2:]
        blocks = _blocks(hdu, width)
        primary = hdus[0].header
        celestial = (
            Celestial(join(path, str(number)), revision, width, height) if _is_celestial(header) else None
        )
        start = _moment(header) or _moment(primary)
    blank = header.get("BLANK") if integer else None
    colours = count == _COLOURS and dtype == np.uint8
    return Image(
        path=address,
        driver="FITS",
        width=width,
        height=height,
        count=count,
        crs=None,
        transform=Affine.identity(),
        dtypes=(dtype.name,) * count,
        nodata=(None if blank is None else float(blank),) * count,
        scales=(float(header.get("BSCALE", 1.0)),) * count,
        offsets=(float(header.get("BZERO", 0.0)),) * count,
        descriptions=("red", "green", "blue") if colours else (None,) * count,
        blocks=blocks,
        overviews=(),
        alpha=None,
        masked=False,
        curved=celestial,
        units=(str(header["BUNIT"]).strip() or None if "BUNIT" in header else None,) * count,
        start=start,
        end=start,
    )


def _blocks(hdu: Any, width: int) -> tuple[int, int]:
    """Return rows and columns of the tiles of a compressed image; plain ones are stored by rows."""
    tile = getattr(hdu, "tile_shape", None)
    return (int(tile[-2]), int(tile[-1])) if tile is not None and len(tile) >= _SIDES else (1, width)


def _is_celestial(header: Any) -> bool:
    """Whether a header places its first two axes on the sky."""
    words = (str(header.get("CTYPE1", ""))[:4].strip("-"), str(header.get("CTYPE2", ""))[:4].strip("-"))
    pairs = (("RA", "DEC"), ("GLON", "GLAT"), ("ELON", "ELAT"), ("SLON", "SLAT"), ("HLON", "HLAT"))
    return any(set(words) == set(pair) for pair in pairs)


def _moment(header: Any) -> datetime | None:
    """Return when the observation began, from ``DATE-OBS`` (and ``TIME-OBS`` of older headers)."""
    day, time = str(header.get("DATE-OBS") or "").strip(), str(header.get("TIME-OBS") or "").strip()
    text = day if "T" in day or not time else f"{day}T{time}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def open_fits(image: Image, revision: tuple[int, int]) -> ArrayDataset:
    """Open one image of a FITS file for reading.

    Raises
    ------
    ImageError
        When the file is damaged.
    """
    path, part = split(image.path)
    hdus = open_file(path)
    try:
        hdu = hdus[_number_of(path, part, revision)]
    except ImageError:
        hdus.close()
        raise
    # A compressed extension decompresses only the tiles of a section; a plain one is mapped into memory, which outlives
    # the open file.
    compressed = type(hdu).__name__ == "CompImageHDU"
    planes = list(np.ndindex(hdu.shape[:-2]))
    if "://" in path and not compressed and (stored := _rows_afar(path, hdu)) is not None:
        hdus.close()
        return ArrayDataset(image, [stored(plane) for plane in planes], hdus.close)
    data = None if compressed else _mapped(hdus, hdu, path)

    def layer(plane: tuple[int, ...]) -> Any:
        def read(rows: Any, columns: Any) -> NDArray[Any]:
            if data is None:
                whole = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
                found = hdu.section[(*plane, *whole)]
                return np.asarray(found)[:: rows.step or 1, :: columns.step or 1]
            pixels: NDArray[Any] = data[plane] if plane else data
            if isinstance(rows, slice):
                return np.asarray(pixels[rows, columns])
            # One number per pixel finds it in half of the time that two take.
            return np.asarray(np.take(pixels.reshape(-1), rows * pixels.shape[1] + columns))

        return read

    dataset = ArrayDataset(image, [layer(plane) for plane in planes], hdus.close, picks=not compressed)
    weakref.finalize(dataset, hdus.close)
    return dataset


def _rows_afar(address: str, hdu: Any) -> Any:
    """Return what gives layers of a plain extension on another machine, by rows; nothing where the file is packed."""
    from cupola.lab.collections.formats.ranges import open_remote

    file = open_remote(address)
    if file.part(0, 6) != b"SIMPLE":
        return None
    begin, shape = int(hdu.fileinfo()["datLoc"]), hdu.shape
    dtype = np.dtype(_TYPES[hdu.header["BITPIX"]]).newbyteorder(">")
    height, width = shape[-2:]

    def layer(plane: tuple[int, ...]) -> Any:
        number = int(np.ravel_multi_index(plane, shape[:-2])) if plane else 0
        first = begin + number * height * width * dtype.itemsize

        def read(rows: slice, columns: slice) -> NDArray[Any]:
            starts = [first + (row * width + columns.start) * dtype.itemsize for row in range(height)[rows]]
            length = max(0, columns.stop - columns.start) * dtype.itemsize
            texts = file.parts((start, start + length) for start in starts)
            found = np.frombuffer(b"".join(texts), dtype).reshape(len(starts), -1)
            return found[:, :: columns.step or 1]

        return read

    return layer


def _mapped(hdus: Any, hdu: Any, path: str) -> NDArray[Any]:
    """Return the numbers of an extension, mapped into memory, and close the file."""
    try:
        with quiet():
            return np.asarray(hdu.data)
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(f"{path} cannot be read to its end: the file is damaged or cut off.") from error
    finally:
        hdus.close()
