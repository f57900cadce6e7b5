"""Loop images: a file with an ext4 file system of fixed size per folder, mounted there.

Works on any file system. The files lie in ``.images`` beside the folders, take only the room that is used, and are mounted
again after a restart of the machine. A folder that is not mounted belongs to root and is empty: nobody can write past the
limit.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

from typing_extensions import override

from cupola.exceptions import ConflictError, CupolaError, StartError
from cupola.platform.storage.quotas.base import (
    Held,
    Limit,
    LimitInUseError,
    Owner,
    Quota,
    QuotaError,
    made,
    run,
)
from cupola.platform.storage.quotas.moving import aside_of, copy_into, delete, refuse_in_use

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LoopQuota"]

IMAGES = ".images"
_LEAST = 16 * 2**20
"""A file system smaller than this has no room for itself."""
_BLOCK = 4096
_BYTES_PER_FILE = 16384
_OPTIONS = "loop,nodev,nosuid,discard"


class LoopQuota(Quota):
    """A file system in a file per folder."""

    @override
    def check(self) -> None:
        if os.geteuid() != 0:
            raise StartError(
                "quotas of the kind loop need a platform that runs as root; set `quotas.kind: none`"
            )
        for root in self.roots:
            (root / IMAGES).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.watch()

    @override
    def prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        image = _image(folder)
        image.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not image.exists():
            self._make(folder, image, limit)
        self._mount(folder, image)
        self.set_limit(folder, limit)
        made(folder, owner)

    def _make(self, folder: Path, image: Path, limit: Limit) -> None:
        """Make the image, with all that lies in a plain folder of the same name; its final name says it is whole."""
        new = image.with_suffix(".new")
        place = aside_of(folder, "filling")
        self._unmount(place)
        if folder.exists():
            refuse_in_use(folder, "moves under its quota")
        held = _plain_size(folder)
        # Content beyond the limit is kept: the owner has to delete before anything can be added.
        size = _whole(max(limit.size, held + held // 10 + _LEAST if held else 0))
        try:
            _format(new, size, limit.files)
            if folder.exists():
                place.mkdir(exist_ok=True)
                run(
                    "mount",
                    "-o",
                    _OPTIONS,
                    str(new),
                    str(place),
                    what=f"{folder} cannot move under its quota",
                )
                copy_into(folder, place)
                self._unmount(place)
                refuse_in_use(folder, "moves under its quota")
            new.rename(image)
        except BaseException:
            self._unmount(place)
            new.unlink(missing_ok=True)
            raise

    def _mount(self, folder: Path, image: Path) -> None:
        """Mount an image that is whole; what lay in the folder before is in it already."""
        old = aside_of(folder, "old")
        if not folder.is_mount():
            if folder.exists() and any(folder.iterdir()):
                if old.exists():
                    raise QuotaError(
                        f"{folder} and {old} both hold files; move those of {folder} away by hand."
                    )
                folder.rename(old)
            folder.mkdir(mode=0o700, exist_ok=True)
            made(folder, Owner(0, 0o700))
            self._mend(image)
            run("mount", "-o", _OPTIONS, str(image), str(folder), what=f"{folder} cannot be mounted")
        if old.exists():
            delete(old)

    @staticmethod
    def _mend(image: Path) -> None:
        """Replay what a crash of the machine left; e2fsck answers 1 where it mended something."""
        with contextlib.suppress(QuotaError):
            run("e2fsck", "-p", str(image), what=f"{image} is damaged")

    @override
    def usage(self, folder: Path) -> Held:
        if not folder.is_mount():
            raise QuotaError(f"{folder} is not mounted: it is when its owner launches a session.")
        found = os.statvfs(folder)
        return Held(
            used=(found.f_blocks - found.f_bfree) * found.f_frsize,
            limit=found.f_blocks * found.f_frsize,
            files=found.f_files - found.f_ffree,
            files_limit=found.f_files,
        )

    @override
    def set_limit(self, folder: Path, limit: Limit) -> None:
        image, size = _image(folder), _whole(limit.size)
        there = _formatted(image)
        if size > image.stat().st_size:
            os.truncate(image, size)
        if size == there or _over(folder, size):
            return
        if size > there and folder.is_mount():
            with contextlib.suppress(QuotaError):  # the capability SYS_RESOURCE is missing
                self._grow(folder)
                return
        self._change(folder, image, size)

    @staticmethod
    def _grow(folder: Path) -> None:
        """Make a mounted file system as large as its image."""
        device = run("findmnt", "-n", "-o", "SOURCE", str(folder), what=f"{folder} cannot grow").strip()
        run("losetup", "-c", device, what=f"{folder} cannot grow")
        run("resize2fs", device, what=f"{folder} cannot grow")

    def _change(self, folder: Path, image: Path, size: int) -> None:
        """Change a file system that nothing uses."""
        mounted = folder.is_mount()
        if mounted:
            try:
                run("umount", str(folder), what=f"{folder} is in use")
            except QuotaError as exc:
                raise LimitInUseError(
                    f"The limit of {folder.name} can be changed only while no session of it runs: it is at its next "
                    "launch after all have stopped."
                ) from exc
        try:
            self._resize(image, size)
            os.truncate(image, size)
        finally:
            if mounted:
                run("mount", "-o", _OPTIONS, str(image), str(folder), what=f"{folder} cannot be mounted")

    @staticmethod
    def _resize(image: Path, size: int) -> None:
        with contextlib.suppress(QuotaError):  # its exit code is 1 where it mended something
            run("e2fsck", "-f", "-y", str(image), what=f"{image} is damaged")
        run("resize2fs", str(image), f"{size // 1024}K", what=f"{image} cannot be resized")

    @override
    def remove(self, folder: Path) -> None:
        if folder.exists():
            refuse_in_use(folder, "can be deleted")
        self._unmount(folder)
        _image(folder).unlink(missing_ok=True)
        if folder.exists():
            delete(folder)

    @override
    def move(self, folder: Path, target: Path) -> None:
        image, other = _image(folder), _image(target)
        if os.path.lexists(target) or other.exists():
            raise ConflictError(f"{target} is there already: move it away first.")
        refuse_in_use(folder, "can be moved")
        self._unmount(folder)
        other.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The folder last: an image without one is mounted where it belongs by the next look.
        image.rename(other)
        folder.rmdir()
        self._mount(target, other)

    def _unmount(self, folder: Path) -> None:
        if folder.is_mount():
            try:
                run("umount", str(folder), what=f"{folder} is in use")
            except QuotaError as exc:
                raise ConflictError(f"{folder.name} is in use: stop the sessions that use it first.") from exc
        if folder.name.startswith(".") and folder.exists():
            folder.rmdir()

    @override
    def watch(self) -> list[str]:
        """Mount what is not: after a restart of the machine."""
        found = []
        for root in self.roots:
            for left in root.glob(".*.filling"):
                self._unmount(left)
            for image in sorted((root / IMAGES).glob("*.ext4")):
                folder = root / image.name.removesuffix(".ext4")
                if folder.is_mount():
                    continue
                try:
                    self._mount(folder, image)
                    found.append(f"{folder} is mounted again.")
                except CupolaError as exc:
                    found.append(str(exc))
        return found


def _image(folder: Path) -> Path:
    return folder.parent / IMAGES / f"{folder.name}.ext4"


def _whole(size: int) -> int:
    """Return `size` in whole blocks, and enough of them for a file system."""
    return max(size, _LEAST) // _BLOCK * _BLOCK


def _formatted(image: Path) -> int:
    """Return the size of the file system in an image, as its superblock says: the file may be larger."""
    with image.open("rb") as file:
        file.seek(1024)
        blocks, log_size = struct.unpack("<4xI16xI", file.read(28))
    size: int = blocks * (1024 << log_size)
    return size


def _format(image: Path, size: int, files: int | None) -> None:
    image.unlink(missing_ok=True)
    with image.open("xb") as file:
        file.truncate(size)
    image.chmod(0o600)
    # No blocks kept back for root; room to delete is there in any case.
    command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(_BLOCK), "-E", "lazy_itable_init=1,nodiscard"]
    command += ["-N", str(max(files, 128))] if files else ["-i", str(_BYTES_PER_FILE)]
    run(*command, str(image), what=f"the image {image} cannot be made")
    _without_lost_and_found(image)


def _without_lost_and_found(image: Path) -> None:
    """Take away a folder that a home has no use for; e2fsck makes it again if it needs one."""
    run("debugfs", "-w", "-R", "rmdir lost+found", str(image), what=f"the image {image} cannot be made")


def _plain_size(folder: Path) -> int:
    if not folder.exists():
        return 0
    return int(run("du", "-s", "-B1", str(folder), what=f"{folder} cannot be counted").split()[0])


def _over(folder: Path, size: int) -> bool:
    """Tell whether a file system holds more than `size`, so that it cannot be made that small."""
    if not folder.is_mount():
        return False
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize > size * 0.9
