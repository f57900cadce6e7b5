"""Which dead kernel's variables a new kernel gets: those of the last one that the notebook had, and each only once.

Nothing comes back of a kernel that its owner shut down or restarted: that is what these are for.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.folder import KernelFolder, kernel_folders
from cupola.lab.guardian.variables.snapshots import Restored, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VARIABLE", "claim", "comes", "newest_for", "tidy"]

VARIABLE = "CUPOLA_RESTORE"
"""Tells a new kernel the folder of the one whose variables it gets."""
COMES_S = 600.0
"""For so long after its start a kernel may be loading variables."""
ATTEMPTS = 2
"""Kernels that may die before they have stored themselves what they got; then the variables themselves are the cause."""


def newest_for(path: str, kernel_name: str) -> KernelFolder | None:
    """Return the dead kernel whose variables a new kernel of a notebook should get.

    Parameters
    ----------
    path
        The notebook's, as the server knows it.
    kernel_name
        Of the kernelspec: another one could not load them.

    Returns
    -------
    :
        Nothing where the notebook's last kernel still lives, was ended by its owner, or has stored nothing.
    """
    for folder in _kernels_of(path, kernel_name):
        if folder.alive or folder.record().get("ended") == "asked":
            return None
        if _has_variables(folder):
            return folder if _is_free(folder) else None
        # It died before it had stored anything: what it was given itself is still the newest.
    return None


def claim(path: str, kernel_name: str, kernel_id: str) -> KernelFolder | None:
    """Return what `newest_for` does, and see to it that no other kernel gets the same.

    Parameters
    ----------
    path, kernel_name
        As there.
    kernel_id
        Of the kernel that gets the variables; its environment needs the answer as `VARIABLE`.
    """
    folder = newest_for(path, kernel_name)
    if folder is None:
        return None
    mark = folder.variables / "taken"
    with contextlib.suppress(OSError):
        if mark.exists():
            # Of two that find it forgotten, one can move it.
            mark.rename(folder.variables / f"taken.{_attempts(folder) + 1}")
        file = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, json.dumps({"by": kernel_id, "path": path, "time": time.time()}).encode())
        finally:
            os.close(file)
        return folder
    return None


def comes(kernel: KernelFolder) -> bool:
    """Return whether a kernel is about to get variables: they are its own, but it has not said yet what is back."""
    if Restored.read(kernel) is not None or (kernel.variables / "problem.json").exists():
        return False
    is_new = time.time() - _started(kernel.record()) < COMES_S
    return is_new and any(_mark(folder).get("by") == kernel.kernel_id for folder in kernel_folders())


def tidy() -> int:
    """Remove stored variables that nobody will get any more; return how many bytes that were."""
    freed = 0
    for folder in kernel_folders():
        if not folder.alive and (folder.record().get("ended") == "asked" or _has_moved_on(folder)):
            (folder.variables / "index.json").unlink(missing_ok=True)
            freed += sum(map(_remove, folder.variables.glob("*.pkl")))
    return freed


def _kernels_of(path: str, kernel_name: str) -> list[KernelFolder]:
    """Return the kernels that a notebook had, the newest first."""
    found = []
    takers: set[str] = set()
    folders = [(folder.record(), folder) for folder in kernel_folders()]
    for record, folder in sorted(folders, key=lambda one: _started(one[0])):
        if record.get("kernel_name") != kernel_name:
            continue
        # A kernel that got the variables has not been asked anything yet, perhaps.
        if folder.kernel_id in takers or path in _paths(folder):
            found.append(folder)
            takers.add(str(_mark(folder).get("by", "")))
    return found[::-1]


def _started(record: dict[str, Any]) -> float:
    try:
        return float(record["started"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _paths(folder: KernelFolder) -> set[str]:
    """Return the notebooks that asked a kernel to run something, by the names that they have now."""
    paths: set[str] = set()
    with contextlib.suppress(OSError):
        for line in folder.requests.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                said = json.loads(line)
                if "from" in said:
                    if said["from"] in paths:
                        paths.remove(said["from"])
                        paths.add(str(said["path"]))
                elif said.get("path"):
                    paths.add(str(said["path"]))
    return paths


def _has_variables(folder: KernelFolder) -> bool:
    snapshot = Snapshot.read(folder)
    return snapshot is not None and bool(snapshot.variables or snapshot.modules or snapshot.left)


def _is_free(folder: KernelFolder) -> bool:
    """Whether nobody has the variables yet, or who had them died before it could store them."""
    mark = folder.variables / "taken"
    if not mark.exists():
        return True
    taker = _taker(folder)
    if taker is None:
        return False
    if taker.kernel_id == folder.kernel_id:  # a kernel that came back under its own id, and died again
        return _attempts(folder) < ATTEMPTS
    gone = not taker.alive and taker.record().get("ended") != "asked"
    return gone and Snapshot.read(taker) is None and _attempts(folder) < ATTEMPTS


def _mark(folder: KernelFolder) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder.variables / "taken").read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _taker(folder: KernelFolder) -> KernelFolder | None:
    with contextlib.suppress(ValueError):
        return KernelFolder.of(str(_mark(folder).get("by", "")))
    return None


def _attempts(folder: KernelFolder) -> int:
    return len(list(folder.variables.glob("taken.*")))


def _has_moved_on(folder: KernelFolder) -> bool:
    """Whether the kernel that got the variables got all of them, and has stored them itself."""
    taker, before = _taker(folder), Snapshot.read(folder)
    if taker is None or taker.kernel_id == folder.kernel_id or before is None:
        return False
    restored = Restored.read(taker)
    return (
        restored is not None and Snapshot.read(taker) is not None and len(restored.left) <= len(before.left)
    )


def _remove(file: Path) -> int:
    with contextlib.suppress(OSError):
        size = file.stat().st_size
        file.unlink()
        return size
    return 0
