"""One look through a place: what is known already stays, what is new or changed is read, and all of it is kept."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cupola.exceptions import CupolaError
from cupola.lab.collections import index
from cupola.lab.collections.index import Kept
from cupola.lab.collections.listing import DOCUMENTS, list_folder, suffix
from cupola.lab.collections.progress import Progress
from cupola.lab.collections.records import Record, base_name, record_of_image, record_of_text
from cupola.lab.collections.table import Light, Piece, RecordsPart, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from cupola.lab.collections.listing import Listing

__all__ = ["FolderLook", "Look"]

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


class Look:
    """One look through a place; how it is listed and read, its kinds say.

    Parameters
    ----------
    source
        The folder or address.
    has_head
        Whether a document says what belongs to it: then images that no item speaks of do not, if there are items.
    progress
        As in `Progress`.
    """

    keeps_documents = False
    """Whether STAC items are kept whole, as they are not at hand later."""

    def __init__(
        self, source: str, *, has_head: bool, progress: Callable[[int, int], object] | None = None
    ) -> None:
        self.source = source
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
        self.said: dict[str, Any] = {}
        """What else is to be kept."""

    def table(self, *, thorough: bool) -> Table:
        """Return all items of the place."""
        known = index.recall(self.source)
        if known is not None and not thorough and self.unchanged(known):
            return self._of(known)
        looked = time.time()
        listing = self.list()
        with _one_at_a_time(self.source, len(listing.documents) + len(listing.images), known):
            # Another process may have looked through it while this one waited.
            self.kept = index.recall(self.source) or Kept()
            self._read(listing)
            return self._of(self._keep(listing, looked))

    def list(self) -> Listing:
        """Return what lies there."""
        raise NotImplementedError

    def texts(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield documents; nothing for one that is gone."""
        raise NotImplementedError

    def images(self, stamps: dict[str, tuple[int, int]]) -> Iterator[tuple[str, Record | CupolaError]]:
        """Yield what images tell of themselves, or why they cannot be read."""
        raise NotImplementedError

    def unchanged(self, known: Kept) -> bool:
        """Tell whether there is no need to look again."""
        raise NotImplementedError

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
                self.known.discard(name)
        documents = [name for name in listing.documents if name not in self.known]
        with Progress("files", len(documents), self.progress) as progress:
            for name, text in self.texts(documents):
                if text is not None:
                    self._take(name, text, listing.documents[name])
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
            mine = [name for name in images if not self._belongs(name, listing.images[name])]
            progress.step(len(images) - len(mine))
            for name, record in self.images({name: listing.images[name] for name in mine}):
                if isinstance(record, Record):
                    self._add(record)
                else:
                    why = str(record) if suffix(name) in _SURELY_IMAGES else _NO_ITEM
                    self.others[name] = [*listing.images[name], why]
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

    def path(self, name: str) -> Path | None:  # noqa: ARG002 - of a folder on this machine alone
        """Return where a file lies on this machine; nothing where it does not."""
        return None

    def _take(self, name: str, text: bytes, stamp: tuple[int, int]) -> None:
        record = record_of_text(text, name, stamp, keep=self.keeps_documents, path=self.path(name))
        if record is None:
            self.others[name] = [*stamp, _NO_ITEM]
            return
        self.claimed |= record.files
        self._add(record)

    def _belongs(self, name: str, stamp: tuple[int, int]) -> bool:
        """Tell whether an image is part of an item, and note it."""
        if base_name(name) not in self.claimed:
            return False
        self.others[name] = [*stamp, _PART]
        return True

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
            if (changed and len(kept) >= _MANY) or self.keeps_documents:
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
        if len(loose) >= enough or self.seconds > _WORTH_SECONDS or self.chunks or self.keeps_documents:
            chunks: list[Any] = [*self.chunks, loose] if loose else self.chunks
            found = index.keep(
                self.source,
                packed,
                chunks,
                others=self.others,
                said=self.said,
                folders=listing.folders,
                looked=looked,
            )
            return index.remember(self.source, found)
        pieces = packed + ([Piece.of(RecordsPart(loose), Light.of(loose))] if loose else [])
        return index.remember(self.source, Kept(pieces, self.others, listing.folders, {}, looked))


class FolderLook(Look):
    """A look through a folder of this machine."""

    def __init__(
        self, folder: Path, *, has_head: bool, progress: Callable[[int, int], object] | None = None
    ) -> None:
        super().__init__(str(folder), has_head=has_head, progress=progress)
        self.folder = folder

    @override
    def path(self, name: str) -> Path | None:
        return self.folder / name

    @override
    def list(self) -> Listing:
        return list_folder(self.folder)

    @override
    def texts(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        for name in names:
            try:
                yield name, (self.folder / name).read_bytes()
            except OSError:
                yield name, None

    @override
    def images(self, stamps: dict[str, tuple[int, int]]) -> Iterator[tuple[str, Record | CupolaError]]:
        for name, stamp in stamps.items():
            try:
                yield name, record_of_image(str(self.folder / name), name, stamp)
            except CupolaError as error:
                yield name, error

    @override
    def unchanged(self, known: Kept) -> bool:
        """Tell whether a large folder has the same files as at the last look."""
        if not known.folders or len(known) + len(known.others) < _MANY:
            return False
        return all(_changed(self.folder, name) == stamp for name, stamp in known.folders.items())


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
