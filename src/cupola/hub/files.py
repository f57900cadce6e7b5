"""Small files that are either there as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_private", "read_json", "write_private"]


def make_private(folder: Path) -> None:
    """Make `folder` and what is above it; only this account may look into it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, content: str) -> None:
    """Write a file that only this account may read: a reader sees the old or the new content, never a part.

    Raises
    ------
    OSError
        The disk is full or the folder is not there; the old content is kept.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
