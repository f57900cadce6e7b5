"""Ask all kernels of this session to write down their variables now, and wait until they have."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.lab.guardian import folder
from cupola.lab.guardian.variables import snapshots

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
    """Return the folders of the kernels of `session` that live and can store variables: those of Python.

    Parameters
    ----------
    session
        Its id; other sessions may have the same home.
    """
    return [one for one in folder.living(session) if one.record().get("language") == "python"]


async def snapshot(folders: Iterable[KernelFolder], seconds: float = SECONDS) -> Kept:
    """Have kernels store their variables.

    Parameters
    ----------
    folders
        Of the kernels.
    seconds
        How long to wait; what has not answered by then is not counted.
    """
    waiting: dict[KernelFolder, str] = {}
    for one in folders:
        with contextlib.suppress(OSError):  # a full disk, say
            waiting[one] = snapshots.ask(one)
    until, stored = time.monotonic() + seconds, list[snapshots.Snapshot]()
    while waiting and time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        for one, token in list(waiting.items()):
            problem = snapshots.answer(one, token)
            if problem == "" and (found := snapshots.Snapshot.read(one)) is not None:
                stored.append(found)
            if problem is not None or not one.alive:
                del waiting[one]
    return Kept(
        kernels=len(stored),
        kept=sum(len(one.variables) for one in stored),
        left=sum(len(one.left) for one in stored),
    )
