"""Folders of kernels that have ended: deleted when nothing is in them that is nowhere else."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.folder import kernel_folders
from cupola.lab.guardian.variables import restore

if TYPE_CHECKING:
    from collections.abc import Container

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["TIDY_S", "tidy"]

TIDY_S = 3600.0
KEPT_S = 30 * 86400.0
"""After the end of a kernel."""
YOUNG_S = 600.0
"""Younger folders are left alone: somebody may be about to start a kernel in one."""
MOST = 200
"""Folders of dead kernels; of more, those go first whose outputs are all in their notebooks."""


def tidy(manager: Any) -> list[str]:
    """Delete folders that nobody needs; return the ids of their kernels.

    Parameters
    ----------
    manager
        Of the kernels.
    """
    restore.tidy()
    dead = sorted(_dead(manager), key=lambda one: one[0], reverse=True)
    removed = []
    for number, (age, folder) in enumerate(dead):
        asked = folder.record().get("ended") == "asked"
        too_many = len(dead) - number > MOST
        if age > KEPT_S or ((asked or too_many) and _is_settled(manager, folder)):
            shutil.rmtree(folder.path, ignore_errors=True)
            removed.append(folder.kernel_id)
    return removed


def _dead(manager: Container[str]) -> list[tuple[float, KernelFolder]]:
    found = []
    for folder in kernel_folders():
        age = time.time() - _last_change(folder)
        if age > YOUNG_S and folder.kernel_id not in manager and not folder.alive:
            found.append((age, folder))
    return found


def _last_change(folder: KernelFolder) -> float:
    times = [0.0]
    for place in (folder.path, folder.record_file, folder.requests, *folder.journal.glob("*.jsonl")):
        with contextlib.suppress(OSError):
            times.append(place.stat().st_mtime)
    return max(times)


def _is_settled(manager: Any, folder: KernelFolder) -> bool:
    ledger = manager.ledger(folder.kernel_id)
    ledger.poll()
    return bool(getattr(ledger, "all_settled", False))
