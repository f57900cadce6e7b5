"""A notebook's file, read and written as a whole, and never over what somebody else has written meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ChangedError", "Filed", "as_notebook", "may_write", "read", "write"]

_nbformat: Any = nbformat  # has no types


class ChangedError(Exception):
    """Somebody else has written the file."""


@dataclass(frozen=True)
class Filed:
    """A notebook as it was read.

    Parameters
    ----------
    path
        Of the file.
    info
        Its state.
    hash
        Of its bytes.
    notebook
        What they say.
    """

    path: Path
    info: os.stat_result
    hash: str
    notebook: Any


def may_write(path: Path, root: Path) -> bool:
    """Return whether a file is one that we may keep up to date by ourselves.

    Parameters
    ----------
    path
        Its place, as the server names it.
    root
        The folder that the server serves.
    """
    try:
        info = path.lstat()
        # What a link points to may be somebody else's, or outside of the home.
        inside = path.resolve() == root.resolve() / path.relative_to(root)
    except (OSError, ValueError):
        return False
    return (
        stat.S_ISREG(info.st_mode) and inside and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    )


def read(path: Path, algorithm: str = "sha256") -> Filed | None:
    """Read a notebook; return nothing where it is none whose cells can be told from one another.

    Parameters
    ----------
    path
        Of the file.
    algorithm
        Of the hash, as the server's pages know it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        data = file.read()
    try:
        notebook: Any = _nbformat.reads(data.decode(), as_version=nbformat.NO_CONVERT)
    except Exception:  # noqa: BLE001 - nbformat's errors are of many kinds, and each means that it is no notebook
        return None
    if notebook.get("nbformat") != 4 or notebook.get("nbformat_minor", 0) < 5:  # noqa: PLR2004 - ids came with 4.5
        return None
    return Filed(path, info, hashlib.new(algorithm, data).hexdigest(), notebook)


def as_notebook(content: Any) -> Any:
    """Return a notebook of which some parts are plain dictionaries as nbformat wants it."""
    return _nbformat.from_dict(content)


def write(filed: Filed, algorithm: str, before: Callable[[str, os.stat_result], None]) -> None:
    """Write a notebook that was read and changed: all of it or nothing.

    Parameters
    ----------
    filed
        What was read; its notebook is what is written.
    algorithm
        Of the hash.
    before
        Called with the new hash and state just before the file is there.

    Raises
    ------
    ChangedError
        If somebody else has written it since.
    OSError
        If it cannot be written; then it is as it was.
    """
    text: str = _nbformat.writes(filed.notebook, version=nbformat.NO_CONVERT)
    data = (text if text.endswith("\n") else text + "\n").encode()
    # Under the same name each time: one that a crash leaves is not there for ever.
    part = filed.path.with_name(f".~cupola-{filed.path.name}")
    try:
        info = _write_aside(part, data, filed.info)
        _check(filed, algorithm)
        before(hashlib.new(algorithm, data).hexdigest(), info)
        part.replace(filed.path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_aside(part: Path, data: bytes, like: os.stat_result) -> os.stat_result:
    part.unlink(missing_ok=True)
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(OSError):
            os.fchown(number, like.st_uid, like.st_gid)
        os.fchmod(number, stat.S_IMODE(like.st_mode))
        os.fsync(number)
        return os.fstat(number)


def _check(filed: Filed, algorithm: str) -> None:
    with filed.path.open("rb") as now:
        if filed.path.is_symlink() or hashlib.file_digest(now, algorithm).hexdigest() != filed.hash:
            raise ChangedError(f"somebody else has written {filed.path.name} meanwhile")
