"""What became of a notebook's kernel that ended without being asked to, in plain words."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cupola.lab.guardian.journal.ledger import State
from cupola.lab.guardian.kernels.watch_journal import words_of_end
from cupola.lab.guardian.variables import restore
from cupola.lab.guardian.variables.snapshots import Restored, clock

if TYPE_CHECKING:
    from cupola.lab.guardian.folder import KernelFolder
    from cupola.lab.guardian.journal.ledger import Execution, Ledger

__all__ = ["find_loss"]

_TAIL = 1 << 16
_KILLED = 9


@dataclass(frozen=True)
class _Ending:
    """How a kernel ended, or the one that had its id before it was started again."""

    epoch: int
    by: str
    """Who has ended it: ``asked`` or ``culled``; empty for nobody."""
    at: float
    """When it was heard of last, in seconds since 1970; 0 where nothing says it."""
    written: bool
    """Its guardian has seen it."""
    signal: int
    told: bool
    """The session ended, and it with it."""

    @classmethod
    def of(cls, folder: KernelFolder) -> Self | None:
        """Return how the last life of a kernel's id ended; nothing where it lives its first one."""
        record = folder.record()
        if not folder.alive:
            said = {"epoch": record.get("epoch"), "ended": record.get("ended"), **_last_words(folder)}
        elif isinstance(before := record.get("before"), dict):
            said = before
        else:
            return None
        with contextlib.suppress(TypeError, ValueError):  # of a later version
            return cls(
                epoch=int(said.get("epoch") or 0),
                by=str(said.get("ended") or ""),
                at=float(said.get("t") or 0),
                written="code" in said,
                signal=int(said.get("signal") or 0),
                told=bool(said.get("told")),
            )
        return None

    def cut_off(self, asked: float) -> bool:
        """Whether it was nobody's wish, and came after something was asked of the kernel; the journal has milliseconds."""
        return self.by != "asked" and (not self.at or round(asked, 3) <= self.at)

    @property
    def why(self) -> str:
        """The kind of the loss."""
        return self.by or ("kernel" if self.written else "container")

    def sentence(self, at: float) -> str:
        """Return what a person wants to know of it."""
        there = "All outputs up to then are here."
        if self.by == "culled":
            return f"The kernel was ended at {clock(at)}: nobody had used it for a while. {there}"
        if not self.written:
            return f"The kernel was lost: it ended with its container, or the machine below it, at {clock(at)}. {there}"
        if self.told:
            return f"The session was stopped: this notebook's kernel ended with it at {clock(at)}. {there}"
        how = "It was killed, most likely for want of memory. " if self.signal == _KILLED else ""
        if self.signal and self.signal != _KILLED:
            how = f"It was ended by signal {self.signal}. "
        return f"The kernel was lost: it ended at {clock(at)}. {how}{there}"


def find_loss(path: str, ledgers: list[Ledger], current: KernelFolder | None) -> dict[str, Any] | None:
    """Return which kernel of a notebook was lost, why, and what is back of it.

    Parameters
    ----------
    path
        The notebook's.
    ledgers
        Of all kernels of this home.
    current
        The kernel that the notebook has now: another one, or the same one, which was started again.

    Returns
    -------
    :
        Nothing where its last kernel lives, or was ended by its owner. ``id`` tells one loss from the next, also of one
        kernel; ``coming`` says that it will be known soon which variables are back.
    """
    restored = Restored.read(current) if current is not None else None
    found = _find(path, ledgers, current, restored)
    if found is None:
        return None
    lost, ending = found
    executions = [one for one in lost.executions.values() if one.path == path]
    at = ending.at or max((one.ended or one.started or one.asked for one in executions), default=0)
    cut = _cut(path, lost, ledgers)
    ended, (back, coming) = ending.sentence(at), _back(current, restored)
    return {
        "id": f"{lost.folder.kernel_id}.{ending.epoch}",
        "kernel": lost.folder.kernel_id,
        "at": at,
        "clock": clock(at),
        "why": ending.why,
        "cells": [one.cell for one in cut],
        "waited": [one.cell for one in cut if one.count is None],
        "restored": restored.as_json() if restored else None,
        "ended": ended,
        "back": back,
        "coming": coming,
        "text": f"{ended} {back}".strip(),
    }


def _find(
    path: str, ledgers: list[Ledger], current: KernelFolder | None, restored: Restored | None
) -> tuple[Ledger, _Ending] | None:
    """Return the kernel that was lost: the notebook's last one, or the one whose variables the new kernel got."""
    asked = {
        ledger.folder.kernel_id: [one.asked for one in ledger.executions.values() if one.path == path]
        for ledger in ledgers
    }
    used = [one for one in ledgers if asked[one.folder.kernel_id]]
    for ledger in sorted(used, key=lambda one: max(asked[one.folder.kernel_id]), reverse=True):
        name = ledger.folder.kernel_id
        ending = _Ending.of(ledger.folder)
        if ending is not None and ending.cut_off(min(asked[name])):
            return ledger, ending
        if restored is None or current is None or name != current.kernel_id:
            return None
    return None


def _cut(path: str, lost: Ledger, ledgers: list[Ledger]) -> list[Execution]:
    """Return the executions that ended with a kernel, of cells that were not executed since."""
    newest = {
        one.cell: one
        for one in sorted((one for each in ledgers for one in each.of(path)), key=lambda one: one.asked)
    }
    gone = not lost.folder.alive
    return [
        one
        for one in newest.values()
        if one.id in lost.executions and (one.state is State.LOST or (gone and not one.state.over))
    ]


def _last_words(folder: KernelFolder) -> dict[str, Any]:
    """Return what a kernel's journal says of its end."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        last = max(folder.journal.glob("*.jsonl"), default=None)
        if last is not None:
            with last.open("rb") as file:
                file.seek(max(0, last.stat().st_size - _TAIL))
                record = json.loads(file.read().splitlines()[-1])
            return words_of_end(record)
    return {}


def _back(current: KernelFolder | None, restored: Restored | None) -> tuple[str, bool]:
    """Say what runs now with which variables, and whether more is to be said soon."""
    if restored is not None:
        return f"A new kernel runs. {restored.sentence}", False
    if current is None:
        return "No kernel runs now; a new one gets its variables, as far as they are stored.", False
    if not current.alive:
        return "A new kernel is about to start; it gets its variables, as far as they are stored.", True
    if restore.comes(current):
        return "A new kernel runs; its variables are coming back.", True
    return "A new kernel runs without its variables: run the cells again.", False
