"""From computed windows to a product on disk, whatever they are computed from.

A product appears under its name only when it is whole: pixels and item are written aside in the same folder and
renamed, the pixels first. What a killed run left aside is swept by the next one.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import rasterio

from cupola.exceptions import InputError
from cupola.lab.chains.products.cog import CACHE_BYTES, PlainFile, disk_errors, to_cog
from cupola.lab.chains.products.files import (
    aside,
    collection_id,
    file_stem,
    is_whole,
    published,
    sweep,
    write_collection,
    write_json,
)
from cupola.lab.chains.products.skyfile import FitsFile
from cupola.lab.chains.products.stac import Made, item_document
from cupola.lab.chains.products.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from rasterio.windows import Window

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.products.cog import Frame
    from cupola.lab.chains.products.look import Look
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.collections.items import Item

__all__ = ["Source", "Target", "write"]


class Source(Protocol):
    """What the pixels of one product are computed from; used as a context, from one thread at a time."""

    @property
    def chain(self) -> Chain:
        """What is computed."""

    @property
    def frame(self) -> Frame:
        """Its size and place."""

    @property
    def coordinates(self) -> tuple[Any, bytes] | None:
        """Header cards and extensions of a FITS file, for pixels of the sky; nothing for all others."""

    @property
    def early(self) -> bool:
        """Whether the inputs are known before anything is computed."""

    @property
    def state(self) -> str:
        """Hash of the state of all files that might be used: another one means that the product is made again."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further properties of the product's item."""

    def __enter__(self) -> Any:
        """Open what is needed."""

    def __exit__(self, *error: object) -> None:
        """Close it."""

    def windows(self) -> Iterator[Window]:
        """Yield the windows, each small enough to be held in memory with all it takes."""

    def read(self, window: Window) -> Any:
        """Read what a window needs; the next one is read while one is computed."""

    def compute(self, part: Any) -> NDArray[Any]:
        """Return float32 (bands, rows, columns) of what was read."""

    def look(self, count: int, packing: Packing) -> Look:
        """Return names, units and colours of the bands."""

    def inputs(self, folder: Path) -> list[dict[str, Any]]:
        """Return the items that were used and the checksums of their files; `folder` keeps checksums for others."""

    def items(self) -> list[Item]:
        """Return the items that were used."""


@dataclass(frozen=True)
class Target:
    """Where a product goes and how it is stored."""

    folder: Path
    stem: str
    packing: Packing
    said: Mapping[str, Any]
    """What the caller wants to be told: ``job``, ``by``, and parameters."""
    suffix: str = ".tif"

    @classmethod
    def of(
        cls, folder: str | os.PathLike[str], name: str, packing: Packing, said: Mapping[str, Any] | None
    ) -> Target:
        """Return a target, with the engine of the task that this is."""
        told = dict(said or {})
        if engine := os.environ.get("CUPOLA_ENGINE"):
            # In a task the platform says it, which chooses one where nobody names any.
            told["engine"] = engine
        if job := os.environ.get("CUPOLA_JOB"):
            told["job_id"] = job
        return cls(Path(folder), file_stem(name), packing, told)

    @property
    def path(self) -> Path:
        """The product's file."""
        return self.folder / f"{self.stem}{self.suffix}"


def write(source: Source, target: Target, *, keep: bool, skip_empty: bool = False) -> Path | None:
    """Write a product and return the path of its file; nothing where `skip_empty` and no pixel had a value.

    A product that is there, whole and made by the same chain from the same inputs is left as it is if `keep`.

    Raises
    ------
    LimitError
        When the disk is full; nothing is left behind.
    """
    if source.coordinates is not None:
        target = replace(target, suffix=".fits")
    with disk_errors(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
        sweep(target.folder, target.stem)
        title = str(target.said.get("job") or target.folder.name)
        write_collection(target.folder, title=title, chain=source.chain)
    if keep and is_whole(target.path, source.chain.hash, source.state, target.packing):
        return target.path
    return _write(source, target, skip_empty=skip_empty)


def _write(source: Source, target: Target, *, skip_empty: bool) -> Path | None:
    """Write pixels and item aside, then give both their names."""
    place, packing = target.folder, target.packing
    endings = (".plain.tif", target.suffix, ".json")
    plain, packed, draft = (aside(place, target.stem, ending) for ending in endings)
    sky = source.coordinates is not None
    try:
        with ThreadPoolExecutor(1, "checksum") as beside, source:
            # Checksums of the inputs run while pixels are computed: both leave the interpreter alone.
            early = beside.submit(source.inputs, place) if source.early else None
            size, statistics, look = _compute(source, target, packed if sky else plain)
            if skip_empty and statistics.empty:
                return None
            _check_fit(statistics, packing)
            if not sky:
                with disk_errors(place, size):
                    to_cog(plain, packed, packing)
            inputs = early.result() if early else source.inputs(place)
        made = Made(
            chain=source.chain,
            items=source.items(),
            packing=packing,
            look=look,
            statistics=statistics,
            inputs=inputs,
            said=target.said,
            extra={
                "cupola:state": source.state,
                **({"cupola:beyond": statistics.beyond} if statistics.beyond else {}),
                **source.extra,
            },
        )
        document = item_document(packed, target.path, collection_id(place), made)
        with disk_errors(place):
            write_json(document, draft)
            published(packed, draft, target.path)
    finally:
        for path in (path for name in (plain, packed, draft) for path in place.glob(f"{name.name}*")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # GDAL puts the pyramid's drafts beside the file
    return target.path


def _check_fit(statistics: Statistics, packing: Packing) -> None:
    """Refuse a product that would mostly hold the limits of its type: outliers may be cut off, but not the picture."""
    if 2 * statistics.beyond <= statistics.count:
        return
    low, high = (limit * packing.scale for limit in packing.range)
    least, most = statistics.span
    raise InputError(
        f"{statistics.beyond / statistics.count:.0%} of the values do not fit {packing.dtype} with scale={packing.scale:g}, "
        f"which holds {low:g} to {high:g} while they are {least:g} to {most:g}: choose another scale, or leave out dtype."
    )


def _output(source: Source, path: Path, packing: Packing) -> PlainFile | FitsFile:
    if source.coordinates is not None:
        return FitsFile(path, source.frame, packing, source.coordinates)
    return PlainFile(path, source.frame, packing)


def _compute(source: Source, target: Target, path: Path) -> tuple[int, Statistics, Look]:
    """Compute all windows into a plain GeoTIFF and return its size; the next window is read meanwhile."""
    packing, statistics = target.packing, Statistics()
    look: Look | None = None
    bare: list[Window] = []
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        ThreadPoolExecutor(1, "read") as reader,
        _output(source, path, packing) as output,
    ):

        def put(values: NDArray[np.float32], window: Window) -> None:
            output.write(packing.pack(values), window)
            statistics.add(values)
            statistics.beyond += packing.beyond(values)

        waiting = source.windows()
        part = source.read(next(waiting))
        while True:
            following = next(waiting, None)
            ahead = None if following is None else reader.submit(source.read, following)
            values = source.compute(part)
            if (look is None or len(look.bands) > 1) and _is_bare(values):
                bare.append(part.inner)
            else:
                if look is None:
                    output.look = look = source.look(len(values), packing)
                put(values, part.inner)
            if ahead is None:
                break
            part = ahead.result()
        if look is None:
            output.look = look = source.look(1, packing)
        for window in bare:
            put(np.full((len(look.bands), window.height, window.width), np.nan, dtype=np.float32), window)
        output.describe(statistics)
    return output.check(), statistics, look


def _is_bare(values: NDArray[np.float32]) -> bool:
    """Tell whether a window has nothing: where no image lies there is nobody who knows how many bands there are."""
    return len(values) == 1 and not np.isfinite(values).any()
