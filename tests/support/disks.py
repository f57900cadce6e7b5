"""File systems in a file, for tests of quotas: mounted in a temporary folder and unmounted at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C"}


def needs(*programs: str) -> None:
    """Skip the test where it cannot mount, or a program is missing."""
    if os.geteuid() != 0:
        pytest.skip("file systems can be mounted by root only")
    for program in programs:
        if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
            pytest.skip(f"{program} is not installed")


def command(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=check, env=ENVIRONMENT)


@contextlib.contextmanager
def disk(folder: Path, kind: str, size_mib: int, options: str = "loop") -> Iterator[Path]:
    """Make a file system and mount it at ``folder/disk``; the test is skipped where the kernel refuses."""
    image, place = folder / f"{kind}.img", folder / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_mib * 2**20)
    command(f"mkfs.{kind}", "-q", str(image))
    mounted = command("mount", "-t", kind, "-o", options, str(image), str(place), check=False)
    if mounted.returncode != 0:
        image.unlink()
        said = mounted.stderr.replace(str(place), "DISK").splitlines()[0]
        pytest.skip(f"{kind} with {options!r} cannot be mounted here: {said}")
    try:
        yield place
    finally:
        unmount_below(place)
        image.unlink(missing_ok=True)


def fill(place: Path) -> None:
    """Leave no room on the file system of a folder, in its file ``fill``."""
    file = os.open(place / "fill", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with contextlib.suppress(OSError):
            while os.write(file, b"x" * 4096):
                pass
    finally:
        os.close(file)


def unmount_below(place: Path) -> None:
    """Unmount all that is mounted at or below `place`, the innermost first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:  # noqa: PTH123 - no file of the disk
        mounts = [line.split()[4] for line in file]
    for mount in reversed([item for item in mounts if item == str(place) or item.startswith(f"{place}/")]):
        command("umount", "-l", mount, check=False)


def write_as(number: int, file: Path, mib: int) -> subprocess.CompletedProcess[str]:
    """Write zeros as a user of that number."""
    script = f"dd if=/dev/urandom of='{file}' bs=1M count={mib} conv=fsync"
    return as_user(number, script)


def as_user(number: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell as a user of that number."""
    user = ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups"]
    return command(*user, "sh", "-c", script, check=False)
