"""No quota: folders are made, and what they hold is counted now and then."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from typing_extensions import override

from cupola.exceptions import ConflictError, StartError
from cupola.platform.storage.quotas.base import Held, Limit, Owner, Quota, QuotaError, made
from cupola.platform.storage.quotas.moving import delete, refuse_in_use

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["NoQuota", "counted"]

_MOST_FILES = 200_000
_MOST_S = 3.0
_FRESH_S = 60.0
_BLOCK = 512


class NoQuota(Quota):
    """Plain folders.

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
        self._counted: dict[Path, tuple[float, Held]] = {}

    @override
    def check(self) -> None:
        for root in self.roots:
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise StartError(f"the folder {root} cannot be made: {exc.strerror or exc}") from exc

    @override
    def prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        del limit
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            made(folder, owner)
        except OSError as exc:
            raise QuotaError(f"{folder} cannot be made: {exc.strerror or exc}") from exc

    @override
    def usage(self, folder: Path) -> Held:
        until, held = self._counted.get(folder, (0.0, None))
        if held is None or self._clock() >= until:
            held = counted(folder)
            self._counted[folder] = (self._clock() + _FRESH_S, held)
        return held

    @override
    def set_limit(self, folder: Path, limit: Limit) -> None:
        """Do nothing: there are none."""

    @override
    def remove(self, folder: Path) -> None:
        if folder.exists():
            refuse_in_use(folder, "can be deleted")
            delete(folder)
        self._counted.pop(folder, None)

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
        self._counted.pop(folder, None)


def counted(folder: Path, *, files: int = _MOST_FILES, seconds: float = _MOST_S) -> Held:
    """Count what lies in `folder`, until there were too many files or it took too long.

    Links are counted, never followed, and a folder that the user exchanges meanwhile for a link is not entered.
    """
    until = time.monotonic() + seconds
    used = number = 0
    complete = True
    try:
        for _, folders, names, handle in os.fwalk(folder, follow_symlinks=False, onerror=None):
            for name in (*folders, *names):
                number += 1
                try:
                    used += os.stat(name, dir_fd=handle, follow_symlinks=False).st_blocks * _BLOCK
                except OSError:
                    continue
            if number > files or time.monotonic() > until:
                complete = False
                break
    except OSError as exc:
        raise QuotaError(f"{folder} cannot be counted: {exc.strerror or exc}") from exc
    return Held(used=used, files=number, complete=complete)
