"""All collections of this session's volumes, and what each is: what an explorer lists before anything is opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import CupolaError
from cupola.lab.collections import index
from cupola.lab.collections.collection import Collection
from cupola.lab.collections.footprint import Box, footprint
from cupola.lab.collections.images import is_image_name
from cupola.lab.collections.items import read_item
from cupola.lab.collections.listing import list_folder
from cupola.lab.collections.scan import read_document
from cupola.lab.collections.volumes import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.models.volume import Mount

__all__ = ["CollectionInfo", "Head", "heads", "known"]

_VERSION = 1
_DEPTH = 4
"""How deep below a volume collections are looked for."""
_MOST_FOLDERS = 20_000
"""Folders of one volume that are looked into: a home may hold anything."""
_FEW = 20
"""In a folder of more documents only those with a collection's usual name are read: the others are its items."""
_AT_ONCE = 2_000
"""Files of a collection that are looked through just to list it."""
_RACY_NS = 2_000_000_000
_NAMES = ("collection.json", "catalog.json")


@dataclass(frozen=True)
class CollectionInfo:
    """What is told of a collection that is not opened yet."""

    name: str
    """Opens it: ``cupola.open(name)``."""
    title: str
    volume: str
    folder: str
    body: str | None = None
    items: int = 0
    bbox: Box | None = None
    """West, south, east, north in degrees."""
    interval: tuple[str | None, str | None] | None = None
    """First and last time, as RFC 3339 text."""
    bands: tuple[str, ...] = ()
    description: str = ""
    exact: bool = True
    """Whether its items were read; else this is what its own description and its first item say."""


@dataclass(frozen=True)
class Head:
    """The document that makes a folder a collection; nothing but a folder where images lie without one."""

    volume: str
    folder: Path
    place: str
    """Relative to the volume."""
    id: str = ""
    title: str = ""


@dataclass
class _Looked:
    """What was found in a volume, and how its folders looked then."""

    target: str
    folders: dict[str, int] = field(default_factory=dict)
    heads: list[dict[str, Any]] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    version: int = _VERSION


def known() -> list[CollectionInfo]:
    """Return all collections in this session's volumes; nothing is opened that no folder's time says is new.

    Raises
    ------
    InputError
        When ``CUPOLA_VOLUMES`` is broken.
    """
    found: list[CollectionInfo] = []
    for mount in mounts():
        for said in _look(mount, told=True).infos:
            info = _info_of(said)
            if any(other.name == info.name for other in found):
                place = os.path.relpath(info.folder, mount.target)
                info = _info_of(said | {"name": f"{mount.volume}/{place}" if place != "." else mount.volume})
            found.append(info)
    return found


def heads() -> Iterator[Head]:
    """Yield the collections of this session's volumes, without a look at their items."""
    for mount in mounts():
        for said in _look(mount, told=False).heads:
            yield Head(mount.volume, mount.target / said["place"], said["place"], said["id"], said["title"])


def _info_of(said: dict[str, Any]) -> CollectionInfo:
    box, span = said.get("bbox"), said.get("interval")
    return CollectionInfo(
        **said
        | {
            "bbox": None if box is None else (box[0], box[1], box[2], box[3]),
            "interval": None if span is None else (span[0], span[1]),
            "bands": tuple(said.get("bands", ())),
        }
    )


def _look(mount: Mount, *, told: bool) -> _Looked:
    """Return what a volume holds, from the last look as long as no folder changed since."""
    path = _file(str(mount.target))
    before = _load(path, str(mount.target))
    if (
        before is not None
        and (before.infos or not told or not before.heads)
        and _unchanged(mount.target, before)
    ):
        return before
    begun = time.time_ns()
    looked = _Looked(str(mount.target))
    bare = False
    for place, files, stamp in _folders(mount.target):
        looked.folders[place] = stamp
        head = _head(mount.target / place, files)
        if head is not None:
            looked.heads.append({"place": place, **head})
        bare = bare or any(map(is_image_name, files))
    if not looked.heads and bare and not Path.home().is_relative_to(mount.target):
        looked.heads.append({"place": "", "id": mount.volume, "title": mount.volume})
    if told:
        for head in looked.heads:
            with contextlib.suppress(CupolaError):
                looked.infos.append(asdict(_describe(mount, head, looked.folders)))
    looked.folders = {
        place: stamp if stamp < begun - _RACY_NS else 0 for place, stamp in looked.folders.items()
    }
    _save(path, looked)
    return looked


def _folders(target: Path) -> Iterator[tuple[str, list[str], int]]:
    """Yield folders below a volume with their files and time of change, hidden ones left out."""
    todo = [("", 0)]
    count = 0
    while todo and count < _MOST_FOLDERS:
        place, level = todo.pop()
        count += 1
        try:
            stamp = (target / place).stat().st_mtime_ns
            entries = sorted(os.scandir(target / place), key=lambda entry: entry.name)
        except OSError:
            continue
        seen = [entry for entry in entries if not entry.name.startswith(".")]
        # Links are not followed: a volume that is linked in the home is looked at as a volume.
        below = [entry.name for entry in seen if entry.is_dir(follow_symlinks=False)]
        yield place, [entry.name for entry in seen if entry.name not in below], stamp
        if level < _DEPTH:
            todo.extend((f"{place}/{name}" if place else name, level + 1) for name in reversed(below))


def _head(folder: Path, files: list[str]) -> dict[str, str] | None:
    """Return id and title of the collection that a folder is."""
    documents = [name for name in files if name.endswith(".json")]
    if len(documents) > _FEW:
        documents = [name for name in documents if name in _NAMES]
    for name in sorted(documents, key=lambda name: name not in _NAMES):
        document = read_document(folder / name)
        if document is not None and document["type"] == "Collection":
            return {"id": str(document.get("id") or folder.name), "title": str(document.get("title") or "")}
    return None


def _describe(mount: Mount, head: dict[str, str], stamps: dict[str, int]) -> CollectionInfo:
    """Return what is to be told of a collection; its folders count as looked at from now on."""
    folder = mount.target / head["place"]
    kept = index.recall(str(folder))
    listing = None if kept is not None and kept.folders else list_folder(folder)
    if listing is not None and len(listing.documents) + len(listing.images) > _AT_ONCE and kept is None:
        return _glimpse(mount, head, folder, len(listing.documents))
    opened = Collection(folder)
    below = (index.recall(str(folder)) or index.Kept()).folders
    for name, stamp in below.items():
        stamps["/".join(part for part in (head["place"], name) if part)] = stamp
    body = opened.body if len(opened) else None
    span = opened.interval
    return CollectionInfo(
        name=head["id"],
        title=opened.title or head["title"] or head["id"],
        volume=mount.volume,
        folder=str(folder),
        body=body.name if body else None,
        items=len(opened),
        bbox=opened.bbox,
        interval=None if span is None else (span[0].isoformat(), span[1].isoformat()),
        bands=tuple(opened.bands),
        description=opened.description,
    )


def _glimpse(mount: Mount, head: dict[str, str], folder: Path, documents: int) -> CollectionInfo:
    """Return what a large collection that nobody has opened yet says of itself."""
    document = read_document(folder / _NAMES[0]) or {}
    extent = document.get("extent") or {}
    boxes = (extent.get("spatial") or {}).get("bbox") or [None]
    spans = (extent.get("temporal") or {}).get("interval") or [None]
    listing = list_folder(folder)
    first = next((item for name in listing.documents if (item := read_item(folder / name)) is not None), None)
    body = first.body if first else None
    return CollectionInfo(
        name=head["id"],
        title=head["title"] or head["id"],
        volume=mount.volume,
        folder=str(folder),
        body=body.name if body else None,
        items=max(0, documents - 1) or len(listing.images),
        bbox=footprint({"bbox": boxes[0]}),
        interval=None if not spans[0] else (spans[0][0], spans[0][1]),
        bands=tuple(first.bands) if first else (),
        description=str(document.get("description") or ""),
        exact=False,
    )


def _unchanged(target: Path, looked: _Looked) -> bool:
    for place, stamp in looked.folders.items():
        try:
            if os.stat(target / place).st_mtime_ns != stamp:  # noqa: PTH116 - as quick as can be
                return False
        except OSError:
            return False
    return True


def _file(target: str) -> Path:
    return index.place(target).with_name(f"known-{hashlib.sha256(target.encode()).hexdigest()[:24]}.json")


def _load(path: Path, target: str) -> _Looked | None:
    try:
        said = _Looked(**json.loads(path.read_bytes()))
        if said.version != _VERSION or said.target != target:
            return None
        for info in said.infos:
            _info_of(info)
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None
    return said


def _save(path: Path, looked: _Looked) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(looked), file)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
