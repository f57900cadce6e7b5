"""STAC in a folder: which collections it holds. Plain JSON reading, so that the portal needs no raster library."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cupola.models.volume import CollectionSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["StacFolder"]

Thing = TypeVar("Thing")

_DEEPEST = 6
_MOST_FOLDERS = 5_000
_MOST_ITEMS = 20_000
"""Bounds of one scan: a volume may be an archive of millions of files, of which we show a summary."""
_LARGEST = 4 * 2**20
"""In bytes; no STAC document of one item or collection is larger."""


@dataclass
class _Found:
    """What the JSON files of a tree say about one collection."""

    document: dict[str, Any] | None = None
    folder: str = ""
    items: int = 0
    bands: dict[str, None] = field(default_factory=dict)
    body: str | None = None


class StacFolder:
    """The collections in `root`, remembered until a folder or a document changes.

    Parameters
    ----------
    root
        The folder.
    seconds
        How long one look may take: in an archive that is larger, what was found by then counts.
    """

    def __init__(self, root: Path, *, seconds: float = 30) -> None:
        self._root = root
        self._seconds = seconds
        self._stamp: tuple[Any, ...] | None = None
        self._collections: list[CollectionSummary] = []
        self.seen = 0
        """Folders and documents of the look that runs, or ran last."""

    def collections(self) -> list[CollectionSummary]:
        """Return the collections by id. A document that cannot be read counts as absent.

        Raises
        ------
        OSError
            If the folder itself cannot be read.
        """
        until, self.seen = time.monotonic() + self._seconds, 0
        files = list(self._timed(_json_files(self._root), until))
        stamp = tuple(files)
        if stamp != self._stamp:
            # Collections first: they tell most, should the time run out.
            files.sort(key=lambda file: not file[0].endswith("collection.json"))
            paths = self._timed((path for path, _, _ in files), until)
            self._collections = _summaries(self._root, paths)
            self._stamp = stamp
        return self._collections

    def _timed(self, things: Iterable[Thing], until: float) -> Iterator[Thing]:
        for thing in things:
            if time.monotonic() > until:
                return
            self.seen += 1
            yield thing


def _json_files(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path, change time and size of the JSON files below `root`, within the bounds."""
    folders = deque([(str(root), 0)])
    seen = files = 0
    while folders and seen < _MOST_FOLDERS and files < _MOST_ITEMS:
        folder, depth = folders.popleft()
        seen += 1
        try:
            inside, documents = _entries(folder)
        except OSError:
            if depth == 0:
                raise
            continue
        if depth < _DEEPEST:
            folders.extend((path, depth + 1) for path in inside)
        yield from documents[: _MOST_ITEMS - files]
        files += len(documents)


def _entries(folder: str) -> tuple[list[str], list[tuple[str, int, int]]]:
    """Return the folders and the JSON files in one folder, by name."""
    folders, documents = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # A link could lead anywhere, also round in a circle.
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            folders.append(entry.path)
        elif entry.name.endswith((".json", ".geojson")):
            # Files come and go while we look.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                documents.append((entry.path, status.st_mtime_ns, status.st_size))
    return folders, documents


def _summaries(root: Path, paths: Iterable[str]) -> list[CollectionSummary]:
    found: dict[str, _Found] = {}
    for path in paths:
        document = _document(path)
        kind = document.get("type")
        if kind == "Collection" and isinstance(document.get("id"), str):
            entry = found.setdefault(document["id"], _Found())
            if entry.document is None:
                entry.document, entry.folder = document, _relative(root, path)
        elif kind == "Feature" and isinstance(document.get("assets"), dict):
            # Items without a collection belong to the folder they lie in.
            name = document.get("collection") or os.path.basename(os.path.dirname(path))  # noqa: PTH119, PTH120
            entry = found.setdefault(str(name), _Found(folder=_relative(root, path)))
            entry.items += 1
            entry.bands.update(_bands(document["assets"]))
            entry.body = entry.body or _body(document)
    return [_summary(name, entry) for name, entry in sorted(found.items())]


def _document(path: str) -> dict[str, Any]:
    """Return a JSON object, an empty one for whatever is none."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - os.scandir gives plain text
            content = stream.read(_LARGEST + 1)
        document = json.loads(content) if len(content) <= _LARGEST else None
    except (OSError, ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}


def _relative(root: Path, path: str) -> str:
    folder = os.path.relpath(os.path.dirname(path), root)  # noqa: PTH120
    return "" if folder == "." else folder


def _summary(name: str, entry: _Found) -> CollectionSummary:
    document = entry.document or {}
    bands = entry.bands or _bands(document.get("item_assets") or {})
    return CollectionSummary(
        id=name,
        title=str(document.get("title") or name),
        items=entry.items,
        bands=list(bands),
        body=_body(document) or entry.body or "Earth",
        folder=entry.folder,
    )


def _bands(assets: Any) -> dict[str, None]:
    """Return the names of the image assets, in their order."""
    names: dict[str, None] = {}
    for name, asset in assets.items() if isinstance(assets, dict) else ():
        roles = asset.get("roles") if isinstance(asset, dict) else None
        if not isinstance(roles, list) or "data" in roles:
            names[str(name)] = None
    return names


def _body(document: dict[str, Any]) -> str | None:
    """Return the celestial body that a document names: by the solar system extension, else by its projection."""
    properties = document.get("properties")
    for place in (properties, document.get("summaries"), document):
        if not isinstance(place, dict):
            continue
        targets = place.get("ssys:targets")
        if isinstance(targets, list) and targets and isinstance(targets[0], str):
            return targets[0].capitalize()
        code = place.get("proj:code")
        code = code[0] if isinstance(code, list) and code else code
        if isinstance(code, str) and code.upper().startswith("IAU"):
            return _BODIES.get(code.rpartition(":")[2][:3])
    return None


_BODIES = {"199": "Mercury", "299": "Venus", "301": "Moon", "399": "Earth", "499": "Mars"}
"""By the first three digits of an IAU code, which are the body's NAIF number."""
