"""A chain at full resolution: one piece of it at once into memory, or all of it as a job."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from rasterio.windows import Window

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains import fullres
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.packing import Packing
from cupola.lab.chains.products import write_collection
from cupola.lab.chains.whole import Whole, windows
from cupola.lab.collections.footprint import check_box
from cupola.lab.collections.items import item_from_image, read_item
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray

    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item
    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["ItemInput", "WriteProduct", "compute", "run"]

_MOST_PIXELS = 64_000_000
"""What a notebook's kernel is asked to hold at once: 256 MB per band."""


def compute(
    chain: Chain, item: str | None = None, *, bbox: Iterable[float] | None = None
) -> xarray.DataArray:
    """Compute a chain over one item, or the part of it in a box, at full resolution into memory.

    Parameters
    ----------
    chain
        What to compute.
    item
        Id of the item; the newest (that touches `bbox`) where nothing is said.
    bbox
        West, south, east, north in degrees; the whole item where nothing is said.

    Returns
    -------
    values
        float32 with the dimensions (band, y, x); `attrs` has ``item``, ``crs`` (WKT) and ``transform``.

    Raises
    ------
    NotFoundError
        When there is no such item, or none touches the box.
    LimitError
        When it is more than a kernel should hold.
    """
    import xarray

    box = None if bbox is None else check_box(bbox)
    items = chain.collection.items if box is None else chain.collection.touching(box)
    if not items:
        where = "" if box is None else f" that touches {box}"
        raise NotFoundError(f"{capital(chain.collection)} has no item{where}.")
    scene = chain.collection.item(item) if item is not None else items[0]
    with Whole(chain, scene) as whole:
        grid = whole.grid
        area = Window(0, 0, grid.width, grid.height) if box is None else _window_of(box, grid, scene)
        if area.width * area.height > _MOST_PIXELS:
            raise LimitError(
                f"That is {area.width * area.height / 1e6:,.0f} million pixels, more than a notebook should hold: "
                "give a smaller bbox, or use run() to write products."
            )
        pieces: dict[int, list[Any]] = {}
        for window in windows(grid):
            piece = _overlap(window, area)
            if piece is not None:
                pieces.setdefault(piece.row_off, []).append(whole.compute(whole.read(piece)))
    values = np.concatenate([np.concatenate(row, axis=2) for row in pieces.values()], axis=1)
    a, b, c, d, e, f = grid.transform[:6]
    left, top = area.col_off, area.row_off
    coordinates: dict[str, Any] = {"band": np.arange(values.shape[0])}
    if b == d == 0:
        coordinates["x"] = c + a * (left + 0.5 + np.arange(area.width))
        coordinates["y"] = f + e * (top + 0.5 + np.arange(area.height))
    transform = (a, b, c + a * left + b * top, d, e, f + d * left + e * top)
    attributes = {"item": scene.id, "crs": grid.wkt, "transform": transform}
    return xarray.DataArray(
        values, dims=("band", "y", "x"), coords=coordinates, name=chain.label, attrs=attributes
    )


def _overlap(one: Window, other: Window) -> Window | None:
    """Return what two windows share."""
    left, top = max(one.col_off, other.col_off), max(one.row_off, other.row_off)
    right = min(one.col_off + one.width, other.col_off + other.width)
    bottom = min(one.row_off + one.height, other.row_off + other.height)
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None


def _window_of(box: tuple[float, float, float, float], grid: Image, item: Item) -> Window:
    """Return the window of an image that holds a box in degrees."""
    if grid.crs is None:
        raise InputError(f"{capital(item)} has no coordinate system, so a bbox says nothing: leave it out.")
    west, south, east, north = box
    east = east + 360 if east < west else east
    steps = np.linspace(0, 1, 33)
    longitudes, latitudes = np.meshgrid(west + (east - west) * steps, south + (north - south) * steps)
    x, y = lonlat_of(grid.crs).forward(longitudes.ravel(), latitudes.ravel())
    a, b, c, d, e, f = (~grid.transform)[:6]
    columns, rows = a * x + b * y + c, d * x + e * y + f
    good = np.isfinite(columns) & np.isfinite(rows)
    if good.any():
        left, right = (
            max(0, int(np.floor(columns[good].min()))),
            min(grid.width, int(np.ceil(columns[good].max()))),
        )
        top, bottom = (
            max(0, int(np.floor(rows[good].min()))),
            min(grid.height, int(np.ceil(rows[good].max()))),
        )
        if right > left and bottom > top:
            return Window(left, top, right - left, bottom - top)
    raise NotFoundError(f"No pixel of {item} lies in {box}.")


@dataclass(frozen=True)
class ItemInput:
    """An input of a job: an item, and the file that tells of it, so that a task need not scan the collection."""

    id: str
    path: str
    stac: bool

    @classmethod
    def of(cls, item: Item) -> ItemInput:
        """Return the input that stands for an item."""
        if item.path is not None:
            return cls(item.id, str(item.path), stac=True)
        return cls(item.id, next(iter(item.assets.values())).href, stac=False)

    def item(self) -> Item:
        """Return the item.

        Raises
        ------
        NotFoundError
            When its file is gone or tells of another item now.
        """
        path = Path(self.path)
        if not path.is_file():
            raise NotFoundError(f"The file {path} of the item {self.id} is no longer there.")
        item = read_item(path) if self.stac else item_from_image(path)
        if item is None or item.id != self.id:
            raise NotFoundError(f"The file {path} no longer tells of the item {self.id}.")
        return item


@dataclass(frozen=True)
class WriteProduct:
    """The function that a chain's job runs: one item in, one product out."""

    chain: str
    """As JSON."""
    folder: str
    dtype: str = "float32"
    scale: float | None = None
    nodata: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __call__(self, source: ItemInput) -> str:
        """Write the product of one item and return the path of its GeoTIFF."""
        path = fullres.write_product(
            _chain(self.chain),
            source.item(),
            self.folder,
            dtype=self.dtype,
            scale=self.scale,
            nodata=self.nodata,
            provenance=self.provenance,
        )
        return str(path)


@lru_cache(maxsize=4)
def _chain(text: str) -> Chain:
    return Chain.from_json(text)


def run(
    chain: Chain,
    name: str,
    *,
    dtype: str = "float32",
    scale: float | None = None,
    nodata: float | None = None,
    **options: Unpack[Options],
) -> Job:
    """Run a chain over its whole collection at full resolution, as a job; see `Chain.run`."""
    from cupola.lab import jobs

    Packing.of(dtype, scale, nodata)
    if not str(name).strip():
        raise InputError("Give the job a name, such as ndvi.run('ndvi-february').")
    items = chain.collection.items
    if not items:
        raise InputError(f"{capital(chain.collection)} has no items to compute over.")
    for band in chain.bands:
        items[0].band(band)
    folder = _new_folder(Path.home() / "products", name)
    try:
        write_collection(folder, title=name.strip(), chain=chain)
        task = WriteProduct(
            chain=chain.to_json(),
            folder=str(folder),
            dtype=dtype,
            scale=scale,
            nodata=nodata,
            provenance={
                "job": name.strip(),
                "by": os.environ.get("JUPYTERHUB_USER") or getpass.getuser(),
                "dtype": dtype,
                "scale": scale,
                "nodata": nodata,
            },
        )
        return jobs.submit(
            name.strip(),
            task,
            [ItemInput.of(item) for item in items],
            labels=[item.id for item in items],
            source=chain.source,
            products=folder,
            **options,
        )
    except BaseException:
        # Nothing was submitted: the folder's name is free for the next try.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _new_folder(root: Path, name: str) -> Path:
    """Make and return a folder of its own for a job's products: ``NAME``, ``NAME-2`` when that is taken ..."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.strip().lower()).strip("-")[:60] or "products"
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = root / (slug if number == 1 else f"{slug}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder
