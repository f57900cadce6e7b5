"""What was found out about volumes, kept on disk: nobody looks through a large archive again after a restart."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from cupola.models.base import Model, Time
from cupola.models.volume import CollectionSummary

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VolumeNote", "VolumeNotes"]


class VolumeNote(Model):
    """What is known of one volume."""

    source: str
    """Where it lay then: what was found in another place says nothing."""
    looked: Time | None = None
    """When its collections were looked for."""
    collections: list[CollectionSummary] = Field(default_factory=list)
    measured: Time | None = None
    """When its size was counted."""
    size_bytes: int | None = None
    size_exact: bool = True


class VolumeNotes:
    """Keeps a note per volume in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, VolumeNote] = {}

    def get(self, name: str, source: str) -> VolumeNote:
        """Return what is known of the volume `name`, which lies at `source`."""
        note = self._known.get(name)
        if note is None:
            with contextlib.suppress(OSError, ValidationError):
                note = VolumeNote.model_validate_json((self._folder / f"{name}.json").read_bytes())
        if note is None or note.source != source:
            note = VolumeNote(source=source)
        self._known[name] = note
        return note

    def put(self, name: str, note: VolumeNote) -> None:
        """Remember a note. On a full disk it is remembered until the portal ends."""
        self._known[name] = note
        aside = self._folder / f".{name}.{secrets.token_hex(6)}"
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(note.model_dump_json())
                aside.replace(self._folder / f"{name}.json")
            finally:
                aside.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Forget a volume."""
        self._known.pop(name, None)
        with contextlib.suppress(OSError):
            (self._folder / f"{name}.json").unlink()
