"""What the journal of a kernel says, kept in memory: which cell was executed, and what came of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.fold import Fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["Execution", "Ledger", "Record", "State"]

Record = dict[str, Any]
"""A line of the journal."""


class State(StrEnum):
    """Where an execution is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    """Not executed, because one before it failed."""
    LOST = "lost"
    """The kernel ended before it did."""

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self not in {State.QUEUED, State.RUNNING}


@dataclass
class Execution:
    """One request to execute a cell, and what came of it."""

    id: str
    session: str = ""
    """Of the page that asked."""
    path: str = ""
    cell: str = ""
    code: str = ""
    state: State = State.QUEUED
    count: int | None = None
    asked: float = 0.0
    started: float | None = None
    ended: float | None = None
    failed: bool = False
    settled: str = ""
    question: dict[str, Any] | None = None
    """What it asks its user just now."""
    answered: float = 0.0
    """When its user answered last."""
    fold: Fold = field(default_factory=Fold)
    listeners: set[Callable[[Record], None]] = field(default_factory=set)


class _Tail:
    """Reads whole lines of files that grow.

    Parameters
    ----------
    find
        Returns the files in their order.
    """

    def __init__(self, find: Callable[[], Iterable[Path]]) -> None:
        self._find = find
        self._read: dict[Path, int] = {}

    def lines(self) -> list[Record]:
        found: list[Record] = []
        for place in self._find():
            start = self._read.get(place, 0)
            try:
                if place.stat().st_size <= start:
                    continue
                with place.open("rb") as file:
                    file.seek(start)
                    data = file.read()
            except OSError:
                continue
            # The last line may be half written.
            data = data[: data.rfind(b"\n") + 1]
            self._read[place] = start + len(data)
            for line in data.splitlines():
                with contextlib.suppress(ValueError):  # a torn line of a crash of the machine
                    found.append(json.loads(line))
        return found


class Ledger:
    """The executions of one kernel.

    Parameters
    ----------
    folder
        Of the kernel.
    """

    def __init__(self, folder: KernelFolder) -> None:
        self.folder = folder
        self.executions: dict[str, Execution] = {}
        self.cells: dict[str, str] = {}
        """The newest execution of each cell."""
        self._requests = _Tail(lambda: [folder.requests])
        self._journal = _Tail(lambda: sorted(folder.journal.glob("*.jsonl")))
        self.running: Execution | None = None
        self.askers: set[Callable[[Record], None]] = set()
        """Hear every question of the kernel, also those of consoles."""

    @property
    def busy(self) -> bool:
        """Whether the kernel executes something."""
        return self.running is not None

    def of(self, path: str) -> list[Execution]:
        """Return the newest execution of each cell of a notebook."""
        newest = (self.executions[one] for one in self.cells.values())
        return [one for one in newest if one.path == path]

    def note_answer(self, execution: Execution) -> None:
        """Write down that a question was answered: it is not asked again."""
        record = {"id": execution.id, "answered": time.time()}
        with contextlib.suppress(OSError):
            self._write(record)
        self._ask(record)

    def note(self, execution: Execution) -> None:
        """Write down a request, before it is passed on.

        Raises
        ------
        OSError
            If it cannot be written; it is known all the same as long as this server lives.
        """
        fields = ("id", "session", "path", "cell", "code")
        record = {name: getattr(execution, name) for name in fields} | {"t": time.time()}
        # Before the write, so that no two follow one another unnoticed.
        self._ask(record)
        self._write(record)

    def _write(self, record: Record) -> None:
        line = (json.dumps(record) + "\n").encode()
        with self.folder.requests.open("ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                written = file.write(line)
            except OSError:
                written = 0
            if written != len(line):
                # Half a line would spoil the next one.
                file.truncate(start)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder.requests))

    def poll(self) -> bool:
        """Read what is new; say whether there was something."""
        requests, records = self._requests.lines(), self._journal.lines()
        for request in requests:
            self._ask(request)
        for record in records:
            self._take(record)
        return bool(requests or records)

    def _ask(self, request: Record) -> None:
        if "settled" in request:
            if request["id"] in self.executions:
                self.executions[request["id"]].settled = request["settled"]
            return
        if "answered" in request:
            if request["id"] in self.executions:
                self.executions[request["id"]].answered = request["answered"]
                self.executions[request["id"]].question = None
            return
        if "cell" not in request:
            return
        one = self.executions.setdefault(request["id"], Execution(request["id"]))
        one.session, one.path, one.cell = request["session"], request["path"], request["cell"]
        one.code, one.asked = request["code"], request["t"]
        self.cells[one.cell] = one.id

    def _take(self, record: Record) -> None:
        kind = record["type"]
        if kind in {"start", "end"}:
            self._end(record)
            return
        one = self.executions.get(record.get("id", ""))
        if kind == "input_request":
            if one is not None and record["t"] > one.answered:
                one.question = record["content"]
            for asker in tuple(self.askers):
                asker(record)
            return
        if one is None or "parent" in record:
            return
        content = record["content"]
        if kind == "execute_input":
            one.count = content.get("execution_count")
        elif kind == "status":
            self._status(one, content["execution_state"], record["t"])
        else:
            one.failed |= kind == "error"
            one.fold.feed(kind, content)
        for listener in tuple(one.listeners):
            listener(record)

    def _status(self, one: Execution, state: str, at: float) -> None:
        if state == "busy":
            one.state, one.started, self.running = State.RUNNING, at, one
        elif state == "idle":
            one.state = State.DONE if one.count is not None else State.ABORTED
            one.ended, one.question = at, None
            if self.running is one:
                self.running = None

    def _end(self, record: Record) -> None:
        """Note that the kernel has ended, or that another one begins under its id."""
        self.running = None
        for one in self.executions.values():
            if not one.state.over:
                one.state, one.ended, one.question = State.LOST, record["t"], None
                for listener in tuple(one.listeners):
                    listener(record)
