"""Products on disk: their names, and what is written aside first."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from cupola.lab.chains.products.stac import collection_document
from cupola.lab.collections.scan import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.collections.footprint import Box

__all__ = [
    "KEPT",
    "aside",
    "collection_id",
    "file_stem",
    "is_whole",
    "published",
    "read_product",
    "sweep",
    "write_collection",
    "write_json",
]

KEPT = ".inputs"
"""The folder beside products in which tasks keep the checksums of their inputs for one another."""
_ASIDE = re.compile(r"\.(?P<stem>.+)\.(?P<host>[^.]*)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part\..+")
_FORGOTTEN = 24 * 3600.0
"""Seconds after which a file left aside by another machine is taken for dead."""


def file_stem(text: str) -> str:
    """Return `text` as a safe file name without an ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:150] or "product"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def aside(folder: Path, stem: str, ending: str) -> Path:
    """Return a hidden name in `folder` for a file that is being written; it tells who writes it."""
    return folder / f".{stem}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part{ending}"


def sweep(folder: Path, stem: str) -> None:
    """Remove what killed runs left aside for this product; what a living process writes stays."""
    for path in folder.glob(".*.part.*"):
        match = _ASIDE.fullmatch(path.name)
        if match is None or match["stem"] != stem:
            continue
        with contextlib.suppress(FileNotFoundError):  # its writer may be quicker
            here = match["host"] == _host()
            old = time.time() - path.stat().st_mtime > _FORGOTTEN
            if not _alive(int(match["pid"])) if here else old:
                path.unlink()


def _alive(pid: int) -> bool:
    """Tell whether another process of that id lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document to the disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def published(packed: Path, draft: Path, final: Path) -> None:
    """Give a product's file and item their names, the file first; an older product of that name goes.

    The older item goes before all: whoever is killed in between leaves a file that no item tells of, which the next run
    makes again, and never an item beside another one's pixels.
    """
    item = final.with_suffix(".json")
    with _alone(final):
        item.unlink(missing_ok=True)
        packed.replace(final)
        draft.replace(item)


@contextlib.contextmanager
def _alone(final: Path) -> Iterator[None]:
    """Keep others that write the same product waiting for the moment of the renames, on all machines that can lock."""
    with (final.parent / "collection.json").open("r+b") as file:
        with contextlib.suppress(OSError):  # a file system without locks: two at once are rare
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_product(item: Path) -> dict[str, Any] | None:
    """Return the document of a product's item; nothing if there is none, or another kind of file."""
    try:
        document = json.loads(item.read_bytes())
    except (OSError, ValueError):
        return None
    good = isinstance(document, dict) and isinstance(document.get("properties"), dict)
    return document if good and isinstance(document.get("assets"), dict) else None


def is_whole(path: Path, chain: str, state: str, packing: Packing) -> bool:
    """Tell whether a product is there, as its item says, made by this chain from inputs in this state."""
    document = read_product(path.with_suffix(".json"))
    if document is None:
        return False
    said: Mapping[str, Any] = document["properties"]
    asset = document["assets"].get("data") or {}
    try:
        size = path.stat().st_size
    except OSError:
        return False
    return bool(
        said.get("cupola:chain") == chain
        and said.get("cupola:state") == state
        and said.get("cupola:stored") == packing.to_json()
        and asset.get("file:size") == size
    )


def write_collection(
    folder: Path, *, title: str, chain: Chain, box: Box | None = None, more: Mapping[str, Any] | None = None
) -> None:
    """Make the folder a STAC collection, unless it is one: ``cupola.open(folder)`` and other tools read it.

    It covers `box` (west, south, east, north in degrees), or what the chain's collection covers.
    """
    path = folder / "collection.json"
    if path.exists():
        return
    draft = aside(folder, path.stem, ".json")
    try:
        write_json({**collection_document(folder.name, title, chain, box), **(more or {})}, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def collection_id(folder: Path) -> str:
    """Return the id of the collection in a folder."""
    document = read_document(folder / "collection.json")
    return str(document.get("id") or folder.name) if document else folder.name
