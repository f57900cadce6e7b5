"""An index of the STAC items of a folder, in memory and on disk.

To parse 10,000 items takes seconds, and every tile worker is a new process. So what finds an item (`Item`) is kept
below ``$CUPOLA_RUNTIME/index``, with the time of change and the size of the file it comes from: files that changed
are read again. It is a cache: a missing, foreign or broken one is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.collections.items import Item, parse_time, read_item

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["read_items"]

_VERSION = 1
_WORTH_KEEPING = 200
"""Items that must have been parsed before the index on disk is written."""

_memory: dict[str, tuple[int, int, Item | None]] = {}
"""By path: time of change, size, and the item (nothing for a JSON file that is none)."""


def read_items(folder: Path, files: Iterable[Path]) -> list[Item]:
    """Return the STAC items among `files`, which lie below `folder`; only new and changed ones are parsed."""
    stamps: dict[str, tuple[int, int]] = {}
    for path in files:
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps[str(path)] = status.st_mtime_ns, status.st_size
    unknown = [name for name, stamp in stamps.items() if not _known(name, stamp)]
    if len(unknown) >= _WORTH_KEEPING:
        _load(folder)
        unknown = [name for name in unknown if not _known(name, stamps[name])]
    for name in unknown:
        _memory[name] = (*stamps[name], read_item(Path(name)))
    if len(unknown) >= _WORTH_KEEPING:
        _save(folder, list(stamps))
    return [item for name in stamps if (item := _memory[name][2]) is not None]


def _known(name: str, stamp: tuple[int, int]) -> bool:
    found = _memory.get(name)
    return found is not None and found[:2] == stamp


def _file(folder: Path) -> Path:
    runtime = os.environ.get("CUPOLA_RUNTIME")
    place = (Path(runtime) if runtime else Path.home() / ".cupola") / "index"
    return place / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"


def _load(folder: Path) -> None:
    """Take over what another process has parsed."""
    try:
        document = json.loads(_file(folder).read_bytes())
        if document["version"] != _VERSION or document["folder"] != str(folder):
            return
        for name, mtime, size, record in document["files"]:
            path = str(folder / name)
            if not _known(path, (mtime, size)):
                _memory[path] = mtime, size, _item(record, path, (mtime, size))
    except (OSError, ValueError, KeyError, TypeError):
        return


def _save(folder: Path, names: list[str]) -> None:
    """Keep what was parsed for other processes; a home that is full or read-only is no reason to fail."""
    files = []
    for name in names:
        mtime, size, item = _memory[name]
        files.append([os.path.relpath(name, folder), mtime, size, _record(item)])
    target = _file(folder)
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(
                    {"version": _VERSION, "folder": str(folder), "files": files}, file, separators=(",", ":")
                )
            Path(draft).replace(target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def _record(item: Item | None) -> list[Any] | None:
    if item is None:
        return None
    times = [moment.isoformat() if moment else None for moment in (item.datetime, item.end)]
    return [item.id, *times, item.collection, item.box, item.targets]


def _item(record: Any, path: str, stamp: tuple[int, int]) -> Item | None:
    if record is None:
        return None
    name, start, end, collection, box, targets = record
    return Item(
        id=str(name),
        datetime=parse_time(start),
        end=parse_time(end),
        collection=collection,
        path=Path(path),
        box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        targets=None if targets is None else tuple(map(str, targets)),
        stamp=stamp,
    )
