"""The kernel's table of mounts, and the commands that change it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MountPoint", "command_output", "make_shared", "mounts_below", "unmount"]

_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_SECONDS = 10.0
_MOST = 16
"""Mounts that lie on top of each other; more than two come from no program of ours."""


@dataclass(frozen=True)
class MountPoint:
    """One line of the table."""

    path: Path
    kind: str
    """Of the file system: ``fuse.rclone``, ``nfs4``, ``ext4`` ..."""
    source: str
    shared: bool
    """Whether what is mounted below it appears elsewhere too."""
    read_only: bool


def mounts_below(folder: Path) -> list[MountPoint]:
    """Return the mounts at and below `folder`, in the order in which they were made."""
    found = (_parsed(line) for line in _TABLE.read_text(encoding="utf-8", errors="replace").splitlines())
    return [point for point in found if point.path == folder or folder in point.path.parents]


def _lies_on(folder: Path) -> MountPoint | None:
    """Return the mount that a folder lies on."""
    above = [
        point for point in mounts_below(Path("/")) if point.path == folder or point.path in folder.parents
    ]
    # Later ones lie on top of earlier ones.
    return max(reversed(above), key=lambda point: len(point.path.parts), default=None)


def _parsed(line: str) -> MountPoint:
    before, _, after = line.partition(" - ")
    fields, (kind, source, *_) = before.split(" "), after.split(" ")
    return MountPoint(
        path=Path(_plain(fields[4])),
        kind=kind,
        source=_plain(source),
        shared=any(field.startswith("shared:") for field in fields[6:]),
        read_only="ro" in fields[5].split(","),
    )


def _plain(text: str) -> str:
    """Return `text` as it was before the table wrote spaces and the like as octal numbers."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def make_shared(folder: Path) -> bool:
    """Make `folder` a mount whose later mounts appear in containers that follow it; say whether it is one now.

    Without the right to mount it stays a plain folder, which is all that processes of this host need.
    """
    if any(point.path == folder and point.shared for point in mounts_below(folder)):
        return True
    # A platform in a container is given its state folder from the host, where the sessions are: what is mounted in that
    # appears there, but not what is mounted in a mount of its own.
    if (below := _lies_on(folder)) is not None and below.path != Path("/") and below.shared:
        return True
    if os.geteuid() != 0:
        return False
    try:
        if all(point.path != folder for point in mounts_below(folder)):
            command_output(["mount", "--bind", str(folder), str(folder)])
        # First private: else it would stay a peer of the disk it lies on, and its mounts would appear there again.
        command_output(["mount", "--make-private", str(folder)])
        command_output(["mount", "--make-rshared", str(folder)])
    except UnavailableError:
        return False
    return True


def unmount(folder: Path) -> None:
    """Take away whatever is mounted at `folder`, also a dead or a busy one: who has files open there keeps them.

    Raises
    ------
    UnavailableError
        If the system refuses.
    """
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for _ in range(_MOST):
        if all(point.path != folder for point in mounts_below(folder)):
            return
        command_output([*command, str(folder)])
    raise UnavailableError(f"{folder} cannot be unmounted: something mounts it again and again.")


def command_output(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, seconds: float = _SECONDS
) -> bytes:
    """Run a command and return what it printed.

    Raises
    ------
    UnavailableError
        With the last line of what it complained about, if it fails, is missing, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            env=dict(environment)
            if environment is not None
            else {"PATH": os.environ.get("PATH", os.defpath)},
        )
    except FileNotFoundError as error:
        raise UnavailableError(f"There is no program {command[0]} on this machine: install it.") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} did not end within {seconds:g} s.") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise UnavailableError(lines[-1][:300] if lines else f"{command[0]} failed ({done.returncode}).")
    return done.stdout
