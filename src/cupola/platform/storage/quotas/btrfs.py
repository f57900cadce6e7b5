"""btrfs: a subvolume per folder, with a quota group above it.

The limit is on a group of the second level, ``1/ID``, and the folder's own group ``0/ID`` is a member of it. Anybody may
make subvolumes in a folder of their own, and those would count nowhere: :meth:`BtrfsQuota.watch` makes them members too.
Files cost metadata, which counts: a limit in bytes is one of files as well.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from typing_extensions import override

from cupola.exceptions import ConflictError, StartError
from cupola.platform.storage.quotas.base import Held, Limit, Owner, Quota, QuotaError, made, places, run
from cupola.platform.storage.quotas.moving import aside_of, copy_into, delete, exchange, refuse_in_use

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["BtrfsQuota"]

_ROOT_INODE = 256
"""Of the uppermost folder of each subvolume."""
_FRESH_S = 5.0
_GROUPS = re.compile(r"^(\d+)/(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)", re.MULTILINE)
_SUBVOLUMES = re.compile(
    r"^ID (\d+) gen \d+ (?:cgen \d+ )?parent (\d+) top level \d+ path (.*)$", re.MULTILINE
)


class BtrfsQuota(Quota):
    """Quota groups of btrfs.

    Parameters
    ----------
    roots
        The folders that homes and team volumes lie in.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, roots: list[Path], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(roots)
        self._clock = clock
        self._settled: dict[Path, float] = {}

    @override
    def check(self) -> None:
        if os.geteuid() != 0:
            raise StartError(
                "quotas of the kind btrfs need a platform that runs as root; set `quotas.kind: none`"
            )
        for root in self.roots:
            root.mkdir(parents=True, exist_ok=True)
            kind = run("stat", "-f", "-c", "%T", str(root), what=f"{root} cannot be read").strip()
            if kind != "btrfs":
                raise StartError(
                    f"quotas.kind is btrfs, and {root} lies on {kind}; put `folders.homes` on btrfs or choose "
                    "`quotas.kind: loop`"
                )
            run("btrfs", "quota", "enable", str(root), what=f"quotas cannot be switched on in {root}")
        self._clean()

    @override
    def prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        aside = aside_of(folder, "new")
        if not _is_subvolume(folder):
            if _is_subvolume(aside):
                self.remove(aside)
            run("btrfs", "subvolume", "create", str(aside), what=f"{folder} cannot be made")
            self._group(aside)
            if folder.exists():
                self._take_over(folder, aside)
            else:
                # The limit is there before anybody can write.
                self._limit(aside, limit)
                made(aside, owner)
                aside.rename(folder)
        if aside.exists():
            # What was there before the quota, and is copied as a whole.
            delete(aside)
        self._group(folder)
        self.set_limit(folder, limit)
        made(folder, owner)

    def _take_over(self, folder: Path, aside: Path) -> None:
        """Copy `folder` into the subvolume `aside` and exchange the two."""
        refuse_in_use(folder, "moves under its quota")
        try:
            copy_into(folder, aside)
            run("btrfs", "filesystem", "sync", str(aside), what=f"{aside} cannot be written")
        except QuotaError:
            self.remove(aside)
            raise
        refuse_in_use(folder, "moves under its quota")
        exchange(folder, aside)

    @override
    def usage(self, folder: Path) -> Held:
        number = _subvolume_id(folder)
        if self._clock() >= self._settled.get(folder.parent, 0.0):
            # Numbers are those of the last transaction, which would be up to 30 s old.
            run("btrfs", "filesystem", "sync", str(folder), what=f"{folder} cannot be read")
            self._settled[folder.parent] = self._clock() + _FRESH_S
        used, limit, _ = self._groups(folder).get((1, number), (None, None, None))
        if used is None:
            raise QuotaError(f"{folder} has no quota yet: it gets one when its owner launches a session.")
        return Held(used=used, limit=limit)

    @override
    def set_limit(self, folder: Path, limit: Limit) -> None:
        groups = self._groups(folder)
        if groups.get((1, _subvolume_id(folder)), (0, None, None))[1] != limit.size:
            self._limit(folder, limit)

    @override
    def remove(self, folder: Path) -> None:
        if not folder.exists():
            return
        if not _is_subvolume(folder):
            refuse_in_use(folder, "can be deleted")
            delete(folder)
            return
        refuse_in_use(folder, "can be deleted")
        number = _subvolume_id(folder)
        self._group(folder)
        # To delete what is full needs room too.
        command = ("btrfs", "qgroup", "limit", "none", f"1/{number}", str(folder.parent))
        run(*command, what=f"{folder} cannot be deleted")
        groups = [str(number), *(str(inner) for inner, _ in self._inner(folder))]
        for inner, path in reversed(self._inner(folder)):
            # By number: a path in the user's folder could lead elsewhere.
            command = ("btrfs", "subvolume", "delete", "--subvolid", str(inner), str(folder))
            run(*command, what=f"{path} cannot be deleted")
        run("btrfs", "subvolume", "delete", "-c", str(folder), what=f"{folder} cannot be deleted")
        self._forget([f"1/{number}", *(f"0/{inner}" for inner in groups)], folder.parent)

    def _forget(self, groups: list[str], root: Path) -> None:
        """Destroy quota groups whose subvolumes are gone; the newest kernels do so by themselves, or later."""
        for group in groups:
            try:
                run("btrfs", "qgroup", "destroy", group, str(root), what=f"the quota group {group} stays")
            except QuotaError:
                continue

    @override
    def move(self, folder: Path, target: Path) -> None:
        if os.path.lexists(target):
            raise ConflictError(f"{target} is there already: move it away first.")
        refuse_in_use(folder, "can be moved")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        except OSError as exc:
            raise QuotaError(f"{folder} cannot become {target}: {exc.strerror or exc}") from exc

    @override
    def watch(self) -> list[str]:
        """Count subvolumes that users made in their folders as what they are: parts of them."""
        found = []
        for root in self.roots:
            if not root.is_dir():
                continue
            groups = self._groups(root)
            for folder in places(root):
                if not _is_subvolume(folder):
                    continue
                number = _subvolume_id(folder)
                for inner, path in self._inner(folder):
                    if f"1/{number}" not in (groups.get((0, inner), (0, None, ""))[2] or "").split(","):
                        self._assign(inner, number, root)
                        found.append(f"The subvolume {path} counts towards the quota of {folder.name} now.")
        return found

    def _clean(self) -> None:
        """Finish or undo what a kill left between."""
        for root in self.roots:
            for aside in root.glob(".*.new"):
                folder = aside.with_name(aside.name[1:].removesuffix(".new"))
                if _is_subvolume(aside):
                    self.remove(aside)
                elif _is_subvolume(folder):
                    delete(aside)

    def _inner(self, folder: Path) -> list[tuple[int, Path]]:
        """Return the subvolumes somewhere in `folder`, the outer ones first."""
        text = run("btrfs", "subvolume", "list", "-a", "-p", str(folder), what=f"{folder} cannot be read")
        entries = [(int(number), int(parent), path) for number, parent, path in _SUBVOLUMES.findall(text)]
        top = _subvolume_id(folder)
        path_of = {number: path.removeprefix("<FS_TREE>/") for number, _, path in entries}
        inside, todo = [], [top]
        while todo:
            outer = todo.pop(0)
            for number, parent, _ in entries:
                if parent == outer:
                    todo.append(number)
                    relative = path_of[number].removeprefix(path_of[top] + "/")
                    inside.append((number, folder / relative))
        return inside

    def _group(self, folder: Path) -> None:
        """Make the group above the folder's own, where it is missing."""
        number = _subvolume_id(folder)
        groups = self._groups(folder)
        if (1, number) not in groups:
            run(
                "btrfs", "qgroup", "create", f"1/{number}", str(folder.parent), what=f"{folder} gets no quota"
            )
        if f"1/{number}" not in (groups.get((0, number), (0, None, ""))[2] or "").split(","):
            self._assign(number, number, folder.parent)

    def _assign(self, inner: int, outer: int, root: Path) -> None:
        command = ("btrfs", "qgroup", "assign", f"0/{inner}", f"1/{outer}", str(root))
        run(*command, what=f"the subvolume {inner} cannot be counted")

    def _limit(self, folder: Path, limit: Limit) -> None:
        number = _subvolume_id(folder)
        # By way of the folder around it: from within a full one the limit could not be raised.
        command = ("btrfs", "qgroup", "limit", str(limit.size), f"1/{number}", str(folder.parent))
        run(*command, what=f"the limit of {folder} cannot be set")

    def _groups(self, folder: Path) -> dict[tuple[int, int], tuple[int, int | None, str]]:
        """Return the quota groups of a file system: bytes used, limit, names of the groups above."""
        text = run("btrfs", "qgroup", "show", "-rep", "--raw", str(folder), what=f"{folder} cannot be read")
        return {
            (int(level), int(number)): (int(used), None if limit == "none" else int(limit), parents)
            for level, number, used, _, limit, _, parents in _GROUPS.findall(text)
        }


def _is_subvolume(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_ino == _ROOT_INODE


def _subvolume_id(folder: Path) -> int:
    return int(run("btrfs", "inspect-internal", "rootid", str(folder), what=f"{folder} cannot be read"))
