"""Pictures that were slow to make, kept in the owner's home: opening a notebook again the next day shows its map at once.

Only what took long and has an address that names the state of the files is kept. It is a cache: bounded, what was not used
for longest goes first, and a disk that is full, slow or gone is no reason to fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Disk"]

SLOW_SECONDS = 0.1
"""Pictures that took less are as quickly made as read from a home across the network."""
MIB = 256
LARGEST = 16 * 1024 * 1024
LEFT_SECONDS = 3600.0
"""A draft that is older was left behind by somebody who was killed."""


class Disk:
    """Pictures in files, by what they depend on.

    Parameters
    ----------
    most
        Bytes; what ``CUPOLA_TILE_DISK_MIB`` says where nothing is said.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = _most() if most is None else most
        self._written = 0
        self._pruned = False

    @staticmethod
    def folder() -> Path:
        """Return where pictures are kept."""
        runtime = os.environ.get("CUPOLA_RUNTIME")
        return (Path(runtime) if runtime else Path.home() / ".cupola") / "pictures"

    def keeps(self, revision: str) -> bool:
        """Whether pictures of this revision are worth keeping: one that means "now" means something else later."""
        return self._most > 0 and not revision.startswith("~")

    async def get(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        """Return a picture and what is told of it, if it is here; in a thread, as a home may be slow."""
        return await asyncio.to_thread(self._read, key)

    async def put(self, key: str, body: bytes, told: dict[str, Any]) -> None:
        """Keep a picture."""
        if len(body) <= min(LARGEST, self._most):
            await asyncio.to_thread(self._write, key, body, told)

    def _path(self, key: str) -> Path:
        return self.folder() / hashlib.sha256(f"{_version()}\n{key}".encode()).hexdigest()

    def _read(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        path = self._path(key)
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            about = json.loads(head)
            # Whole, and of this key: a file that was cut off or swapped is none of ours.
            if about["key"] != key or about["sha256"] != hashlib.sha256(body).hexdigest():
                return None
            told: dict[str, Any] = about["told"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return body, told

    def _write(self, key: str, body: bytes, told: dict[str, Any]) -> None:
        head = json.dumps({"key": key, "told": told, "sha256": hashlib.sha256(body).hexdigest()})
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(head.encode() + b"\n" + body)
                Path(draft).replace(path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
            self._written += len(body)
        # Listing a folder takes a while: only now and then.
        if not self._pruned or self._written > self._most // 16:
            self._written, self._pruned = 0, True
            self._prune()

    def _prune(self) -> None:
        with contextlib.suppress(OSError):
            files = []
            for path in self.folder().iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
            total = sum(size for _, size, _ in files)
            for changed, size, path in sorted(files):
                left = path.name.startswith(".") and changed < time.time() - LEFT_SECONDS
                if total <= self._most and not left:
                    continue
                path.unlink(missing_ok=True)
                total -= size


@lru_cache(maxsize=1)
def _version() -> str:
    """Return the version of Cupola: another one may draw otherwise."""
    try:
        return importlib.metadata.version("cupola")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _most() -> int:
    with contextlib.suppress(ValueError):
        return max(int(os.environ.get("CUPOLA_TILE_DISK_MIB") or MIB), 0) * 1024 * 1024
    return MIB * 1024 * 1024
