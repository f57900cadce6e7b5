"""What nobody needs any more among the indexes of collections: drafts of killed processes, folders that are gone.

An index is a cache, but one that may have cost an hour. So it goes only when its folder is not there and it was not used for
a while: for days where the folder was deleted from a place that is at hand (a volume of this session, the home), for months
where its place is not at hand either, as that of a volume which is not mounted today.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from cupola.exceptions import CupolaError
from cupola.lab.collections.volumes import mounts

__all__ = ["DRAFT", "sweep", "sweep_drafts", "used"]

DRAFT = ".cupola-index-"
"""How files begin that are being written."""
_WRITTEN_S = 3600.0
"""Nobody writes an index for so long."""
_DAY_S = 86_400.0
_DELETED_S = 7 * _DAY_S
_AWAY_S = 180 * _DAY_S
_EVERY_S = _DAY_S
_MARK = "swept"


def used(path: Path) -> None:
    """Note that an index is in use."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _DAY_S:
            os.utime(path)


def sweep_drafts(folder: Path) -> None:
    """Remove what processes that were killed left half-written."""
    for path in folder.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if _age(path) > _WRITTEN_S:
                path.unlink()


def sweep(folder: Path) -> None:
    """Remove drafts, and once a day the indexes of folders that are gone, from the folder of all indexes."""
    sweep_drafts(folder)
    mark = folder / _MARK
    with contextlib.suppress(OSError):
        if mark.exists() and _age(mark) < _EVERY_S:
            return
        mark.touch()
        at_hand = _places_at_hand()
        for path in folder.glob("*.parquet"):
            with contextlib.suppress(OSError):
                age = _age(path)
                if not path.name.startswith(DRAFT) and age > _DELETED_S and age > _kept_for(path, at_hand):
                    for one in (path, path.with_suffix(".json"), path.with_suffix(".lock")):
                        one.unlink(missing_ok=True)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _places_at_hand() -> list[Path]:
    """Return the volumes of this session that hold something: what is not there below them was deleted."""
    places: list[Path] = []
    with contextlib.suppress(CupolaError):
        places = [place for mount in mounts() for place in (mount.source, mount.target)]
    return [place for place in places if _holds_something(place)]


def _holds_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _kept_for(path: Path, at_hand: list[Path]) -> float:
    """Return for how many seconds an index is kept that nobody uses."""
    source = _source(path)
    if source is None or "://" in source:
        return _AWAY_S
    folder = Path(source)
    if folder.exists():
        return float("inf")
    return _DELETED_S if _was_deleted(folder, at_hand) else _AWAY_S


def _was_deleted(folder: Path, at_hand: list[Path]) -> bool:
    """Tell whether a folder that is not there was deleted, as far as one can know."""
    way = [folder, *folder.parents]
    if any(place in way for place in at_hand):
        return True
    home = Path.home()
    # Volumes are links in the home, and go with the volume; so may links that somebody made.
    links = home / "volumes" in way or any(home in one.parents and one.is_symlink() for one in way)
    return home in way and not links


def _source(path: Path) -> str | None:
    """Return the folder or address that an index is of; nothing where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cupola.lab.collections.index import source_of

    try:
        return source_of(pq.ParquetFile(path)) or None
    except (OSError, ValueError, pa.ArrowException):
        return None
