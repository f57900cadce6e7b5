"""Which version of a datalab an operator recommends: one line in a file beside the versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["recommended", "set_recommended"]

NAME = "recommended"


def recommended(folder: Path) -> str | None:
    """Return the digest that is marked in the folder of a datalab's versions."""
    try:
        return (folder / NAME).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def set_recommended(folder: Path, digest: str | None) -> None:
    """Mark a digest, or nothing again.

    Raises
    ------
    OSError
        It cannot be written.
    """
    if digest is None:
        (folder / NAME).unlink(missing_ok=True)
        return
    aside = folder / f".{NAME}.{os.getpid()}"
    aside.write_text(digest + "\n", encoding="utf-8")
    aside.replace(folder / NAME)
