"""What was found in folders and on servers, kept for the next look and for other processes.

A collection is read once. What finds its items is kept as stac-geoparquet below ``$CUPOLA_RUNTIME/index`` (or, where
somebody asked for it, as ``items.parquet`` in the collection's own folder), with the time of change and the size of
the file each item came from: only files that changed are read again. It is a cache: a missing, foreign or broken one is
made anew, one that cannot be written is kept in memory, and a new one takes the place of the old in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.collections import leftovers
from cupola.lab.collections.leftovers import DRAFT
from cupola.lab.collections.records import NEVER
from cupola.lab.collections.table import FilePart, Light, Piece, RecordsPart, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from cupola.lab.collections.records import Record

__all__ = [
    "BESIDE",
    "Kept",
    "forget",
    "keep",
    "light_of",
    "lock",
    "note_folders",
    "place",
    "recall",
    "remember",
    "source_of",
]

logger = logging.getLogger(__name__)

BESIDE = "items.parquet"
"""The index's name in a collection's own folder."""
_VERSION = 2
_REMEMBERED = 16
"""Collections that stay in memory."""
_RACY_NS = 2_000_000_000
"""A folder that changed so shortly before it was looked at may have changed again without looking so."""
_WAIT_S = 600.0
_LOOK_S = 0.1

_memory: OrderedDict[str, Kept] = OrderedDict()


@dataclass
class Kept:
    """What is known of a folder or a server."""

    pieces: list[Piece] = field(default_factory=list)
    others: dict[str, list[Any]] = field(default_factory=dict)
    """Files that are no items: time of change, size, and why, where a person should know."""
    folders: dict[str, int] = field(default_factory=dict)
    """Time of change of each folder at the last whole look."""
    said: dict[str, Any] = field(default_factory=dict)
    """Whatever else the one who looked wants to know the next time."""
    looked: float = 0.0
    """When the last whole look was (seconds since 1970)."""
    token: str = ""
    """Of the file on the disk, where that holds all of this."""
    table: Table | None = None

    def __len__(self) -> int:
        return sum(len(piece.rows) for piece in self.pieces)


def place(source: str) -> Path:
    """Return the file in which a collection's items are kept."""
    runtime = os.environ.get("CUPOLA_RUNTIME")
    folder = (Path(runtime) if runtime else Path.home() / ".cupola") / "index"
    return folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.parquet"


def recall(source: str) -> Kept | None:
    """Return what is known of a collection: by this process, else what another one left on the disk."""
    found = _memory.get(source)
    if found is not None:
        _memory.move_to_end(source)
        return found
    for path in (place(source), *([] if "://" in source else [Path(source) / BESIDE])):
        found = _load(path, source, beside=path.name == BESIDE)
        if found is not None:
            if path.name != BESIDE:
                leftovers.used(path)
            return remember(source, found)
    return None


def remember(source: str, kept: Kept) -> Kept:
    """Keep in memory what is known of a collection."""
    _memory[source] = kept
    _memory.move_to_end(source)
    while len(_memory) > _REMEMBERED:
        _memory.popitem(last=False)
    return kept


def forget(source: str | None = None) -> None:
    """Take no notice any more of what this process knows, as if it had just begun."""
    if source is None:
        _memory.clear()
    else:
        _memory.pop(source, None)


@contextlib.contextmanager
def lock(source: str) -> Iterator[bool]:
    """Let one process at a time look through a large collection: the others then find what it left.

    Yields whether another process was waited for. Where files cannot be locked, everybody looks.
    """
    path = place(source).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield False
        return
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    until = time.monotonic() + _WAIT_S
    waited = False
    while time.monotonic() < until:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            time.sleep(_LOOK_S)
        except OSError:
            return waited
        else:
            return waited
    return waited


def _load(path: Path, source: str, *, beside: bool) -> Kept | None:
    """Read an index; nothing if it is not there, broken, or of another collection."""
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cupola.lab.collections.geoparquet import KEY

    try:
        file = pq.ParquetFile(path)
        said = json.loads((file.schema_arrow.metadata or {})[KEY])
        if said["version"] != _VERSION or (not beside and said["source"] != source):
            return None
        kept = Kept(
            pieces=[Piece.of(FilePart(file), light_of(file))],
            others=dict(said["others"]),
            said=dict(said["said"]),
            looked=float(said["looked"]),
            token=str(said["token"]),
        )
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    if not beside:
        _load_folders(path, kept)
    return kept


def source_of(file: Any) -> str:
    """Return the folder or address that one of our files is the index of."""
    from cupola.lab.collections.geoparquet import KEY

    return str(json.loads((file.schema_arrow.metadata or {}).get(KEY, b"{}")).get("source", ""))


def _load_folders(path: Path, kept: Kept) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        said = json.loads(path.with_suffix(".json").read_bytes())
        if said["token"] == kept.token:
            kept.folders = {str(name): int(stamp) for name, stamp in said["folders"].items()}
            kept.looked = float(said["looked"])


def light_of(file: Any) -> Light:
    """Return what finds the items of a stac-geoparquet file, ours or another's."""
    import pyarrow as pa

    from cupola.lab.collections.geoparquet import plain, to_numpy

    names = file.schema_arrow.names
    wanted = ["id", "bbox", "collection", "datetime", "start_datetime", "end_datetime", "ssys:targets"]
    own = ["cupola:file", "cupola:mtime", "cupola:size", "cupola:image"]
    table = file.read(columns=[name for name in wanted + own if name in names])
    count = table.num_rows

    def texts(name: str) -> list[Any]:
        if name not in table.column_names or table[name].null_count == count:
            return [None] * count
        if pa.types.is_string(table[name].type) and len(distinct := table[name].unique()) == 1:
            return [distinct[0].as_py()] * count
        found: list[Any] = table[name].to_pylist()
        return found

    def times(name: str) -> NDArray[np.int64]:
        if name not in table.column_names or not pa.types.is_timestamp(table[name].type):
            return np.full(count, NEVER)
        found = table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        return plain(found, int(NEVER))

    def whole(name: str) -> NDArray[np.int64]:
        if name not in table.column_names:
            return np.zeros(count, dtype=np.int64)
        return plain(table[name]).astype(np.int64)

    start = times("datetime")
    start = np.where(start == NEVER, times("start_datetime"), start)
    end = times("end_datetime")
    box = table["bbox"].combine_chunks()
    sides = [to_numpy(box.field(side)) for side in ("xmin", "ymin", "xmax", "ymax")]
    unknown = plain(box.is_null())
    targets = texts("ssys:targets")
    return Light(
        ids=[str(one) for one in table["id"].to_pylist()],
        names=[str(one or "") for one in texts("cupola:file")],
        stamps=np.column_stack([whole("cupola:mtime"), whole("cupola:size")]),
        start=start,
        end=np.where(end == NEVER, start, end),
        boxes=np.where(unknown[:, np.newaxis], np.nan, np.column_stack(sides)),
        images=whole("cupola:image").astype(np.bool_),
        collections=texts("collection"),
        targets=[tuple(one) if isinstance(one, list) else None for one in targets],
    )


def keep(  # noqa: PLR0913 - all that an index says
    source: str,
    old: Sequence[Piece],
    chunks: Sequence[Sequence[Record] | pa.Table],
    *,
    others: dict[str, list[Any]],
    said: dict[str, Any] | None = None,
    target: Path | None = None,
    folders: dict[str, int] | None = None,
    looked: float | None = None,
) -> Kept:
    """Write an index and return it; where the disk does not take it, it is kept in memory.

    Parameters
    ----------
    source
        The folder or address.
    old
        What is known already and still holds.
    chunks
        New items.
    others, said, folders, looked
        As in `Kept`.
    target
        The file, where it is not the usual one.
    """
    table = _whole(old, chunks)
    token, looked = uuid.uuid4().hex, time.time() if looked is None else looked
    words = {
        "version": _VERSION, "source": source, "others": others, "said": said or {}, "token": token, "looked": looked,
    }  # fmt: skip
    table = _described(table, words)
    path = target or place(source)
    try:
        file = _written(table, path)
    except OSError as error:
        if target is not None:
            raise
        logger.info("cupola: the index of %s is not kept: %s", source, error)
        file = _in_memory(table)
    kept = Kept([Piece.of(FilePart(file), light_of(file))], others, folders or {}, said or {}, looked, token)
    if target is None:
        note_folders(source, kept)
    return kept


def _whole(old: Sequence[Piece], chunks: Sequence[Sequence[Record] | pa.Table]) -> pa.Table:
    """Return old and new items in one table, the newest first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from cupola.lab.collections.geoparquet import encode, merge

    tables = []
    for piece in old:
        if isinstance(piece.part, RecordsPart):
            tables.append(encode([piece.part.records[row] for row in piece.rows.tolist()]))
        elif isinstance(piece.part, FilePart):
            table = piece.part.file.read()
            tables.append(table if len(piece.rows) == table.num_rows else table.take(piece.rows))
    tables += [encode(chunk) if isinstance(chunk, list) else chunk for chunk in chunks]
    table = merge(tables or [encode([])])
    del tables
    order = pc.sort_indices(
        table.select(["datetime", "id"]), sort_keys=[("datetime", "descending"), ("id", "ascending")]
    )
    # One column after the other: in order and as they were, all at once would take twice the memory.
    schema, columns = table.schema, table.columns
    del table
    for number in range(len(columns)):
        columns[number] = columns[number].take(order)
    return pa.Table.from_arrays(columns, schema=schema)


def _described(table: pa.Table, words: dict[str, Any]) -> pa.Table:
    from cupola.lab.collections.geoparquet import metadata

    bodies = {"Earth"}
    if "ssys:targets" in table.column_names:
        said = {
            tuple(one) if isinstance(one, list) else ("Earth",) for one in table["ssys:targets"].to_pylist()
        }
        bodies = {name for names in said for name in names} or bodies
    only = bodies.pop() if len(bodies) == 1 else ""
    return metadata(table, words, _crs_of(only), earth=only == "Earth")


def _crs_of(body: str) -> dict[str, Any] | None:
    """Return longitude and latitude of a body as PROJJSON; nothing where it is not known."""
    if body in ("", "Earth"):
        return None
    from pyproj import CRS
    from pyproj.database import query_crs_info
    from pyproj.enums import PJType

    # Ocentric longitudes and latitudes on a sphere, eastwards: what bounding boxes are in.
    wanted = f"{body} (2015) - Sphere / Ocentric".casefold()
    for found in query_crs_info(auth_name="IAU_2015", pj_types=PJType.GEOGRAPHIC_2D_CRS):
        if found.name.casefold() == wanted:
            return dict(CRS.from_authority(found.auth_name, found.code).to_json_dict())
    return None


def _written(table: pa.Table, path: Path) -> Any:
    """Write a table beside its place, and move it there; return it opened."""
    import pyarrow.parquet as pq

    from cupola.lab.collections.geoparquet import write

    if path.name != BESIDE:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        leftovers.sweep(path.parent)
    else:
        leftovers.sweep_drafts(path.parent)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=DRAFT, suffix=".parquet")
    os.close(handle)
    try:
        write(table, draft)
        file = pq.ParquetFile(draft)
        if path.name == BESIDE:
            Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return file


def _in_memory(table: pa.Table) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cupola.lab.collections.geoparquet import write

    stream = pa.BufferOutputStream()
    write(table, stream)
    return pq.ParquetFile(pa.BufferReader(stream.getvalue()))


def note_folders(source: str, kept: Kept) -> None:
    """Keep when each folder changed last: as long as none does, the next process need not look at every file."""
    path = place(source)
    if not kept.token or not path.exists():
        return
    racy = (kept.looked * 1e9) - _RACY_NS
    said = {
        "token": kept.token,
        "looked": kept.looked,
        "folders": {name: stamp if stamp < racy else 0 for name, stamp in kept.folders.items()},
    }
    with contextlib.suppress(OSError):
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=DRAFT, suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(said, file, separators=(",", ":"))
            Path(draft).replace(path.with_suffix(".json"))
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
