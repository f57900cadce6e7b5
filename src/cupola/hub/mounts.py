"""The mounts of volumes at the end of a platform: the portal makes them, and they outlive it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.hub.processes import end, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import StatePaths

__all__ = ["clear_mounts", "left_mounts"]

_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_SECONDS = 10


def left_mounts(paths: StatePaths) -> list[Path]:
    """Return where something is mounted for this platform, the last one first."""
    return [path for path in _mounted(paths) if path != paths.mounts]


def clear_mounts(paths: StatePaths, tell: Callable[[str], None]) -> None:
    """Unmount everything and end the programs behind it; a dead mount would hang whoever looks at it.

    Parameters
    ----------
    paths
        The platform's folders.
    tell
        Gets a line where something stays.
    """
    # First the mounts: a program that is ended under its mount leaves a dead one behind.
    _unmount_all(paths, tell)
    records = [*paths.mount_records.glob("*.json"), *paths.mount_records.glob(".way/*.json")]
    known = [record for file in records if (record := read_record(file))]
    end([process for record in known if (process := record.find())], seconds=3)
    # Whatever was just being mounted.
    _unmount_all(paths, tell)
    for file in records:
        file.unlink(missing_ok=True)


def _unmount_all(paths: StatePaths, tell: Callable[[str], None]) -> None:
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for path in _mounted(paths):
        try:
            subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=_SECONDS)
        except (OSError, subprocess.SubprocessError):
            tell(f"{path} stays mounted: unmount it with `{' '.join(command)} {path}`")


def _mounted(paths: StatePaths) -> list[Path]:
    lines = _TABLE.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[4])) for line in lines]
    ours = [path for path in found if path == paths.mounts or paths.mounts in path.parents]
    return ours[::-1]
