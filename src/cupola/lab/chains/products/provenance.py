"""How a product was made: what made it, from which files, with which code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import uuid
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.collections.images import fingerprint, local_path, open_image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.items import Item

__all__ = [
    "Checksum",
    "checksum",
    "describe_function",
    "describe_inputs",
    "software",
    "state_of",
    "tree_checksum",
]

_SHA256 = "1220"
"""Multihash: SHA-256, 32 bytes."""

Checksum = tuple[int, str]
"""Size in bytes, and SHA-256 as a multihash in hexadecimal digits."""

_known: dict[tuple[str, int, int], Checksum] = {}


def checksum(path: str, kept: Path | None = None) -> Checksum:
    """Return size and checksum of a file, from memory while it does not change.

    Parameters
    ----------
    path
        Of the file.
    kept
        A folder in which checksums are kept for other tasks that read the same file.
    """
    key = fingerprint(path)
    if key not in _known:
        note = None if kept is None else kept / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.txt"
        known = _noted(note)
        _known[key] = key[2], known or _SHA256 + _digest(path)
        if note is not None and known is None:
            _note(note, _known[key][1])
    return _known[key]


def _digest(path: str) -> str:
    with Path(path).open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _noted(note: Path | None) -> str | None:
    """Return the checksum in a file; nothing if there is none, or it was not written to its end."""
    if note is None:
        return None
    try:
        text = note.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch(rf"{_SHA256}[0-9a-f]{{64}}", text) else None


def _note(note: Path, text: str) -> None:
    """Keep a checksum for others; where that cannot be they compute it again."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(exist_ok=True)
        draft = note.with_name(f"{note.stem}.{uuid.uuid4().hex[:8]}.part")
        draft.write_text(text, encoding="ascii")
        draft.replace(note)


def state_of(parts: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Return a hash of items and of the time of change and size of their files, to tell whether anything changed.

    Parameters
    ----------
    parts
        Ids of items, each with the paths of its files.
    """
    digest = hashlib.sha256()
    for name, files in parts:
        digest.update(f"{name}\0".encode())
        for path in files:
            stamp = fingerprint(path) if local_path(path) is not None else (path, 0, 0)
            digest.update(repr(stamp).encode())
    return digest.hexdigest()


def software() -> dict[str, str]:
    """Return names and versions of what computes."""
    import rasterio

    versions = {"python": platform.python_version(), "gdal": rasterio.__gdal_version__}
    for name in ("cupola", "numpy", "rasterio", "scipy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(versions.items()))


def describe_inputs(item: Item, files: list[str], kept: Path | None = None) -> dict[str, Any]:
    """Return an input item and the checksums of its files, the data files of labels included.

    Parameters
    ----------
    item
        The item.
    files
        Those of its files that are read.
    kept
        As for `checksum`.
    """
    described = {}
    for path in dict.fromkeys(part for file in files for part in _files_of(file)):
        entry: dict[str, Any] = {"href": path}
        place = Path(path)
        if local_path(path) is not None and place.is_file():
            entry["file:size"], entry["file:checksum"] = checksum(path, kept)
        elif place.is_dir():
            entry["cupola:tree"] = tree_checksum(place)
        described[path] = entry
    return {"item": item.id, "collection": item.collection, "files": list(described.values())}


def _files_of(path: str) -> list[str]:
    """Return the files that an image is read from: the data file of a label, the file that a part lies in."""
    place = local_path(path)
    if place is None:
        return [path]
    if place != path:
        return [place]
    with contextlib.closing(open_image(path)) as dataset:
        return [str(part) for part in getattr(dataset, "files", None) or [path]]


def tree_checksum(folder: Path) -> str:
    """Return a hash of the names and contents of all files below a folder, as a Zarr store is one."""
    digest = hashlib.sha256()
    for path in sorted(part for part in folder.rglob("*") if part.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{checksum(str(path))[1]}\0".encode())
    return digest.hexdigest()


def describe_function(chain: Chain) -> list[dict[str, str]]:
    """Return text and hash of the person's own functions in a chain."""
    return [
        {
            "name": function.name,
            "source": function.source,
            "sha256": function.sha256,
            "python": function.python,
        }
        for function in chain.functions
    ]


def datalab_version() -> str | None:
    """Return the digest of the datalab version that runs this; nothing outside of a session or task."""
    return os.environ.get("CUPOLA_VERSION") or None
