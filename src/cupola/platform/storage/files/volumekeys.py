"""The keys of people's buckets: files for the platform's account only, which nothing ever shows again."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["VolumeKeys"]

_ORPHAN_S = 3600.0


class VolumeKeys:
    """Keeps keys below `folder`, in the form of AWS's credentials file, which rclone reads by itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        """Return where the keys of that name lie, if there are any."""
        return self._folder / f"{name}.ini"

    def write(self, name: str, key_id: str, key_secret: str) -> None:
        """Keep keys; a reader sees the old or the new ones.

        Raises
        ------
        OSError
            The disk is full; the old ones are kept.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self._folder / f".{name}.{secrets.token_hex(6)}"
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"[default]\naws_access_key_id={key_id}\naws_secret_access_key={key_secret}\n")
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.file(name))
        finally:
            aside.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Forget keys."""
        with contextlib.suppress(OSError):
            self.file(name).unlink()

    def remove_all_but(self, names: Collection[str]) -> None:
        """Forget keys that belong to nothing: we were killed between writing them down and adding their volume."""
        kept = {self.file(name).name for name in names}
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if file.name not in kept and time.time() - file.stat().st_mtime > _ORPHAN_S:
                    file.unlink()
