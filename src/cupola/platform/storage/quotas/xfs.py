"""XFS: a project per folder, with a limit on bytes and on files."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from typing import TYPE_CHECKING

from typing_extensions import override

from cupola.exceptions import ConflictError, StartError
from cupola.platform.storage.quotas.base import Held, Limit, Owner, Quota, QuotaError, made, places, run
from cupola.platform.storage.quotas.moving import aside_of, delete, refuse_in_use

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["XfsQuota"]

_GET_ATTRIBUTES = 0x801C581F
"""``FS_IOC_FSGETXATTR``: flags, extent size, number of extents, project ..."""
_ATTRIBUTES = struct.Struct("=IIIII8x")
_FIRST_PROJECT = 20_000
_REPORT = re.compile(r"^#?(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+\s+\S+", re.MULTILINE)
_KIB = 1024


class XfsQuota(Quota):
    """Project quotas of XFS, mounted with ``prjquota``."""

    @override
    def check(self) -> None:
        if os.geteuid() != 0:
            raise StartError(
                "quotas of the kind xfs need a platform that runs as root; set `quotas.kind: none`"
            )
        for root in self.roots:
            root.mkdir(parents=True, exist_ok=True)
            kind = run("stat", "-f", "-c", "%T", str(root), what=f"{root} cannot be read").strip()
            if kind != "xfs":
                raise StartError(
                    f"quotas.kind is xfs, and {root} lies on {kind}; put `folders.homes` on XFS or choose "
                    "`quotas.kind: loop`"
                )
            state = self._quota(root, "state -p")
            if "Enforcement: ON" not in state:
                raise StartError(
                    f"{root} is mounted without project quotas; mount its file system with `prjquota`"
                )

    @override
    def prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        new = not folder.exists()
        place = aside_of(folder, "new") if new else folder
        if new and place.exists():
            delete(place)
        if new:
            place.mkdir(mode=0o700)
        if project_of(place) == 0:
            # Its files are marked one after the other, which misses those that are written meanwhile.
            if not new:
                refuse_in_use(folder, "moves under its quota")
            project = self._free(place)
            self._quota(place, f"limit -p {_limits(limit)} {project}")
            self._quota(place, f"project -s -p {place} {project}")
        else:
            self.set_limit(place, limit)
        made(place, owner)
        if new:
            place.rename(folder)

    def _free(self, folder: Path) -> int:
        """Return a project that no folder has."""
        taken = [project_of(place) for root in self.roots for place in places(root)]
        taken += [project_of(place) for root in self.roots for place in root.glob(".*/*") if place.is_dir()]
        return max([_FIRST_PROJECT, *taken, project_of(folder)]) + 1

    @override
    def usage(self, folder: Path) -> Held:
        project = project_of(folder)
        blocks = self._row(folder, project, "b")
        files = self._row(folder, project, "i")
        return Held(
            used=blocks[0] * _KIB,
            limit=blocks[1] * _KIB or None,
            files=files[0],
            files_limit=files[1] or None,
        )

    def _row(self, folder: Path, project: int, what: str) -> tuple[int, int]:
        text = self._quota(folder, f"report -p -n -N -{what} -L {project} -U {project}")
        for number, used, _, hard in _REPORT.findall(text):
            if int(number) == project:
                return int(used), int(hard)
        raise QuotaError(f"{folder} has no quota yet: it gets one when its owner launches a session.")

    @override
    def set_limit(self, folder: Path, limit: Limit) -> None:
        self._quota(folder, f"limit -p {_limits(limit)} {project_of(folder)}")

    @override
    def remove(self, folder: Path) -> None:
        if not folder.exists():
            return
        refuse_in_use(folder, "can be deleted")
        project = project_of(folder)
        delete(folder)
        if project:
            self._quota(folder.parent, f"limit -p bsoft=0 bhard=0 isoft=0 ihard=0 {project}")

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

    def _quota(self, folder: Path, command: str) -> str:
        mount = folder
        while not mount.is_mount():
            mount = mount.parent
        return run(
            "xfs_quota", "-x", "-c", command, str(mount), what=f"the quota of {folder} does not answer"
        )


def project_of(folder: Path) -> int:
    """Return the project that a folder belongs to; 0 for none."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        answer = fcntl.ioctl(handle, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    except OSError as exc:
        raise QuotaError(f"{folder} has no project: {exc.strerror or exc}") from exc
    finally:
        os.close(handle)
    project: int = _ATTRIBUTES.unpack(answer)[3]
    return project


def _limits(limit: Limit) -> str:
    return f"bsoft=0 bhard={limit.size} isoft=0 ihard={limit.files or 0}"
