"""What lies in a folder: STAC items, and images that no item speaks of; read once, and then only what changed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import ImageError, NotFoundError
from cupola.lab.collections import index
from cupola.lab.collections.formats.address import file_of
from cupola.lab.collections.index import light_of
from cupola.lab.collections.items import read_item
from cupola.lab.collections.listing import DEPTH, DOCUMENTS, suffix
from cupola.lab.collections.look import FolderLook
from cupola.lab.collections.records import record_of_image, record_of_text
from cupola.lab.collections.table import FilePart, Piece, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


__all__ = ["Found", "read_document", "scan", "walk"]


@dataclass
class Found:
    """What a folder or file holds."""

    table: Table
    rows: NDArray[np.intp]
    """The items of the table that belong to it."""
    id: str = ""
    title: str = ""
    description: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    """The STAC collection or catalog that speaks for it."""


def walk(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the files below `folder` in order, hidden ones and those that cannot be read left out."""
    seen: set[tuple[int, int]] = set()
    todo = [(folder, 0)]
    while todo:
        place, level = todo.pop()
        try:
            status = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue  # a link that leads back up
        seen.add((status.st_dev, status.st_ino))
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                below.append((Path(entry.path), level + 1))
            else:
                yield Path(entry.path)
        if level < depth:
            todo.extend(reversed(below))


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the STAC catalog or collection in a JSON file; nothing if it is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _read_document(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _read_document(name: str, _mtime: int, _size: int) -> dict[str, Any] | None:
    try:
        document = json.loads(Path(name).read_bytes())
    except (ValueError, OSError):
        return None
    if isinstance(document, dict) and document.get("type") in ("Collection", "Catalog"):
        return document
    return None


def scan(
    path: Path, *, thorough: bool = False, progress: Callable[[int, int], object] | None = None
) -> Found:
    """Return what `path`, a folder, a STAC document or an image, holds.

    Parameters
    ----------
    path
        Where to look.
    thorough
        Look at each file of a large folder even if no folder below it changed.
    progress
        Called with how many files were read and how many there are.

    Raises
    ------
    NotFoundError
        When it does not exist, or is a folder without images.
    ImageError
        When it is a file but no image.
    """
    if path.is_dir() and suffix(path.name) != ".zarr":
        return _scan_folder(path, None, thorough, progress)
    file = Path(file_of(str(path)))
    if not file.exists():
        raise NotFoundError(f"There is no file or folder {path}.")
    if suffix(path.name) in DOCUMENTS:
        return _scan_json(path, thorough, progress)
    if suffix(path.name) in (".parquet", ".geoparquet"):
        return _scan_parquet(path)
    status = file.stat()
    record = record_of_image(str(path), str(path), (status.st_mtime_ns, status.st_size))
    return Found(Table.of_records(str(file.parent), [record]), np.arange(1), record.id, path.name)


def _scan_parquet(path: Path) -> Found:
    """Return the items of a stac-geoparquet file, ours or another's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        light = light_of(file)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ImageError(f"{path} is no stac-geoparquet file: it has no items with id and bbox.") from error
    root = str(path.parent)
    if not any(light.names):
        # The addresses in a file of others are relative to it, if they are.
        light.names = [str(path)] * len(light.ids)
    else:
        root = index.source_of(file) if path.name != index.BESIDE else root
    names = set(light.collections)
    title = (names.pop() if len(names) == 1 else None) or path.stem
    table = Table.build(root, [Piece.of(FilePart(file), light)])
    return Found(table, np.arange(len(table)), title, title)


def _scan_json(path: Path, thorough: bool, progress: Callable[[int, int], object] | None) -> Found:
    document = read_document(path)
    if document is not None:
        return _scan_folder(path.parent, path, thorough, progress)
    item = read_item(path)
    record = None if item is None else record_of_text(path.read_bytes(), str(path), item.stamp, path=path)
    if item is None or record is None:
        raise ImageError(f"{path} is neither an image nor a STAC item, collection or catalog.")
    table = Table.of_records(str(path.parent), [record])
    return Found(table, np.arange(1), item.id, str(item.properties.get("title") or item.id))


def _scan_folder(
    folder: Path, root: Path | None, thorough: bool, progress: Callable[[int, int], object] | None
) -> Found:
    head = _head(folder, root)
    table = FolderLook(folder, has_head=head is not None, progress=progress).table(thorough=thorough)
    images, count = table.light.images, len(table)
    rows = np.arange(count)
    if head is not None:
        if not images.all():
            rows = np.flatnonzero(~images)
        name = str(head.get("id") or folder.name)
        if head["type"] == "Collection":
            collections = table.light.collections
            own = [row for row in rows.tolist() if collections[row] in (None, name)]
            rows = np.array(own, dtype=np.intp) if own else rows
        title, text = str(head.get("title") or name), str(head.get("description") or "")
        return Found(table, rows, name, title, text, head)
    if not count:
        why = next(iter(table.unreadable.values()), "")
        raise NotFoundError(
            f"The folder {folder} holds no images{f' that can be read: {why}' if why else '.'}"
        )
    names = {table.light.collections[row] for row in np.flatnonzero(~images).tolist()}
    only = (names.pop() if len(names) == 1 else None) or folder.name
    return Found(table, rows, only, only)


def _head(folder: Path, root: Path | None) -> dict[str, Any] | None:
    """Return the document that speaks for the folder."""
    for path in [root] if root else [folder / "collection.json", folder / "catalog.json"]:
        if document := read_document(path):
            return document
    return None
