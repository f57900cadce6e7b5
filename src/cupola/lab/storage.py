"""How full the home is, and what a session does about a full one: it starts all the same, so that its owner can delete."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from cupola.models.storage import StorageUsage

__all__ = ["FULL_VARIABLE", "is_full", "leave", "make_room", "storage", "sweep"]

FULL_VARIABLE = "CUPOLA_HOME_FULL"
"""Set in sessions that were started in a full home."""
_PROBE = 64 * 1024
"""Less than this is as good as nothing: a notebook would not fit."""
_PREFIX = "cupola-session-"
_OWNER = "owner"
"""A file in the folder, locked by the process that made it."""
_outside: dict[int, Path] = {}
"""By the process that made it."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def is_full(home: Path) -> bool:
    """Tell whether nothing more can be written to `home`: no room, or no file more."""
    probe = home / f".cupola-probe-{os.getpid()}"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return False
    except OSError:
        return True
    try:
        # Not zeros: a file system that compresses would take them for nothing.
        os.write(handle, os.urandom(_PROBE))
        os.fsync(handle)
    except OSError:
        return True
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            probe.unlink()
    return False


def make_room(home: Path) -> str | None:
    """Put what Jupyter has to write to start, and needs no longer than the session, outside of the home.

    In a full home its settings, data and history are outside too, where they are not there already.

    Returns
    -------
    :
        A sentence for the log where the home is full.
    """
    sweep()
    place = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _outside[os.getpid()] = place
    _hold(place)
    atexit.register(leave)
    # A home may become full while the session runs: kernels must start then too.
    os.environ.setdefault("JUPYTER_RUNTIME_DIR", str(place / "runtime"))
    if not is_full(home):
        return None
    os.environ[FULL_VARIABLE] = "1"
    os.environ["JUPYTERLAB_WORKSPACES_DIR"] = str(place / "workspaces")
    for variable, there in (
        ("JUPYTER_CONFIG_DIR", home / ".jupyter"),
        ("JUPYTER_DATA_DIR", home / ".local" / "share" / "jupyter"),
        ("IPYTHONDIR", home / ".ipython" / "profile_default"),
    ):
        if variable not in os.environ and not there.is_dir():
            folder = place / variable.lower()
            folder.mkdir()
            os.environ[variable] = str(folder)
    return "your home is full: the session has started, but nothing can be saved before you delete something"


def leave() -> None:
    """Remove what :func:`make_room` put outside; a process that the server forked removes nothing."""
    place = _outside.pop(os.getpid(), None)
    if place is not None:
        shutil.rmtree(place, ignore_errors=True)


def _hold(place: Path) -> None:
    """Keep `place` from :func:`sweep` as long as this process lives, or the server that it forked."""
    fresh = place / "new"
    with contextlib.suppress(OSError):
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        # Only now: nobody is to find it free.
        fresh.rename(place / _OWNER)


def sweep() -> None:
    """Remove what sessions of this user that were killed could not remove: it holds cookies' and kernels' keys.

    Kernels that outlive their server keep their own files: see :mod:`cupola.lab.guardian.folder`.
    """
    for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
        try:
            file = os.open(owner, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(file).st_uid != os.geteuid():
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owner.parent, ignore_errors=True)
        except OSError:
            continue  # its session runs
        finally:
            os.close(file)


class Storage(list["StorageUsage"]):
    """What the home and the team volumes hold; shown as a table of text."""

    @override
    def __repr__(self) -> str:
        """Return a line for each."""
        return "\n".join(sentence(usage) for usage in self) or "nothing is known of your storage"


def storage() -> list[StorageUsage]:
    """Return what your home and the volumes of your teams hold, and how much they may hold.

    Returns
    -------
    :
        A list of :class:`~cupola.models.storage.StorageUsage` (sizes in bytes), the home first; it prints as text.

    Raises
    ------
    NotSignedInError
        This is no session of a platform.
    UnavailableError
        The portal does not answer.
    """
    from cupola.client import from_environment

    return Storage(from_environment().storage())


def sentence(usage: StorageUsage) -> str:
    """Return what a person wants to know of one home or team volume."""
    name = "home" if usage.kind == "home" else f"team {usage.name}"
    about = "" if usage.complete else "at least "
    if usage.limit_bytes is None:
        return f"{name}: {about}{size(usage.used_bytes)} used, no limit"
    text = f"{name}: {about}{size(usage.used_bytes)} of {size(usage.limit_bytes)} used"
    if usage.files_limit and usage.files is not None:
        text += f", {usage.files:,} of {usage.files_limit:,} files"
    if usage.fullness == "full":
        return text + "; it is full: delete something before you save"
    return text + ("; it is nearly full" if usage.fullness == "nearly" else "")


def size(number: float) -> str:
    """Return a size as text, such as ``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if number < 1024:  # noqa: PLR2004 - what a KiB is
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"
