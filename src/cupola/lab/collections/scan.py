"""What lies in a folder: STAC documents, or bare image files where there are none."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import ImageError, NotFoundError
from cupola.lab.collections.images import IMAGE_SUFFIXES, describe
from cupola.lab.collections.index import read_items
from cupola.lab.collections.items import Item, item_from_image, read_item

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Found", "read_document", "scan", "walk"]

_DEPTH = 8
"""How deep folders are searched: archives nest by tile, year and month."""


@dataclass
class Found:
    """What a folder or file holds."""

    items: list[Item] = field(default_factory=list)
    id: str = ""
    title: str = ""
    description: str = ""


def walk(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
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


def scan(path: Path) -> Found:
    """Return what `path`, a folder, a STAC document or an image, holds.

    Raises
    ------
    NotFoundError
        When it does not exist, or is a folder without images.
    ImageError
        When it is a file but no image.
    """
    if path.is_dir():
        return _scan_folder(path)
    if not path.exists():
        raise NotFoundError(f"There is no file or folder {path}.")
    if path.suffix.lower() in (".json", ".geojson"):
        return _scan_json(path)
    describe(str(path))
    return Found([item_from_image(path)], path.stem, path.name)


def _scan_json(path: Path) -> Found:
    document = read_document(path)
    if document is not None:
        return _scan_folder(path.parent, path)
    item = read_item(path)
    if item is None:
        raise ImageError(f"{path} is neither an image nor a STAC item, collection or catalog.")
    return Found([item], item.id, str(item.properties.get("title") or item.id))


def _scan_folder(folder: Path, root: Path | None = None) -> Found:
    documents = [path for path in walk(folder) if path.suffix.lower() in (".json", ".geojson")]
    items = read_items(folder, documents)
    head = _head(folder, root)
    if head is not None:
        name = str(head.get("id") or folder.name)
        if head["type"] == "Collection":
            own = [item for item in items if item.collection in (None, name)]
            items = own or items
        title, text = str(head.get("title") or name), str(head.get("description") or "")
        return Found(_unique(items), name, title, text)
    if items:
        names = {item.collection for item in items}
        only = (names.pop() if len(names) == 1 else None) or folder.name
        return Found(_unique(items), only, only)
    images = [path for path in walk(folder) if path.suffix.lower() in IMAGE_SUFFIXES and _is_image(path)]
    if not images:
        raise NotFoundError(f"The folder {folder} holds no images.")
    return Found(_unique([item_from_image(path) for path in images]), folder.name, folder.name)


def _head(folder: Path, root: Path | None) -> dict[str, Any] | None:
    """Return the document that speaks for the folder."""
    for path in [root] if root else [folder / "collection.json", folder / "catalog.json"]:
        if document := read_document(path):
            return document
    return None


def _is_image(path: Path) -> bool:
    """Tell whether a file is worth an item; endings that labels share with other files are looked into."""
    if path.suffix.lower() in (".tif", ".tiff", ".jp2"):
        return True
    try:
        describe(str(path))
    except ImageError:
        return False
    return True


def _unique(items: list[Item]) -> list[Item]:
    """Keep one item per id, the last written: two files of one name would make two products of one name."""
    kept: dict[str, Item] = {}
    for item in items:
        kept.setdefault(item.id, item)
    return list(kept.values())
