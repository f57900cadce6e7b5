"""How a product was made: what made it, from which files, with which code."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.collections.images import fingerprint, local_path, open_image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.items import Item

__all__ = ["Checksum", "checksum", "describe_function", "describe_inputs", "software", "state_of"]

_READ = 1 << 20
_SHA256 = "1220"
"""Multihash: SHA-256, 32 bytes."""

Checksum = tuple[int, str]
"""Size in bytes, and SHA-256 as a multihash in hexadecimal digits."""

_known: dict[tuple[str, int, int], Checksum] = {}


def checksum(path: str) -> Checksum:
    """Return size and checksum of a file, from memory while it does not change."""
    key = fingerprint(path)
    if key not in _known:
        digest = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as file:
            while piece := file.read(_READ):
                digest.update(piece)
        _known[key] = key[2], _SHA256 + digest.hexdigest()
    return _known[key]


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


def describe_inputs(item: Item, files: list[str]) -> dict[str, Any]:
    """Return an input item and the checksums of its files, the data files of labels included."""
    parts: list[str] = []
    for path in files:
        if local_path(path) is None:
            parts.append(path)
            continue
        with open_image(path) as dataset:
            parts.extend(dataset.files or [path])
    described: list[dict[str, Any]] = []
    for path in dict.fromkeys(parts):
        entry: dict[str, Any] = {"href": path}
        if local_path(path) is not None and Path(path).is_file():
            entry["file:size"], entry["file:checksum"] = checksum(path)
        described.append(entry)
    return {"item": item.id, "collection": item.collection, "files": described}


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
