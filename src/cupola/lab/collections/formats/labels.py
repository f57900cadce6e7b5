"""Planetary products whose labels GDAL cannot read: read whole by pdr, which takes its time."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from cupola.exceptions import ImageError
from cupola.lab.collections.formats.address import split
from cupola.lab.collections.formats.arrays import ArrayDataset
from cupola.lab.collections.formats.image import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["describe_product", "is_product", "open_product"]

_HEAD = 65536
_MARKS = (b"PDS_VERSION_ID", b"Product_Observational", b"NJPL1I00PDS", b"CCSD3ZF")
_MOST_BYTES = 1 << 31
_SIDES, _DIMENSIONS = 2, 3


def is_product(path: str) -> bool:
    """Whether a file begins as the label of a PDS product does; cheap, for folders hold thousands of other files."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return any(mark in head for mark in _MARKS)


@lru_cache(maxsize=4)
def _read(path: str, _mtime: int, size: int) -> tuple[tuple[str, NDArray[Any]], ...]:
    """Return the images of a product by name: physical numbers, NaN where there is no data."""
    if size > _MOST_BYTES:
        raise ImageError(
            f"{path} has a label that GDAL cannot read, and is too large to be read whole ({size / 1e9:.1f} GB): convert "
            "it to GeoTIFF first."
        )
    import pdr

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            product = pdr.read(path)
            for name in product.keys():  # noqa: SIM118 - keys are what it has; iterating it gives other things
                # Tables and text are read as well where they are asked for, so only what is named an image is.
                values = (
                    product.get_scaled(name) if "IMAGE" in name.upper() or "ARRAY" in name.upper() else None
                )
                if (
                    isinstance(values, np.ndarray)
                    and values.ndim in (_SIDES, _DIMENSIONS)
                    and values.dtype.kind in "iuf"
                ):
                    found.append((name, _numbers(values)))
        except Exception as error:  # pdr raises whatever its parsers and readers do
            raise ImageError(
                f"{path} is a PDS product that neither GDAL nor pdr can read ({type(error).__name__}: {error}); convert it to "
                "GeoTIFF, or import it with ISIS."
            ) from error
    if not found:
        raise ImageError(
            f"{path} is the label of a PDS product without an image; open the label of its image instead."
        )
    return tuple(found)


def _numbers(values: NDArray[Any]) -> NDArray[np.float32]:
    plain = np.ma.filled(np.ma.asarray(values, dtype=np.float32), np.nan).astype(np.float32)
    return plain if plain.ndim == _DIMENSIONS else plain[np.newaxis]


def _part(address: str, revision: tuple[int, int]) -> NDArray[Any]:
    path, name = split(address)
    parts = dict(_read(path, *revision))
    if not name:
        return next(iter(parts.values()))
    if name not in parts:
        raise ImageError(f"{path} has no image {name!r}; it has {', '.join(parts)}.")
    return parts[name]


def describe_product(address: str, mtime: int, size: int) -> Image:
    """Return what a product's image is.

    Raises
    ------
    ImageError
        When it cannot be read even so.
    """
    values = _part(address, (mtime, size))
    count, height, width = values.shape
    return Image(
        path=address,
        driver="PDR",
        width=width,
        height=height,
        count=count,
        crs=None,
        transform=Affine.identity(),
        dtypes=("float32",) * count,
        nodata=(None,) * count,
        scales=(1.0,) * count,
        offsets=(0.0,) * count,
        descriptions=(None,) * count,
        blocks=(1, width),
        overviews=(),
        alpha=None,
        masked=False,
    )


def open_product(image: Image, revision: tuple[int, int]) -> ArrayDataset:
    """Open a product's image for reading."""
    values = _part(image.path, revision)
    return ArrayDataset(
        image,
        [lambda rows, columns, layer=layer: layer[rows, columns] for layer in values],
        lambda: None,
    )
