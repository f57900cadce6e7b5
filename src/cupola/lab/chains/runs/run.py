"""A chain at full resolution as a job: one product per item, or one image of many items in pieces of a grid."""

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

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.chains.chain import Chain
from cupola.lab.chains.compute import planning
from cupola.lab.chains.compute.planning import OutputGrid
from cupola.lab.chains.products.files import file_stem, write_collection
from cupola.lab.chains.products.packing import Packing
from cupola.lab.chains.runs import composite, fullres
from cupola.lab.chains.runs.memory import compute
from cupola.lab.collections.items import Item, item_from_image, read_item
from cupola.lab.collections.scan import read_document
from cupola.lab.storage import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["ItemInput", "PieceInput", "WritePiece", "WriteProduct", "compute", "run"]

_SQUEEZED = 10
"""Products are compressed: what is more than this many times the free room will not fit in it either."""


@dataclass(frozen=True)
class ItemInput:
    """An input of a job: an item, and the file that tells of it, so that a task need not scan the collection."""

    id: str
    path: str
    stac: bool
    said: dict[str, Any] | None = None
    """The whole item, where it came from a server and has no file."""

    @classmethod
    def of(cls, item: Item) -> ItemInput:
        """Return the input that stands for an item."""
        elsewhere = item.image is not None and not Path(item.image).is_file()
        if item.document is not None or elsewhere:
            # Of a server, or a part of a file: there is no file of its own to read again.
            return cls(item.id, "", stac=item.image is None, said=item.to_json())
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
        if self.said is not None:
            return Item.from_json(self.said)
        path = Path(self.path)
        if not path.is_file():
            raise NotFoundError(f"The file {path} of the item {self.id} is no longer there.")
        item = read_item(path) if self.stac else item_from_image(path)
        if item is None or item.id != self.id:
            raise NotFoundError(f"The file {path} no longer tells of the item {self.id}.")
        return item


@dataclass(frozen=True)
class PieceInput:
    """An input of a job: a piece of its grid."""

    column: int
    row: int


@dataclass(frozen=True)
class _Task:
    """What the tasks of a chain's job have in common."""

    chain: str
    """As JSON."""
    folder: str
    dtype: str = "float32"
    scale: float | None = None
    nodata: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def _stored(self) -> dict[str, Any]:
        # A task that is run again leaves alone what is whole already: its first run may have been killed later.
        return {
            "dtype": self.dtype,
            "scale": self.scale,
            "nodata": self.nodata,
            "provenance": self.provenance,
            "keep": True,
        }


@dataclass(frozen=True)
class WriteProduct(_Task):
    """The function that a chain's job runs: one item in, one product out."""

    def __call__(self, source: ItemInput) -> str:
        """Write the product of one item and return the path of its GeoTIFF."""
        return str(fullres.write_product(_chain(self.chain), source.item(), self.folder, **self._stored))


@dataclass(frozen=True)
class WritePiece(_Task):
    """The function of a job over a grid: one piece in, one product out."""

    grid: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    only: tuple[str, ...] | None = None
    """Ids of the items to use, where not all are: to make a product again though others have come since."""

    def __call__(self, piece: PieceInput) -> str:
        """Write the product of one piece and return its path; an empty text where no pixel has a value."""
        path = composite.write_piece(
            _chain(self.chain),
            OutputGrid.from_json(self.grid),
            (piece.column, piece.row),
            self.folder,
            name=self.name,
            only=self.only,
            **self._stored,
        )
        return str(path or "")


@lru_cache(maxsize=4)
def _chain(text: str) -> Chain:
    return Chain.from_json(text)


def run(  # noqa: PLR0913 - what can be said of a run, each with a default that fits
    chain: Chain,
    name: str,
    *,
    dtype: str = "float32",
    scale: float | None = None,
    nodata: float | None = None,
    grid: str | None = None,
    resolution: float | None = None,
    bbox: Iterable[float] | None = None,
    piece: int | None = None,
    resume: bool = False,
    **options: Unpack[Options],
) -> Job:
    """Run a chain over its whole collection at full resolution, as a job; see `Chain.run`."""
    packing = Packing.of(dtype, scale, nodata)
    title = str(name).strip()
    if not title:
        raise InputError("Give the job a name, such as ndvi.run('ndvi-february').")
    asked = {"grid": grid, "resolution": resolution, "bbox": bbox, "piece": piece}
    over_grid = chain.reduced or any(value is not None for value in asked.values())
    _check_items(chain)
    mark = {"cupola:chain": chain.hash, "cupola:stored": packing.to_json()}
    folder = _same_folder(_root(), title, mark) if resume else None
    made = folder is None
    output: OutputGrid | None = None
    if over_grid:
        known = (read_document(folder / "collection.json") or {}).get("cupola:grid") if folder else None
        output = _output(chain, known, asked)
        mark["cupola:grid"] = output.to_json()
    folder = folder or _new_folder(_root(), title)
    try:
        write_collection(folder, title=title, chain=chain, box=output.box if output else None, more=mark)
        said = {
            "job": title,
            "by": os.environ.get("JUPYTERHUB_USER") or getpass.getuser(),
            "dtype": dtype,
            "scale": scale,
            "nodata": nodata,
        }
        common: dict[str, Any] = {
            "chain": chain.to_json(),
            "folder": str(folder),
            "dtype": dtype,
            "scale": scale,
            "nodata": nodata,
            "provenance": said,
        }
        if output is None:
            return _submit_items(chain, title, WriteProduct(**common), folder, options)
        task = WritePiece(**common, grid=output.to_json(), name=file_stem(folder.name))
        return _submit_pieces(chain, title, task, output, options)
    except BaseException:
        if made:
            # Nothing was submitted: the folder's name is free for the next try.
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_items(chain: Chain) -> None:
    """Refuse a chain that has nothing to compute over, before anything is made."""
    _ = chain.body  # tells of bodies that do not go together
    for source in chain.sources:
        source.collection.expect_items()
    for collection, names in planning.bands_read(chain):
        for band in names:
            collection.items[0].band(band)


def _output(chain: Chain, known: Any, asked: dict[str, Any]) -> OutputGrid:
    """Return the grid of a run; that of the run that is resumed, unless another one was asked for."""
    if isinstance(known, dict) and all(value is None for value in asked.values()):
        return OutputGrid.from_json(known)
    output = planning.plan(chain, **asked)
    if isinstance(known, dict) and OutputGrid.from_json(known) != output:
        raise InputError(
            "The run that is to be resumed wrote another grid: leave out grid, resolution, bbox and piece, or give "
            "this run another name."
        )
    return output


def _submit_items(chain: Chain, title: str, task: WriteProduct, folder: Path, options: Options) -> Job:
    items = chain.collection.items
    inputs = [ItemInput.of(item) for item in items]
    return _submit(chain, title, task, inputs, [item.id for item in items], folder, options)


def _submit_pieces(chain: Chain, title: str, task: WritePiece, grid: OutputGrid, options: Options) -> Job:
    boxes = [item.bbox for source in chain.sources for item in source.collection.items]
    pieces = planning.pieces_with_items(grid, boxes)
    _check_room(task, grid, pieces)
    inputs = [PieceInput(*piece) for piece in pieces]
    labels = [composite.piece_name(task.name, grid, piece) for piece in pieces]
    return _submit(chain, title, task, inputs, labels, Path(task.folder), options)


def _check_room(task: WritePiece, grid: OutputGrid, pieces: Sequence[tuple[int, int]]) -> None:
    """Refuse a run whose products cannot find room: a slip of the resolution is told now, not by a full disk at night."""
    parts = [grid.part(*piece) for piece in pieces]
    most = sum(part.width * part.height for part in parts) * np.dtype(task.dtype).itemsize
    free = shutil.disk_usage(task.folder).free
    if most > _SQUEEZED * free:
        raise InputError(
            f"This run would write {len(parts):,} images with up to {size(most)} in each band, and there are "
            f"{size(free)} free in {Path(task.folder).parent}: give a larger resolution= or a smaller bbox=."
        )


def _submit(  # noqa: PLR0913, PLR0917 - what a job is made of
    chain: Chain,
    title: str,
    task: WriteProduct | WritePiece,
    inputs: Sequence[Any],
    labels: Sequence[str],
    folder: Path,
    options: Options,
) -> Job:
    from cupola.lab import jobs

    return jobs.submit(title, task, inputs, labels=labels, source=chain.source, products=folder, **options)


def _root() -> Path:
    return Path.home() / "products"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "products"


def _same_folder(root: Path, name: str, mark: dict[str, Any]) -> Path | None:
    """Return the newest folder of that name which the same chain writes; nothing where there is none of that name.

    Raises
    ------
    InputError
        When folders of that name hold products of other chains only.
    """
    slug = _slug(name)
    numbered = re.compile(rf"{re.escape(slug)}(?:-(\d+))?")
    found = []
    for folder in root.iterdir() if root.is_dir() else ():
        match = numbered.fullmatch(folder.name)
        if match is not None and folder.is_dir():
            found.append((int(match[1] or 1), folder))
    for _, folder in sorted(found, reverse=True):
        document = read_document(folder / "collection.json") or {}
        if all(document.get(key) == value for key, value in mark.items()):
            return folder
    if found:
        raise InputError(
            f"The products in {max(found)[1]} were made by another chain or are stored otherwise, so they cannot "
            "be resumed: leave out resume, or give this run another name."
        )
    return None


def _new_folder(root: Path, name: str) -> Path:
    """Make and return a folder of its own for a job's products: ``NAME``, ``NAME-2`` when that is taken ..."""
    slug = _slug(name)
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
