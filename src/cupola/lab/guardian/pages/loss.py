"""What became of a notebook's kernel that ended without being asked to, in plain words."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.ledger import State
from cupola.lab.guardian.variables.snapshots import Restored, clock

if TYPE_CHECKING:
    from cupola.lab.guardian.folder import KernelFolder
    from cupola.lab.guardian.journal.ledger import Ledger

__all__ = ["find_loss"]

_TAIL = 1 << 16
_KILLED = 9


def find_loss(path: str, ledgers: list[Ledger], current: KernelFolder | None) -> dict[str, Any] | None:
    """Return which kernel of a notebook was lost, why, and what is back of it.

    Parameters
    ----------
    path
        The notebook's.
    ledgers
        Of all kernels of this home.
    current
        The kernel that the notebook has now.

    Returns
    -------
    :
        Nothing where its last kernel lives, or was ended by its owner.
    """
    restored = Restored.read(current) if current is not None else None
    lost = _lost_one(path, ledgers, current, restored)
    if lost is None:
        return None
    executions = [one for one in lost.executions.values() if one.path == path]
    cut = [one for one in executions if not one.state.over or one.state is State.LOST]
    ending = _ending(lost.folder)
    at = float(
        ending.get("t") or max((one.ended or one.started or one.asked for one in executions), default=0)
    )
    why = "kernel" if "code" in ending else "container"
    if lost.folder.record().get("ended") == "culled":
        why = "culled"
    ended, back = _ended(why, ending, at), _back(current, restored)
    return {
        "kernel": lost.folder.kernel_id,
        "at": at,
        "clock": clock(at),
        "why": why,
        "cells": [one.cell for one in cut],
        "restored": restored.as_json() if restored else None,
        "ended": ended,
        "back": back,
        "text": f"{ended} {back}".strip(),
    }


def _lost_one(
    path: str, ledgers: list[Ledger], current: KernelFolder | None, restored: Restored | None
) -> Ledger | None:
    """Return the kernel that was lost: the notebook's last one, or the one whose variables the new kernel got."""
    asked = {
        ledger.folder.kernel_id: max(
            (one.asked for one in ledger.executions.values() if one.path == path), default=0.0
        )
        for ledger in ledgers
    }
    ledgers = sorted(
        (one for one in ledgers if asked[one.folder.kernel_id]), key=lambda one: asked[one.folder.kernel_id]
    )
    for ledger in reversed(ledgers):
        folder = ledger.folder
        if restored is not None and folder.kernel_id == restored.source:
            return ledger
        if folder.alive or folder.record().get("ended") == "asked":
            if restored is None or current is None or folder.kernel_id != current.kernel_id:
                return None
            continue
        return ledger
    return None


def _ending(folder: KernelFolder) -> dict[str, Any]:
    """Return the last record of a kernel's journal if it is that of its end; nothing where nobody could write it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        last = max(folder.journal.glob("*.jsonl"), default=None)
        if last is not None:
            with last.open("rb") as file:
                file.seek(max(0, last.stat().st_size - _TAIL))
                record = json.loads(file.read().splitlines()[-1])
            return record if record.get("type") == "end" else {"t": record.get("t")}
    return {}


def _ended(why: str, ending: dict[str, Any], at: float) -> str:
    there = "All outputs up to then are here."
    if why == "container":
        return f"The kernel was lost: it ended with its container, or the machine below it, at {clock(at)}. {there}"
    if why == "culled":
        return f"The kernel was ended at {clock(at)}: nobody had used it for a while. {there}"
    if ending.get("told"):
        return f"The session was stopped: this notebook's kernel ended with it at {clock(at)}. {there}"
    signal = ending.get("signal")
    how = "It was killed, most likely for want of memory. " if signal == _KILLED else ""
    if signal and signal != _KILLED:
        how = f"It was ended by signal {signal}. "
    return f"The kernel was lost: it ended at {clock(at)}. {how}{there}"


def _back(current: KernelFolder | None, restored: Restored | None) -> str:
    if restored is not None:
        return f"A new kernel runs. {restored.sentence}"
    if current is None:
        return "No kernel runs now; a new one gets its variables, as far as they are stored."
    return "A new kernel runs without its variables: run the cells again."
