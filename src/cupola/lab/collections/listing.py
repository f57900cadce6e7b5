"""Which files lie in a folder, and how each looks: what tells whether it must be read again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.lab.collections.images import IMAGE_SUFFIXES, is_image_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DEPTH", "DOCUMENTS", "Listing", "list_folder", "suffix"]

DEPTH = 8
"""How deep folders are searched: archives nest by tile, year and month."""
DOCUMENTS = frozenset({".json", ".geojson"})
_OPENED_AS_A_FILE = frozenset({".zarr"})
"""Folders that are one image."""


@dataclass
class Listing:
    """The files that may tell of items, by name relative to the folder, and the folders that were looked into."""

    documents: dict[str, tuple[int, int]] = field(default_factory=dict)
    """STAC documents, perhaps: time of change (nanoseconds) and size."""
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    """Time of change of each folder."""


def suffix(name: str) -> str:
    """Return the ending of a file's name in small letters."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per file costs more than the look itself


def list_folder(folder: Path, depth: int = DEPTH) -> Listing:
    """Return what lies below a folder, in order; hidden files and what cannot be read are left out."""
    found = Listing()
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[str, int]] = [("", 0)]
    while todo:
        place, level = todo.pop()
        path = os.path.join(folder, place) if place else os.fspath(folder)  # noqa: PTH118
        try:
            status = os.stat(path)  # noqa: PTH116
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue  # a link that leads back up
        seen.add((status.st_dev, status.st_ino))
        found.folders[place] = status.st_mtime_ns
        below = [name for entry in entries if (name := _look(entry, place, found)) is not None]
        if level < depth:
            todo.extend((name, level + 1) for name in reversed(below))
    return found


def _look(entry: os.DirEntry[str], place: str, found: Listing) -> str | None:
    """Note one entry; return its name if it is a folder to look into."""
    if entry.name.startswith("."):
        return None
    name = f"{place}/{entry.name}" if place else entry.name
    ending = suffix(entry.name)
    if entry.is_dir() and ending not in _OPENED_AS_A_FILE:
        return name
    kept = found.documents if ending in DOCUMENTS else None
    if ending in IMAGE_SUFFIXES or (ending == ".gz" and is_image_name(entry.name)):
        kept = found.images
    if kept is not None:
        try:
            status = entry.stat()
        except OSError:
            return None  # removed just now, or a link to nothing
        kept[name] = status.st_mtime_ns, status.st_size
    return None
