"""Making the archive as a whole: aside and locked, then renamed, so that what is there is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, LimitError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MARKER", "VERSION", "Progress", "is_older", "make"]

VERSION = 2
"""Counts up when the content changes: archives of the same version are the same."""

MARKER = ".cupola-sample-archive.json"
"""The file in an archive that says which one it is; it is written last."""

Progress = Callable[[str, float], None]
"""Is told what was just done, and which share of the work (0 to 1) is done."""

_ROOM_MIB = {False: 160, True: 24}
"""What must be free to begin with, for the full and for the small archive."""


def make(folder: Path, *, small: bool = False, force: bool = False, progress: Progress | None = None) -> Path:
    """Write the sample archive; it takes about 20 seconds and 70 MB.

    The same version of Cupola and of its libraries gives the same bytes. The archive appears under its name only
    when it is complete, so a run that is interrupted leaves nothing half; whoever asks while another process is
    making the same archive waits for it.

    Parameters
    ----------
    folder
        Where it shall be. Its parent is made when missing.
    small
        Make small images, for tests: two seconds and a few MB.
    force
        Make it anew where a sample archive is there already. No other folder is ever replaced.
    progress
        Is told what was just done.

    Returns
    -------
    folder
        Absolute.

    Raises
    ------
    ConflictError
        When the folder is there and is no complete sample archive of this version and size, or is none at all.
    LimitError
        When there is not enough room on the disk.
    UnavailableError
        When the archive cannot be written there.
    """
    target = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - a link to a data disk stays a link
    tell = _silent if progress is None else progress
    if not force and _is_made(target, small=small):
        return target
    _check_replaceable(target, small=small, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _workshop(target, tell) as aside:
            # Whoever held the workshop before us may just have finished.
            if force or not _is_made(target, small=small):
                _check_replaceable(target, small=small, force=force)
                _check_room(target.parent, small=small)
                _fill(aside, small=small, tell=tell)
                _put_in_place(aside, target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LimitError(f"The disk is full: make room in {target.parent} and start again.") from error
        raise UnavailableError(
            f"The sample archive cannot be written to {target}: {error.strerror or error}; choose a folder you may write to."
        ) from error
    return target


def is_older(folder: Path) -> bool:
    """Tell whether a folder is a sample archive that an earlier version of Cupola made."""
    version = (_read_marker(folder) or {}).get("version")
    return isinstance(version, int) and version < VERSION


def _silent(_what: str, _share: float) -> None:
    """Tell nobody."""


def _marker(small: bool) -> dict[str, object]:
    return {"archive": "cupola-sample-archive", "version": VERSION, "small": small}


def _read_marker(folder: Path) -> dict[str, object] | None:
    """Return what a folder says about itself; nothing if it is no sample archive."""
    try:
        said = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and said.get("archive") == "cupola-sample-archive" else None


def _is_made(folder: Path, *, small: bool) -> bool:
    return _read_marker(folder) == _marker(small)


def _check_replaceable(target: Path, *, small: bool, force: bool) -> None:
    """Refuse where something lies that must not be replaced."""
    if not target.exists() and not target.is_symlink():
        return
    said = _read_marker(target)
    if said is None:
        if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
            return
        raise ConflictError(f"{target} is there already and is no sample archive: choose another folder.")
    if not force:
        kind = "a small" if said.get("small") else "a full"
        wanted = "a small" if small else "a full"
        raise ConflictError(
            f"{target} holds {kind} sample archive of version {said.get('version')}, and this would be {wanted} one of "
            f"version {VERSION}: use --force to make it anew, or choose another folder."
        )


def _check_room(parent: Path, *, small: bool) -> None:
    free = shutil.disk_usage(parent).free // 2**20
    if free < _ROOM_MIB[small]:
        raise LimitError(
            f"The sample archive needs {_ROOM_MIB[small]} MiB, and {parent} has {free} MiB left: make room or choose another disk."
        )


@contextlib.contextmanager
def _workshop(target: Path, tell: Progress) -> Iterator[Path]:
    """Hold the folder beside `target` in which it is made, empty; one process at a time.

    The lock is on the folder itself and ends with its holder: after a kill the next one takes over and clears up.
    """
    aside = target.with_name(f".{target.name}.part")
    while True:
        aside.mkdir(exist_ok=True)
        handle = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock(handle, target, tell)
            # It may have been renamed or removed while we waited: then it is not the workshop any more.
            if _same(handle, aside):
                _clear(aside)
                yield aside
                return
        finally:
            if _same(handle, aside):
                shutil.rmtree(aside, ignore_errors=True)
            os.close(handle)


def _lock(handle: int, target: Path, tell: Progress) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell(f"waiting for another process that makes {target.name}", 0.0)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    """Remove what a killed run left."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _fill(folder: Path, *, small: bool, tell: Progress) -> None:
    """Write the whole archive into an empty folder, the marker last."""
    from cupola.lab.samples.contents import steps

    for what, share in steps(folder, small=small):
        tell(what, share)
    (folder / MARKER).write_text(json.dumps(_marker(small)) + "\n", encoding="utf-8")
    # The rename must not reach the disk before the content.
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put_in_place(aside: Path, target: Path) -> None:
    """Give the complete archive its name; an older one goes only then."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
