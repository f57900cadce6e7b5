"""A chain over a whole file: window by window to a cloud-optimised GeoTIFF with its STAC item.

A product appears under its name only when it is whole: pixels and item are written aside in the same folder and
renamed, the pixels first. What a killed run left aside is swept by the next one.
"""

from __future__ import annotations

import errno
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError, InputError, LimitError
from cupola.lab.chains.packing import Packing
from cupola.lab.chains.products import aside, file_stem, sweep, write_collection, write_item
from cupola.lab.chains.provenance import describe_inputs
from cupola.lab.chains.whole import Whole, windows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.whole import Part
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = ["write_product"]

_CACHE_BYTES = 128 * 1024 * 1024
"""GDAL's block cache. rasterio.Env takes bytes; the default of 5 % of the memory grows with the machine."""
_THREADS = "2"
_BLOCK = 256
"""Of products: a random tile costs 1.6 times less to read than with 512."""
_SPARE_BYTES = 16 * 1024 * 1024


def write_product(  # noqa: PLR0913 - each says one thing about the file
    chain: Chain,
    item: str | Item,
    folder: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    scale: float | None = None,
    nodata: float | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Compute a chain over one item at full resolution, on the grid of its finest band, into a product.

    Parameters
    ----------
    chain
        What to compute.
    item
        An item of the chain's collection, or its id.
    folder
        Where the product goes: ``NAME.tif`` and ``NAME.json``; made if it is not there.
    dtype, scale, nodata
        How values are stored: ``float32``, or integers of value / scale. NaN becomes `nodata`, values beyond
        the type's range its nearest limit.
    name
        The product's name; the item's id where nothing is said.
    provenance
        What the product's item shall say besides: ``job`` (name of the job), ``by`` (who), and parameters.

    Returns
    -------
    path
        Of the GeoTIFF.

    Raises
    ------
    NotFoundError
        When the collection has no such item.
    BandError, ImageError, InputError
        When a band is missing, a file is damaged, or a function returns no image.
    LimitError
        When the disk is full; nothing is left behind.
    """
    packing = Packing.of(dtype, scale, nodata)
    scene = chain.collection.item(item) if isinstance(item, str) else item
    place = Path(folder)
    said = dict(provenance or {})
    stem = file_stem(name or scene.id)
    with _disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        sweep(place, stem)
        write_collection(place, title=str(said.get("job") or place.name), chain=chain)
        final = place / f"{stem}.tif"
        plain, packed = aside(place, stem, ".tif"), aside(place, stem, ".cog.tif")
        try:
            with ThreadPoolExecutor(1, "checksum") as beside, Whole(chain, scene) as whole:
                # Checksums of the inputs run while pixels are computed: both leave the interpreter alone.
                inputs = beside.submit(describe_inputs, scene, whole.files)
                _compute(whole, packing, plain)
                _to_cog(plain, packed, packing)
                described = inputs.result()
            packed.replace(final)
            write_item(final, chain, scene, packing=packing, inputs=described, provenance=said)
        finally:
            for draft in (plain, packed):
                for path in place.glob(f"{draft.name}*"):  # GDAL puts the pyramid's drafts beside it
                    path.unlink(missing_ok=True)
    return final


def _compute(whole: Whole, packing: Packing, path: Path) -> None:
    """Compute all windows into a plain GeoTIFF; the next window is read while this one is computed."""
    grid = whole.grid
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES),
        ThreadPoolExecutor(1, "read") as reader,
        _Output(path, grid, packing) as output,
    ):
        waiting = windows(grid)
        ahead = reader.submit(whole.read, next(waiting))
        while True:
            part: Part = ahead.result()
            following = next(waiting, None)
            if following is not None:
                ahead = reader.submit(whole.read, following)
            output.write(packing.pack(whole.compute(part)), part.inner)
            if following is None:
                return


class _Output:
    """A plain tiled GeoTIFF, made when the first window tells the number of bands."""

    def __init__(self, path: Path, grid: Image, packing: Packing) -> None:
        self._path, self._grid, self._packing = path, grid, packing
        self._dataset: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._dataset is not None:
            self._dataset.close()

    def write(self, stored: Any, window: Window) -> None:
        if self._dataset is None:
            self._dataset = self._create(stored.shape[0])
        if stored.shape[0] != self._dataset.count:
            raise InputError(
                f"The function returned {self._dataset.count} bands for one window and {stored.shape[0]} for another: "
                "it must return the same number for all."
            )
        self._dataset.write(stored, window=window)

    def _create(self, bands: int) -> Any:
        grid, packing = self._grid, self._packing
        _check_room(self._path.parent, grid.width * grid.height * bands * np.dtype(packing.dtype).itemsize)
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
            blockxsize=512,
            blockysize=512,
            BIGTIFF="IF_SAFER",
            **place,
        )
        if packing.scale != 1.0:
            dataset.scales = (packing.scale,) * bands
        return dataset


def _to_cog(plain: Path, packed: Path, packing: Packing) -> None:
    """Copy the plain file into a cloud-optimised one, with a pyramid.

    The pyramid is built into the plain file first: left to itself, the COG driver compresses its levels twice,
    which takes a quarter more time.
    """
    resampling = Resampling.average if packing.smooth else Resampling.nearest
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_NUM_THREADS=_THREADS, COMPRESS_OVERVIEW="NONE"):
        with rasterio.open(plain, "r+") as dataset:
            factors = _pyramid(dataset.width, dataset.height)
            if factors:
                dataset.build_overviews(factors, resampling)
        rasterio.shutil.copy(
            plain,
            packed,
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR="YES",
            BLOCKSIZE=str(_BLOCK),
            OVERVIEWS="FORCE_USE_EXISTING",
            NUM_THREADS=_THREADS,
            BIGTIFF="IF_SAFER",
        )
    # GDAL may report a full disk only in its log: a cut-off file lacks its last block.
    with rasterio.open(packed) as dataset:
        dataset.read(window=Window(dataset.width - 1, dataset.height - 1, 1, 1))


def _pyramid(width: int, height: int) -> list[int]:
    """Return the factors of the pyramid's levels: until the whole image is one tile."""
    factors: list[int] = []
    while max(width, height) // 2 ** len(factors) > _BLOCK:
        factors.append(2 ** (len(factors) + 1))
    return factors


def _check_room(folder: Path, needed: int) -> None:
    """Refuse to start what cannot end: the plain file and the packed one lie side by side for a while."""
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise LimitError(
            f"The disk of {folder} has {free / 1e6:,.0f} MB left and this product needs {needed / 1e6:,.0f} MB "
            "for a while: delete something, or choose another folder."
        )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn failed writing into a sentence that names the folder."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RasterioError) and shutil.disk_usage(folder).free > _SPARE_BYTES:
            raise ImageError(f"The product in {folder} could not be written: {error}.") from error
        if isinstance(error, RasterioError) or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LimitError(
                f"The disk of {folder} is full: delete something, or choose another folder."
            ) from error
        raise InputError(f"Nothing can be written to {folder}: {error.strerror or error}.") from error
