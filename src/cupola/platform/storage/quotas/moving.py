"""An existing folder moves under a quota: copied aside, then exchanged in one step, so that a kill loses nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

from cupola.exceptions import ConflictError
from cupola.platform.storage.quotas.base import QuotaError, run

__all__ = ["aside_of", "copy_into", "delete", "exchange", "in_use", "refuse_in_use"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def aside_of(folder: Path, what: str) -> Path:
    """Return a place beside `folder` that no home or team can have the name of."""
    return folder.with_name(f".{folder.name}.{what}")


def exchange(first: Path, second: Path) -> None:
    """Exchange two folders of one file system in one step.

    Raises
    ------
    QuotaError
        The file system cannot.
    """
    done = _libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done != 0:
        error = os.strerror(ctypes.get_errno())
        raise QuotaError(f"{first} cannot take the place of {second}: {error}")


def copy_into(folder: Path, target: Path) -> None:
    """Copy all that lies in `folder` into the folder `target`, with owners, times, links and attributes.

    Raises
    ------
    QuotaError
        It cannot be copied: the disk is full, most of the time.
    """
    # Links of the user are copied, never followed; nothing runs in the folder while it is copied (refuse_in_use).
    run("cp", "-a", "--reflink=auto", "-T", str(folder), str(target), what=f"{folder} cannot be copied")
    with contextlib.suppress(OSError):
        handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def delete(folder: Path) -> None:
    """Delete a plain folder; links of the user in it are removed, not followed.

    Raises
    ------
    QuotaError
        It cannot be deleted.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise QuotaError(f"{exc.filename or folder} cannot be deleted: {exc.strerror or exc}") from exc


def in_use(folder: Path) -> int | None:
    """Return the pid of a process that works in `folder` or has it mounted; nothing where there is none."""
    prefix, device = str(folder), os.stat(folder).st_dev  # noqa: PTH116 - beside the comparison of text
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _uses(entry, prefix, device):
            return int(entry.name)
    return None


def _uses(process: Path, prefix: str, device: int) -> bool:
    links = [process / "cwd", process / "root"]
    with contextlib.suppress(OSError):
        links += list((process / "fd").iterdir())
    for link in links:
        with contextlib.suppress(OSError):
            if _below(str(link.readlink()), prefix):
                return True
    # A container has it mounted under another name: the fourth field is the path within its file system.
    with contextlib.suppress(OSError):
        for line in (process / "mountinfo").read_text(errors="replace").splitlines():
            fields = line.split()
            major, _, minor = fields[2].partition(":")
            same = os.makedev(int(major), int(minor)) == device
            if same and fields[3] != "/" and prefix.endswith(fields[3]) and fields[4] != prefix:
                return True
    return False


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def refuse_in_use(folder: Path, what: str) -> None:
    """Raise if a process uses `folder`.

    Raises
    ------
    ConflictError
        One does.
    """
    pid = in_use(folder)
    if pid is not None:
        raise ConflictError(
            f"{folder.name} {what} only while nothing runs there, and process {pid} does: stop the sessions and jobs "
            "that use it, then try again."
        )
