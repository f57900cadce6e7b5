"""A chain over a whole file: window by window to a cloud-optimised GeoTIFF with its STAC item.

A product appears under its name only when it is whole: pixels and item are written aside in the same folder and
renamed, the pixels first. What a killed run left aside is swept by the next one.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio

from cupola.lab.chains.cog import CACHE_BYTES, PlainFile, disk_errors, to_cog
from cupola.lab.chains.packing import Packing
from cupola.lab.chains.products import aside, collection_id, file_stem, sweep, write_collection, write_json
from cupola.lab.chains.provenance import describe_inputs
from cupola.lab.chains.stac import Made, item_document
from cupola.lab.chains.whole import Whole, windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.items import Item

__all__ = ["write_product"]


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
    if engine := os.environ.get("CUPOLA_ENGINE"):
        # In a task the platform says it, which chooses one where nobody names any.
        said["engine"] = engine
    stem = file_stem(name or scene.id)
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        sweep(place, stem)
        write_collection(place, title=str(said.get("job") or place.name), chain=chain)
    return _write(Whole(chain, scene), place, stem, packing, said)


def _write(whole: Whole, place: Path, stem: str, packing: Packing, said: Mapping[str, Any]) -> Path:
    """Write pixels and item aside, then give both their names."""
    final = place / f"{stem}.tif"
    plain, packed, draft = (aside(place, stem, ending) for ending in (".plain.tif", ".tif", ".json"))
    try:
        with ThreadPoolExecutor(1, "checksum") as beside, whole:
            # Checksums of the inputs run while pixels are computed: both leave the interpreter alone.
            inputs = beside.submit(describe_inputs, whole.item, whole.files)
            size = _compute(whole, packing, plain)
            with disk_errors(place, size):
                to_cog(plain, packed, packing)
            made = Made(whole.chain, whole.item, packing, inputs.result(), said)
        document = item_document(packed, final, collection_id(place), made)
        with disk_errors(place):
            write_json(document, draft)
            packed.replace(final)
            draft.replace(final.with_suffix(".json"))
    finally:
        for path in (path for name in (plain, packed, draft) for path in place.glob(f"{name.name}*")):
            path.unlink(missing_ok=True)  # GDAL puts the pyramid's drafts beside the file
    return final


def _compute(whole: Whole, packing: Packing, path: Path) -> int:
    """Compute all windows into a plain GeoTIFF and return its size; the next window is read meanwhile."""
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        ThreadPoolExecutor(1, "read") as reader,
        PlainFile(path, whole.grid, packing) as output,
    ):
        waiting = windows(whole.grid)
        ahead = reader.submit(whole.read, next(waiting))
        while True:
            part = ahead.result()
            following = next(waiting, None)
            if following is not None:
                ahead = reader.submit(whole.read, following)
            output.write(packing.pack(whole.compute(part)), part.inner)
            if following is None:
                break
    return output.check()
