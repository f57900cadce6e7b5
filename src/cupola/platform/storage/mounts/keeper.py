"""Makes, finds again, mends and takes away the mounts of volumes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError
from cupola.platform.storage.mounts import nfs, rclone
from cupola.platform.storage.mounts.processes import Programs
from cupola.platform.storage.mounts.table import command_output, make_shared, mounts_below, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cupola.models.volume import Bucket, Export

__all__ = ["MountKeeper", "MountSpec"]

_READY_S = 15.0
_NFS_S = 45.0
"""``mount.nfs`` ends by itself before."""
_LOOK_S = 0.05


@dataclass(frozen=True)
class MountSpec:
    """What is mounted under a name: exactly one of `bucket`, `export` and `folder`."""

    name: str
    bucket: Bucket | None = None
    keys: Path | None = None
    export: Export | None = None
    folder: Path | None = None
    """A folder of this host, for containers."""
    write: bool = False
    proxy: str | None = None
    """What every connection of it goes through."""

    @property
    def digest(self) -> str:
        """What it is made of: a mount with another digest is made anew."""
        keys = None
        if self.keys is not None:
            with contextlib.suppress(OSError):
                status = self.keys.stat()
                keys = (status.st_mtime_ns, status.st_size, status.st_ino)
        text = repr((self.bucket, self.export, self.folder, self.write, self.proxy, self.keys, keys))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class MountKeeper:
    """Keeps the mounts of one platform. All its methods take their time: call them in a thread.

    Parameters
    ----------
    folder
        Where mounts appear, as ``NAME/data``.
    records
        Where it is noted which programs keep them.
    cache
        Where what was read from buckets is kept.
    log
        Folder of the programs' logs.
    cache_gib
        How much of one bucket is kept.
    """

    def __init__(self, *, folder: Path, records: Path, cache: Path, log: Path, cache_gib: int) -> None:
        self._folder = folder
        self._records = records
        self._cache = cache
        self._log = log
        self._cache_gib = cache_gib
        self._programs = Programs(records)
        self.shared = False
        """Whether containers see what is mounted after their start."""

    def prepare(self) -> None:
        """Make the folders; the one of the mounts is shared with containers where that is possible.

        Raises
        ------
        OSError
            If they cannot be made.
        """
        for folder in (self._records, self._cache, self._log):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Sessions walk through it to their volumes; what lies in the volumes says itself who may read it.
        self._folder.chmod(0o755)
        self.shared = make_shared(self._folder)

    def target(self, name: str) -> Path:
        """Return where the volume `name` is mounted."""
        return self._folder / name / "data"

    def make_place(self, name: str) -> None:
        """Make the empty folder that containers are given while nothing is mounted there yet.

        Raises
        ------
        OSError
            If the disk is full.
        """
        target = self.target(name)
        if not self._mounted(name):
            target.mkdir(parents=True, exist_ok=True)
            for folder in (target.parent, target):
                folder.chmod(0o755)

    def mounted(self) -> set[str]:
        """Return the names under which something is mounted, dead or alive."""
        points = mounts_below(self._folder)
        return {
            point.path.parent.name
            for point in points
            if point.path.name == "data" and point.path.parent.parent == self._folder
        }

    def known(self) -> set[str]:
        """Return the names of all mounts that were made and not taken away."""
        return self.mounted() | set(self._programs.names())

    def is_up(self, spec: MountSpec) -> bool:
        """Return whether `spec` is mounted, with its program alive; never looks into the mount itself."""
        if not self._mounted(spec.name):
            return False
        record = self._programs.find(spec.name)
        if spec.bucket is None:
            # What was mounted for reading does not become writable by itself, nor the other way round.
            target = self.target(spec.name)
            return all(
                point.read_only != spec.write for point in mounts_below(target) if point.path == target
            )
        return (
            record is not None and record.process() is not None and record.told.get("digest") == spec.digest
        )

    def mount(self, spec: MountSpec) -> None:
        """See to it that `spec` is mounted and answers; what is there already stays, what is dead is replaced.

        Raises
        ------
        UnavailableError
            If it cannot be mounted now, with the reason.
        """
        with self._alone(spec.name):
            if self.is_up(spec) and _answers(self.target(spec.name)):
                return
            self._clear(spec.name)
            try:
                self.make_place(spec.name)
            except OSError as error:
                raise UnavailableError(f"There is no place to mount it ({error.strerror}).") from error
            if spec.bucket is not None:
                self._mount_bucket(spec, rclone.Remote(spec.bucket, spec.keys, spec.proxy))
            elif spec.export is not None:
                command = nfs.mount_command(spec.export, target=self.target(spec.name), write=spec.write)
                command_output(command, seconds=_NFS_S)
            elif spec.folder is not None:
                aside = self._records / f"{spec.name}.aside"
                self._bind(spec.folder, self.target(spec.name), aside, write=spec.write)

    def unmount(self, name: str, *, forget: bool = False) -> None:
        """Take a mount away and end its program.

        Parameters
        ----------
        name
            Which one.
        forget
            Whether what was read through it is removed from this host's disk too.

        Raises
        ------
        UnavailableError
            If the system refuses.
        """
        with self._alone(name):
            self._clear(name)
            if forget:
                shutil.rmtree(self._cache / name, ignore_errors=True)
            # Both are empty, or something is wrong and they stay.
            with contextlib.suppress(OSError):
                self.target(name).rmdir()
                self.target(name).parent.rmdir()

    def last_words(self, name: str) -> str:
        """Return the last line that the program of a mount wrote into its log."""
        try:
            text = self._log_file(name).read_bytes()[-4096:].decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # Without the date that rclone begins each line with.
        return lines[-1].partition(" : ")[2][:300] or lines[-1][:300] if lines else ""

    def _mount_bucket(self, spec: MountSpec, remote: rclone.Remote) -> None:
        command = rclone.mount_command(
            remote,
            target=self.target(spec.name),
            name=f"cupola-{spec.name}",
            cache=self._own_cache(spec),
            cache_gib=self._cache_gib,
            log=self._log_file(spec.name),
            write=spec.write,
        )
        record = self._programs.start(
            spec.name,
            command,
            environment=remote.environment(),
            output=self._log_file(spec.name),
            told={"digest": spec.digest},
        )
        self._wait_until(lambda: self._mounted(spec.name), lambda: record.process() is None)
        if not self._mounted(spec.name):
            words = self.last_words(spec.name)
            self._clear(spec.name)
            raise UnavailableError(words or "rclone ended without a word.")

    def _own_cache(self, spec: MountSpec) -> Path:
        """Return the cache of just this bucket with just these keys; another one of the same name must see none of it."""
        own = self._cache / spec.name / spec.digest
        with contextlib.suppress(OSError):
            for other in (self._cache / spec.name).iterdir():
                if other != own:
                    shutil.rmtree(other, ignore_errors=True)
        return own

    @staticmethod
    def _bind(folder: Path, target: Path, aside: Path, *, write: bool) -> None:
        if not folder.is_dir():
            raise UnavailableError(f"There is no folder {folder}.")
        options = "remount,bind,nosuid,nodev" + ("" if write else ",ro")
        # Aside first, where no container looks: a mount that is made read-only in its place stays writable in those
        # that have received it already. One that is bound from a read-only one is read-only everywhere.
        aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            unmount(aside)
            command_output(["mount", "--bind", str(folder), str(aside)])
            command_output(["mount", "-o", options, str(aside)])
            command_output(["mount", "--bind", str(aside), str(target)])
        finally:
            unmount(aside)

    @staticmethod
    def _wait_until(done: Callable[[], bool], over: Callable[[], bool]) -> None:
        until = time.monotonic() + _READY_S
        while not done() and not over() and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def _mounted(self, name: str) -> bool:
        target = self.target(name)
        return any(point.path == target for point in mounts_below(target))

    def _clear(self, name: str) -> None:
        """Unmount first: a program that is killed under its mount leaves a dead one behind."""
        unmount(self.target(name))
        self._programs.end(name)
        unmount(self.target(name))

    def _log_file(self, name: str) -> Path:
        return self._log / f"{name}.log"

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Keep other threads, and another portal, from the same mount.

        Raises
        ------
        UnavailableError
            If somebody is at it: a mount that hangs must not hold up one caller after the other.
        """
        try:
            descriptor = os.open(self._records / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"There is no place for its records ({error.strerror}).") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UnavailableError("It is just being mounted or taken away.") from error
            yield
        finally:
            os.close(descriptor)


def _answers(target: Path) -> bool:
    """Return whether a mount is alive: that of a killed program says that nobody is at its other end."""
    try:
        target.stat()
    except OSError as error:
        return error.errno not in {errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.ESTALE}
    return True
