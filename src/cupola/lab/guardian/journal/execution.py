"""One request to execute a cell, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.fold import Fold

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DELETED", "Execution", "Record", "State"]

Record = dict[str, Any]
"""A line of the journal."""

DELETED = "deleted"
"""The reason of what is settled because its cell is no more: whatever it still puts out is not wanted."""


class State(StrEnum):
    """Where an execution is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    """Not executed, because one before it failed."""
    LOST = "lost"
    """The kernel ended before it did, or never got it."""

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self not in {State.QUEUED, State.RUNNING}


@dataclass(eq=False)
class Execution:
    """One request to execute a cell, and what came of it."""

    id: str
    session: str = ""
    """Of the page that asked."""
    path: str = ""
    cell: str = ""
    code: str = ""
    after: str = ""
    """The cell before it when it was asked for, where the page told."""
    state: State = State.QUEUED
    count: int | None = None
    asked: float = 0.0
    started: float | None = None
    ended: float | None = None
    failed: bool = False
    settled: str = ""
    """Why the file holds what counts of it."""
    settled_with: int = 0
    """The last record of the journal that is settled."""
    question: dict[str, Any] | None = None
    """What it asks its user just now."""
    answered: float = 0.0
    """When its last question was answered."""
    last: int = 0
    """The last record of the journal that changed its outputs."""
    late: bool = False
    """Whether its outputs changed after its end: by a thread, or by another cell."""
    here: bool = False
    """Whether this very server passed it on."""
    segments: set[int] = field(default_factory=set)
    """Those of the journal that have something of it."""
    listeners: set[Callable[[Record], None]] = field(default_factory=set)
    recall: Callable[[Execution], Fold] | None = None
    """Reads the outputs from the journal, where they are not kept in memory."""
    kept: Fold | None = field(default_factory=Fold)

    @property
    def fold(self) -> Fold:
        """Its outputs."""
        if self.kept is None:
            self.kept = self.recall(self) if self.recall else Fold()
        return self.kept

    @property
    def began(self) -> bool:
        """Whether the kernel began with it, so that it says what the cell shows."""
        return self.count is not None or self.state is State.RUNNING

    def take(self, record: Record) -> None:
        """Take the next record that may change its outputs."""
        number = record.get("n", 0)
        self.last = max(self.last, number)
        if self.settled and self.settled != DELETED and number > self.settled_with:
            self.settled = ""
        self.late |= self.state.over
        if self.kept is not None:
            self.kept.feed(record["type"], record["content"])

    def drop(self) -> None:
        """Keep no outputs in memory; whoever asks for them again waits for the journal to be read."""
        if self.kept is not None and self.state.over and not self.listeners and self.recall is not None:
            self.kept = None
