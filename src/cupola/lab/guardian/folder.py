"""What lies where in the folder of a kernel, and whether that kernel still lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KernelFolder", "hold_session", "kernel_folders", "kernels_folder", "living", "sessions_database"]

_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,127}")
WAIT_SECONDS = 8.0
"""For the end of a server of the same session that is about to end."""
_held: dict[Path, int] = {}


def _runtime() -> Path:
    return Path(os.environ.get("CUPOLA_RUNTIME") or Path.home() / ".cupola")


def kernels_folder() -> Path:
    """Return the folder with a folder for each kernel of this home."""
    return _runtime() / "kernels"


def sessions_database() -> Path:
    """Return where it is written down which notebook of this session has which kernel."""
    return _runtime() / "sessions" / f"{os.environ.get('CUPOLA_SESSION') or 'session'}.db"


@dataclass(frozen=True)
class KernelFolder:
    """The folder of one kernel; it outlives the kernel, its server and its container.

    Parameters
    ----------
    path
        Its place; its name is the kernel's id.
    """

    path: Path

    @classmethod
    def of(cls, kernel_id: str) -> KernelFolder:
        """Return the folder of a kernel of this session.

        Raises
        ------
        ValueError
            If `kernel_id` is no name of a folder.
        """
        if not _ID.fullmatch(kernel_id):
            raise ValueError(f"{kernel_id!r} cannot be the id of a kernel")
        return cls(kernels_folder() / kernel_id)

    @property
    def kernel_id(self) -> str:
        """The kernel's id."""
        return self.path.name

    @property
    def record_file(self) -> Path:
        """Who guards which kernel, written by the guardian."""
        return self.path / "kernel.json"

    @property
    def lock(self) -> Path:
        """Held by the guardian as long as it lives."""
        return self.path / "lock"

    @property
    def connection(self) -> Path:
        """The kernel's connection file."""
        return self.path / "connection.json"

    @property
    def journal(self) -> Path:
        """The folder of the journal's segments."""
        return self.path / "journal"

    @property
    def requests(self) -> Path:
        """What pages asked of the kernel, written by the server."""
        return self.path / "requests.jsonl"

    @property
    def variables(self) -> Path:
        """The folder of the newest snapshot."""
        return self.path / "variables"

    @property
    def texts(self) -> Path:
        """The folder of full outputs that were cut in the notebook."""
        return self.path / "log"

    @property
    def alive(self) -> bool:
        """Whether the guardian, and with it the kernel, still runs, in whatever container."""
        try:
            file = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared: two who ask at the same time must not take each other for the guardian.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # also a file system without locks: better to believe than to take it for dead
            return True
        finally:
            os.close(file)
        return False

    @property
    def guardian(self) -> int | None:
        """The guardian's pid; nothing where it has ended, or runs in another container."""
        if not self.alive:
            return None
        try:
            pid = int(self.record()["guardian"])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, KeyError, TypeError, ValueError):
            return None
        # The same number may be another's here.
        return pid if os.fsencode(self.path) in arguments else None

    def record(self) -> dict[str, Any]:
        """Return what the guardian wrote of itself and its kernel; empty where there is nothing to be read."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.record_file.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}


def living(session: str) -> Iterator[KernelFolder]:
    """Yield the folders of the kernels of a session that run here.

    Parameters
    ----------
    session
        Its id; other sessions may have the same home.
    """
    for folder in kernel_folders():
        if str(folder.record().get("session") or "") == session and folder.guardian is not None:
            yield folder


def hold_session() -> bool:
    """Become the one server of this session that takes up its kernels; say whether this is it.

    It stays so as long as this process lives, or one that it forked.
    """
    place = sessions_database().with_suffix(".lock")
    if place in _held:
        return True
    until = time.monotonic() + WAIT_SECONDS
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return True  # a full home: there is nobody to be told apart from
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(file)
                return False
            time.sleep(0.1)
            continue
        except OSError:
            pass  # a file system without locks
        _held[place] = file
        return True


def kernel_folders() -> Iterator[KernelFolder]:
    """Yield the folders of all kernels of this home, dead ones too."""
    with contextlib.suppress(OSError):
        for place in sorted(kernels_folder().iterdir()):
            if place.is_dir() and _ID.fullmatch(place.name):
                yield KernelFolder(place)
