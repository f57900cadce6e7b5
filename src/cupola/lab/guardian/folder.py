"""What lies where in the folder of a kernel, and whether that kernel still lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KernelFolder", "kernel_folders", "kernels_folder"]

_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,127}")


def kernels_folder() -> Path:
    """Return the folder with a folder for each kernel of this home."""
    runtime = os.environ.get("CUPOLA_RUNTIME") or str(Path.home() / ".cupola")
    return Path(runtime) / "kernels"


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
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (
            OSError
        ):  # a file system without locks: better to believe than to take a living kernel for dead
            return True
        finally:
            os.close(file)
        return False

    def record(self) -> dict[str, Any]:
        """Return what the guardian wrote of itself and its kernel; empty where there is nothing to be read."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.record_file.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}


def kernel_folders() -> Iterator[KernelFolder]:
    """Yield the folders of all kernels of this home, dead ones too."""
    with contextlib.suppress(OSError):
        for place in sorted(kernels_folder().iterdir()):
            if place.is_dir() and _ID.fullmatch(place.name):
                yield KernelFolder(place)
