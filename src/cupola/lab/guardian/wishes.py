"""Ask the kernels of this session to write down their variables now, and wait until they have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.folder import kernel_folders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["Kept", "living", "snapshot"]

SECONDS = 25.0
LOOK_S = 0.2


@dataclass(frozen=True)
class Kept:
    """What kernels have written."""

    kernels: int = 0
    kept: int = 0
    left: int = 0


def living(session: str) -> list[KernelFolder]:
    """Return the folders of the kernels of `session` that live and can store variables.

    Parameters
    ----------
    session
        Its id; other sessions may have the same home.
    """
    found = []
    for folder in kernel_folders():
        record = folder.record()
        if (
            str(record.get("session") or "") == session
            and record.get("language") == "python"
            and folder.alive
        ):
            found.append(folder)
    return found


async def snapshot(folders: Iterable[KernelFolder], token: str, seconds: float = SECONDS) -> Kept:
    """Have kernels store their variables.

    Parameters
    ----------
    folders
        Of the kernels.
    token
        What tells this wish from others: letters and digits.
    seconds
        How long to wait; what has not answered by then is not counted.
    """
    waiting = [folder for folder in folders if _ask(folder, token)]
    until, done = time.monotonic() + seconds, list[dict[str, Any]]()
    while waiting and time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        for folder in list(waiting):
            if (index := _answer(folder, token)) is not None:
                done.append(index)
            if index is not None or _refused(folder, token) or not folder.alive:
                waiting.remove(folder)
    return Kept(
        kernels=len(done),
        kept=sum(len(index.get("variables") or ()) for index in done),
        left=sum(len(index.get("left") or ()) for index in done),
    )


def _ask(folder: KernelFolder, token: str) -> bool:
    """Write the wish down for a kernel; say whether that could be done."""
    try:
        folder.variables.mkdir(mode=0o700, exist_ok=True)
        # Added to what others wish: each waits for a token of its own.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(folder.variables / "wanted", flags, 0o600)
        try:
            os.write(file, f"{token}\n".encode())
        finally:
            os.close(file)
    except OSError:
        return False
    return True


def _answer(folder: KernelFolder, token: str) -> dict[str, Any] | None:
    index = _read(folder, "index.json")
    return index if token in {index.get("token"), *(index.get("tokens") or ())} else None


def _refused(folder: KernelFolder, token: str) -> bool:
    return token in (_read(folder, "problem.json").get("tokens") or ())


def _read(folder: KernelFolder, name: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder.variables / name).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
