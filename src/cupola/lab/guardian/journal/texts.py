"""The full text of an execution of which a notebook holds a part only."""

from __future__ import annotations

import contextlib
import hashlib
import html
import json
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["MOST", "FullText", "pointer", "text_file"]

MOST = 1 << 30
"""Bytes of the longest text that is kept."""
_LONGER = b"\n[The text is longer than this; the rest was not kept.]\n"
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")


def text_file(folder: KernelFolder, name: str) -> Path:
    """Return where the full text of an execution is, or would be."""
    if not _NAME.fullmatch(name):
        name = hashlib.sha256(name.encode()).hexdigest()
    return folder.texts / f"{name}.txt"


class FullText:
    """A file to which text is added, each piece once, whatever happens between.

    Parameters
    ----------
    path
        Its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".json")
        self._done, self._size = self._read_mark()

    @property
    def done(self) -> int:
        """The number of the last record of the journal that is in it."""
        return self._done

    def _read_mark(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            mark = json.loads(self._mark.read_text(encoding="utf-8"))
            return int(mark["n"]), int(mark["bytes"])
        return -1, 0

    def add(self, text: str, number: int) -> None:
        """Add text.

        Parameters
        ----------
        text
            What is new.
        number
            Of the last record of the journal that is in it; what was added with it or a later one before is not added again.

        Raises
        ------
        OSError
            The disk is full, say.
        """
        if number <= self._done or not text or self._size >= MOST:
            return
        data = text.encode(errors="replace")
        if self._size + len(data) > MOST:
            data = data[: MOST - self._size] + _LONGER
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # What was written after the last mark is written again.
            os.ftruncate(file, self._size)
            os.lseek(file, self._size, os.SEEK_SET)
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
        finally:
            os.close(file)
        self._done, self._size = number, self._size + len(data)
        part = self._mark.with_suffix(".part")
        part.write_text(json.dumps({"n": number, "bytes": self._size}), encoding="utf-8")
        part.replace(self._mark)


def pointer(place: str, address: str, lines: int, characters: int, problem: str) -> dict[str, Any]:
    """Return the output that stands where something was left out.

    Parameters
    ----------
    place
        Of the full text.
    address
        Where a browser finds it; empty if nowhere.
    lines, characters
        That were left out.
    problem
        Why there is no full text, empty if there is.
    """
    size = f"{characters / 1e6:.1f} MB" if characters >= 100_000 else f"{characters:,} characters"  # noqa: PLR2004
    said = f"{lines:,} lines ({size}) are left out here, to keep the notebook small."
    if problem:
        full = rich = f"The full text could not be kept: {problem}."
    else:
        full = f"The full text is in {place}"
        rich = f"The full text is in <code>{html.escape(place)}</code>."
        if address:
            rich = f'{rich} <a href="{html.escape(address)}" target="_blank">Open it</a>'
    shown = f'<div class="cupola-left-out"><em>{said}</em> {rich}</div>'
    return {
        "output_type": "display_data",
        "data": {"text/plain": f"[{said} {full}]", "text/html": shown},
        "metadata": {},
    }
