"""Which files only we have changed: pages are told the hash and the time of before, so that they find no conflict."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from pathlib import Path

__all__ = ["Change", "Lineage"]

MOST = 1000
"""Files of which it is known; of others a page says that they have changed."""


@dataclass(frozen=True)
class Change:
    """What we made of a file.

    Parameters
    ----------
    told_hash, told_time
        Of the file as somebody else has made it last.
    hash
        Of the file as we have made it.
    mark
        Tells the file from one that somebody else has written since.
    """

    told_hash: str
    told_time: float
    hash: str
    mark: tuple[int, ...] = ()


def mark_of(info: os.stat_result) -> tuple[int, ...]:
    """Return what tells a file from another state of it."""
    return (info.st_mtime_ns, info.st_size, info.st_ino)


class Lineage:
    """The files that we have changed, kept over restarts.

    Parameters
    ----------
    place
        The file that it is kept in.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._changes: dict[str, Change] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            for path, fields in json.loads(place.read_text(encoding="utf-8")).items():
                self._changes[path] = Change(**{**fields, "mark": tuple(fields["mark"])})

    def of(self, path: str, info: os.stat_result | None = None, content_hash: str = "") -> Change | None:
        """Return our change of a file, if it is the last one.

        Parameters
        ----------
        path
            Of the file.
        info, content_hash
            Its state now; one of them is enough.
        """
        change = self._changes.get(path)
        if change is None:
            return None
        ours = (content_hash and content_hash == change.hash) or (info and mark_of(info) == change.mark)
        return change if ours else None

    def note(self, path: str, change: Change) -> None:
        """Keep our change of a file.

        Raises
        ------
        OSError
            If it cannot be written; the file must not be changed then.
        """
        self._changes.pop(path, None)
        self._changes[path] = change
        while len(self._changes) > MOST:
            del self._changes[next(iter(self._changes))]
        self._write()

    def forget(self, path: str) -> None:
        """Forget a file, and all in it if it is a folder."""
        gone = [one for one in self._changes if one == path or one.startswith(f"{path}/")]
        for one in gone:
            del self._changes[one]
        if gone:
            with contextlib.suppress(OSError):
                self._write()

    def rename(self, before: str, after: str) -> None:
        """Note that a file, or a folder, has another name."""
        self._changes = {
            after + path[len(before) :] if path == before or path.startswith(f"{before}/") else path: change
            for path, change in self._changes.items()
        }
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._place.with_suffix(".part")
        part.write_text(
            json.dumps({path: asdict(change) for path, change in self._changes.items()}), encoding="utf-8"
        )
        part.replace(self._place)
