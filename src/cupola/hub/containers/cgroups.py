"""What the kernel itself says of a container's memory, both in the old layout of control groups (v1) and the new (v2).

It costs two small files instead of a call of the engine, and is known to the last moment before the container ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryGroup", "MemoryUse"]

ROOT = Path("/sys/fs/cgroup")
MIB = 2**20


@dataclass(frozen=True)
class MemoryUse:
    """What a container's programs hold."""

    used_mib: int
    """Without what is only a copy of files and would be given back."""
    kills: int
    """How often the kernel ended one of its processes because the limit was reached."""


@dataclass(frozen=True)
class MemoryGroup:
    """The control group of a container."""

    folder: Path
    new: bool

    @classmethod
    def of(
        cls, pid: int, container: str, *, proc: Path = Path("/proc"), root: Path = ROOT
    ) -> MemoryGroup | None:
        """Return the group of the container with the process `pid`; nothing where it cannot be seen from here.

        Parameters
        ----------
        pid
            Its first process.
        container
            Its id: whoever looks from another container sees another process of that number.
        proc, root
            Where the kernel tells of processes and groups.
        """
        try:
            lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        found = None
        for line in lines:
            number, kinds, place = [*line.split(":", 2), "", ""][:3]
            if container not in place:
                continue
            if "memory" in kinds.split(","):
                found = cls(root / "memory" / place.lstrip("/"), new=False)
            elif number == "0" and found is None:
                found = cls(root / place.lstrip("/"), new=True)
        if found is None or not (found.folder / found._used).exists():
            return None
        return found

    @property
    def _used(self) -> str:
        return "memory.current" if self.new else "memory.usage_in_bytes"

    def look(self) -> MemoryUse | None:
        """Return what is used now; nothing where the group is gone."""
        try:
            used = int(self._read(self._used))
            cached = _entry(self._read("memory.stat"), "inactive_file" if self.new else "total_inactive_file")
            kills = _entry(self._read("memory.events" if self.new else "memory.oom_control"), "oom_kill")
        except (OSError, ValueError):
            return None
        return MemoryUse(max(0, used - cached) // MIB, kills)

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="ascii")


def _entry(text: str, name: str) -> int:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:  # noqa: PLR2004 - a name and a number
            return int(words[1])
    return 0
