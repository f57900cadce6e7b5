"""Products on disk: their names, and what is written aside first."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from cupola.lab.chains.stac import collection_document
from cupola.lab.collections.scan import read_document

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.lab.chains.chain import Chain

__all__ = ["aside", "collection_id", "file_stem", "sweep", "write_collection", "write_json"]

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


def write_collection(folder: Path, *, title: str, chain: Chain) -> None:
    """Make the folder a STAC collection, unless it is one: ``cupola.open(folder)`` and other tools read it."""
    path = folder / "collection.json"
    if path.exists():
        return
    draft = aside(folder, path.stem, ".json")
    try:
        write_json(collection_document(folder.name, title, chain), draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def collection_id(folder: Path) -> str:
    """Return the id of the collection in a folder."""
    document = read_document(folder / "collection.json")
    return str(document.get("id") or folder.name) if document else folder.name
