"""What lies in a folder: STAC items, and images that no item speaks of; read once, and then only what changed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import CupolaError, ImageError, NotFoundError
from cupola.lab.collections import index
from cupola.lab.collections.formats.address import file_of
from cupola.lab.collections.index import Kept
from cupola.lab.collections.items import read_item
from cupola.lab.collections.listing import DEPTH, DOCUMENTS, list_folder, suffix
from cupola.lab.collections.progress import Progress
from cupola.lab.collections.records import Record, base_name, record_of_image, record_of_text
from cupola.lab.collections.table import Light, Piece, RecordsPart, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from cupola.lab.collections.listing import Listing

__all__ = ["Found", "read_document", "scan", "walk"]

_WORTH_KEEPING = 200
"""New items from which on the index on disk is written."""
_WORTH_SECONDS = 0.5
"""Seconds of reading from which on it is, however few they are."""
_MANY = 5_000
"""Files from which on it is believed that none changed in place as long as no folder changed."""
_SHARE = 0.02
"""Part of the index that must be new before it is written again."""
_CHUNK = 4_000
"""New items that are held as they were read; then they are packed."""
_CHECKPOINT_S = 60.0
"""So much reading is lost at most when a process is killed."""
_SURELY_IMAGES = frozenset(
    {".tif", ".tiff", ".jp2", ".cub", ".fits", ".fit", ".fts", ".nc", ".h5", ".hdf5", ".zarr"}
)
"""A file with another ending may be the label of something else: it is no accident if it is no image."""
_PART = "part of an item"
_NO_ITEM = ""


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
    status = file.stat()
    record = record_of_image(str(path), str(path), (status.st_mtime_ns, status.st_size))
    return Found(Table.of_records(str(file.parent), [record]), np.arange(1), record.id, path.name)


def _scan_json(path: Path, thorough: bool, progress: Callable[[int, int], object] | None) -> Found:
    document = read_document(path)
    if document is not None:
        return _scan_folder(path.parent, path, thorough, progress)
    item = read_item(path)
    record = None if item is None else record_of_text(path.read_bytes(), str(path), item.stamp)
    if item is None or record is None:
        raise ImageError(f"{path} is neither an image nor a STAC item, collection or catalog.")
    table = Table.of_records(str(path.parent), [record])
    return Found(table, np.arange(1), item.id, str(item.properties.get("title") or item.id))


def _scan_folder(
    folder: Path, root: Path | None, thorough: bool, progress: Callable[[int, int], object] | None
) -> Found:
    head = _head(folder, root)
    table = Look(folder, has_head=head is not None, progress=progress).table(thorough=thorough)
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


class Look:
    """One look through a folder: what is known already stays, what is new or changed is read."""

    def __init__(
        self, folder: Path, *, has_head: bool, progress: Callable[[int, int], object] | None = None
    ) -> None:
        self.folder = folder
        self.source = str(folder)
        self.has_head = has_head
        self.progress = progress
        self.kept = Kept()
        self.fresh: list[Record] = []
        self.chunks: list[pa.Table] = []
        self.claimed: set[str] = set()
        self.others: dict[str, list[Any]] = {}
        self.pieces: list[Piece] = []
        self.known: set[str] = set()
        self.seconds = 0.0
        self.saved = time.monotonic()

    def table(self, *, thorough: bool) -> Table:
        """Return all items of the folder."""
        known = index.recall(self.source)
        if known is not None and not thorough and self._unchanged(known):
            return self._of(known)
        looked = time.time()
        listing = list_folder(self.folder)
        with _one_at_a_time(self.source, len(listing.documents) + len(listing.images), known):
            # Another process may have looked through it while this one waited.
            self.kept = index.recall(self.source) or Kept()
            self._read(listing)
            return self._of(self._keep(listing, looked))

    def _unchanged(self, known: Kept) -> bool:
        """Tell whether a large folder has the same files as at the last look."""
        if not known.folders or len(known) + len(known.others) < _MANY:
            return False
        return all(_changed(self.folder, name) == stamp for name, stamp in known.folders.items())

    def _of(self, kept: Kept) -> Table:
        """Return the table of what is known, the same one as long as nothing changes."""
        if kept.table is None:
            said = {name: str(entry[2]) for name, entry in kept.others.items()}
            unreadable = {name: why for name, why in said.items() if why not in (_NO_ITEM, _PART)}
            kept.table = Table.build(self.source, kept.pieces, unreadable=unreadable)
        return kept.table

    def _read(self, listing: Listing) -> None:
        """Read what is new or changed."""
        begun = time.monotonic()
        gone = self._sort(listing.documents)
        for name in list(self.others):
            # Whether an image belongs to an item must be found out again when items went.
            if gone and self.others[name][2] == _PART:
                del self.others[name]
        documents = [name for name in listing.documents if name not in self.known]
        with Progress("files", len(documents), self.progress) as progress:
            for name in documents:
                self._read_document(name, listing.documents[name])
                progress.step()
        has_items = bool(self.fresh or self.chunks) or any(
            not piece.light.images.all() for piece in self.pieces
        )
        if self.has_head and has_items:
            listing.images.clear()
        self._sort_images(listing.images)
        images = [name for name in listing.images if name not in self.known]
        if images and has_items:
            self.claimed |= self._claimed_before()
        with Progress("images", len(images), self.progress) as progress:
            for name in images:
                self._read_image(name, listing.images[name])
                progress.step()
        self.seconds = time.monotonic() - begun

    def _sort(self, stamps: dict[str, tuple[int, int]]) -> bool:
        """Divide what is known into what still holds and what changed; return whether items went or changed."""
        self.others = {
            name: entry
            for name, entry in self.kept.others.items()
            if suffix(name) not in DOCUMENTS or stamps.get(name) == tuple(entry[:2])
        }
        self.known = set(self.others)
        gone = False
        for piece in self.kept.pieces:
            rows, light = [], piece.light
            for row, (name, stamp) in enumerate(zip(light.names, light.stamps.tolist(), strict=True)):
                if light.images[row] or stamps.get(name) == tuple(stamp):
                    rows.append(row)
                    self.known.add(name)
                else:
                    gone = True
            self.pieces.append(piece.take(rows))
        return gone

    def _sort_images(self, stamps: dict[str, tuple[int, int]]) -> None:
        """Divide images likewise, once it is known which of them items speak of."""
        for number, piece in enumerate(self.pieces):
            rows = []
            for row, name in enumerate(piece.light.names):
                if piece.light.images[row] and (
                    stamps.get(name) != tuple(piece.light.stamps[row].tolist())
                    or base_name(name) in self.claimed
                ):
                    self.known.discard(name)
                else:
                    rows.append(row)
            self.pieces[number] = piece.take(rows)
        for name in [name for name in self.others if suffix(name) not in DOCUMENTS]:
            if stamps.get(name) != tuple(self.others[name][:2]):
                del self.others[name]
                self.known.discard(name)

    def _claimed_before(self) -> set[str]:
        """Return names of images that items which are known already speak of."""
        found: set[str] = set()
        for piece in self.pieces:
            rows = piece.rows[~piece.light.images].tolist()
            if isinstance(piece.part, RecordsPart):
                found = found.union(*(piece.part.records[row].files for row in rows))
            elif rows:
                assets = piece.part.values("assets")
                hrefs = (asset["href"] for row in rows for asset in (assets[row] or {}).values() if asset)
                found.update(map(base_name, hrefs))
        return found

    def _read_document(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            text = (self.folder / name).read_bytes()
        except OSError:
            return
        record = record_of_text(text, name, stamp)
        if record is None:
            self.others[name] = [*stamp, _NO_ITEM]
            return
        self.claimed |= record.files
        self._add(record)

    def _read_image(self, name: str, stamp: tuple[int, int]) -> None:
        if base_name(name) in self.claimed:
            self.others[name] = [*stamp, _PART]
            return
        try:
            self._add(record_of_image(str(self.folder / name), name, stamp))
        except CupolaError as error:
            self.others[name] = [*stamp, str(error) if suffix(name) in _SURELY_IMAGES else _NO_ITEM]

    def _add(self, record: Record) -> None:
        self.fresh.append(record)
        if len(self.fresh) < _CHUNK:
            return
        from cupola.lab.collections.geoparquet import encode

        # Packed, items take a tenth of the memory.
        self.chunks.append(encode(self.fresh))
        self.fresh = []
        if time.monotonic() - self.saved > _CHECKPOINT_S:
            index.keep(self.source, self.pieces, self.chunks, others=self.others)
            self.saved = time.monotonic()

    def _keep(self, listing: Listing, looked: float) -> Kept:
        """Keep what was found, on the disk if reading it again would take long."""
        kept = self.kept
        same = not self.fresh and not self.chunks and self.others == kept.others
        if same and sum(len(piece.rows) for piece in self.pieces) == len(kept):
            changed = kept.folders != listing.folders
            kept.folders, kept.looked = listing.folders, looked
            if changed and len(kept) >= _MANY:
                index.note_folders(self.source, kept)
            return index.remember(self.source, kept)
        loose = [
            piece.part.records[row]
            for piece in self.pieces
            if isinstance(piece.part, RecordsPart)
            for row in piece.rows.tolist()
        ]
        packed = [piece for piece in self.pieces if not isinstance(piece.part, RecordsPart)]
        loose += self.fresh
        enough = max(_WORTH_KEEPING, _SHARE * sum(len(piece.rows) for piece in packed))
        if len(loose) >= enough or self.seconds > _WORTH_SECONDS or self.chunks:
            chunks: list[Any] = [*self.chunks, loose] if loose else self.chunks
            found = index.keep(
                self.source, packed, chunks, others=self.others, folders=listing.folders, looked=looked
            )
            return index.remember(self.source, found)
        pieces = packed + ([Piece.of(RecordsPart(loose), Light.of(loose))] if loose else [])
        return index.remember(self.source, Kept(pieces, self.others, listing.folders, {}, looked))


def _changed(folder: Path, name: str) -> int:
    """Return when a folder changed last; -1 where it is gone."""
    try:
        return os.stat(folder / name if name else folder).st_mtime_ns  # noqa: PTH116 - as quick as can be
    except OSError:
        return -1


@contextlib.contextmanager
def _one_at_a_time(source: str, files: int, known: Kept | None) -> Iterator[None]:
    """Let others wait while a large folder that nobody knows is looked through."""
    if known is not None or files < _MANY:
        yield
        return
    with index.lock(source) as waited:
        if waited:
            index.forget(source)
        yield
