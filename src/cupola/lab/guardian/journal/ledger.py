"""What the journal of a kernel says, kept in memory: which cell was executed, and what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from typing import TYPE_CHECKING

from cupola.lab.guardian.journal.execution import DELETED, Execution, Record, State
from cupola.lab.guardian.journal.fold import display_id
from cupola.lab.guardian.journal.memory import Memory, said_of_gap
from cupola.lab.guardian.journal.requests import ReaderLock, Requests
from cupola.lab.guardian.journal.tail import Segments
from cupola.lab.guardian.journal.widgets import Widgets

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["DELETED", "Execution", "Ledger", "Record", "State"]

log = logging.getLogger(__name__)

_OUTPUT = frozenset(
    ("stream", "display_data", "execute_result", "error", "clear_output", "update_display_data")
)
_COMM = frozenset(("comm_open", "comm_msg", "comm_close"))
_HEAD = re.compile(rb'\{"n": ?(\d+), ?"t": ?[\d.]+, ?"type": ?"(\w+)", ?"id": ?"([^"\\]*)"')
"""How the guardian's records begin; what is no longer wanted needs no further reading."""
LOOK_S = 2.0
"""Between two looks whether the kernel still lives."""
STARTS_S = 3.0
"""A kernel that is started has its guardian by then."""
SENT_S = 3.0
"""After this time an idle kernel that says nothing of a request of an earlier server has never got it."""
CUT_AFTER_S = 3600.0
"""A page that was left open may ask for what another one has saved."""
_AT_ONCE = 500


class Ledger:
    """The executions of one kernel.

    Parameters
    ----------
    folder
        Of the kernel.
    base_url
        Of the server, for links to full texts; empty for none.
    """

    def __init__(self, folder: KernelFolder, base_url: str = "") -> None:
        self.folder = folder
        self.executions: dict[str, Execution] = {}
        self.askers: set[Callable[[Record], None]] = set()
        """Hear every question of the kernel, also those of consoles."""
        self.changes = 0
        """Goes up with each change of outputs or states."""
        self.read = 0
        """The number of the last record that was read."""
        self.widgets = Widgets(folder.path / "widgets.json")
        self._cells: dict[tuple[str, str], list[str]] = {}
        self._displays: dict[str, set[str]] = {}
        self._segments: dict[int, set[str]] = {}
        self._requests = Requests(folder)
        self._journal = Segments(folder.journal)
        self._memory = Memory(folder, self._journal, base_url)
        self._lock = ReaderLock(folder)
        self._running = ""
        self._ended = False
        self._opened = time.monotonic()
        self._looked = 0.0

    # -- what is known ----------------------------------------------------------------------------------------

    @property
    def running(self) -> Execution | None:
        """The execution of a cell that the kernel is busy with."""
        return self.executions.get(self._running)

    @property
    def busy_with(self) -> str:
        """The id of what the kernel executes, for a notebook or a console; empty for nothing."""
        return self._running

    @property
    def busy(self) -> bool:
        """Whether the kernel executes something."""
        return bool(self._running)

    def of(self, path: str) -> list[Execution]:
        """Return the newest execution of each cell of a notebook."""
        return [self.executions[names[-1]] for (where, _), names in self._cells.items() if where == path]

    def begun_of(self, path: str) -> list[Execution]:
        """Return, of each cell of a notebook, the newest execution that the kernel began with: what the cell shows."""
        found = []
        for (where, _), names in self._cells.items():
            if where == path:
                began = (one for one in map(self.executions.__getitem__, reversed(names)) if one.began)
                found += [one for one in (next(began, None),) if one is not None]
        return found

    def paths(self) -> set[str]:
        """Return the notebooks that asked this kernel for something."""
        return {path for path, _ in self._cells}

    def comms(self) -> dict[str, str]:
        """Return the targets of the comms that are open, by their ids."""
        return {} if self._ended else self.widgets.comms()

    @property
    def all_settled(self) -> bool:
        """Whether nothing is lost with the journal."""
        return all(self._is_done_with(one) for one in self.executions.values())

    def _is_done_with(self, one: Execution) -> bool:
        if not one.state.over:
            return one.settled == DELETED
        if one.settled or not one.began:
            return True
        names = self._cells.get((one.path, one.cell), [])
        after = names[names.index(one.id) + 1 :] if one.id in names else []
        return any(self.executions[name].began for name in after)

    def was_sent(self, name: str) -> bool:
        """Return whether the kernel got a request; a server may have ended between noting it and passing it on."""
        one = self.executions.get(name)
        if one is None:
            return False
        if one.began or one.here or one.state is State.ABORTED or one.segments:
            return True
        return not self._is_forgotten(one)

    def _is_forgotten(self, one: Execution) -> bool:
        """Whether a request of an earlier server has never reached the kernel."""
        if one.here or one.segments or one.began:
            return False
        # Requests are taken in their order.
        if any(other.asked > one.asked and other.began for other in self.executions.values()):
            return True
        return not self._running and time.monotonic() - self._opened > SENT_S

    # -- writing ----------------------------------------------------------------------------------------------

    @property
    def writes(self) -> bool:
        """Whether it is this server that keeps the journal and the files of its notebooks."""
        return self._lock.held

    def close(self) -> None:
        """Let another server keep the journal."""
        self._lock.let_go()

    def note_answer(self, execution: Execution) -> None:
        """Write down that a question was answered: it is not asked again."""
        record = {"id": execution.id, "answered": time.time()}
        with contextlib.suppress(OSError):
            self._requests.add(record)
        self._ask(record)

    def note(self, execution: Execution) -> None:
        """Write down a request, before it is passed on.

        Raises
        ------
        OSError
            If it cannot be written; it is known all the same as long as this server lives.
        """
        fields = ("id", "session", "path", "cell", "code", "after")
        record = {name: value for name in fields if (value := getattr(execution, name))} | {"t": time.time()}
        record = {"path": "", "cell": "", "code": "", "session": ""} | record
        # Before the write, so that no two follow one another unnoticed.
        self._ask(record)
        self.executions[execution.id].here = True
        self._requests.add(record)

    def rename(self, before: str, after: str) -> None:
        """Write down that a notebook, or a folder with notebooks, has another name now."""
        if any(_renamed(path, before, after) for path, _ in self._cells):
            record = {"from": before, "path": after, "t": time.time()}
            self._ask(record)
            with contextlib.suppress(OSError):
                self._requests.add(record)

    def settle(self, one: Execution, reason: str) -> None:
        """Write down that the file holds what counts of an execution; the journal may be cut.

        Raises
        ------
        OSError
            If it cannot be written; then it is not settled.
        """
        if one.settled == reason and one.settled_with >= one.last:
            return
        fields = ("state", "count", "started", "ended", "failed")
        record = {"id": one.id, "settled": reason, "n": one.last or self.read}
        self._requests.add(record | {name: getattr(one, name) for name in fields})
        self._ask(record)

    # -- reading ----------------------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Read what is new; say whether there was something."""
        before = self.changes
        self._read_requests()
        if self._rests():
            return self.changes != before
        for segment, line in self._journal.lines():
            self._hear(segment, line)
        self._look_after_kernel()
        self._memory.write(really=self.writes)
        return self.changes != before

    def _rests(self) -> bool:
        """Whether the kernel is no more, and nobody needs what it said: a home may have many such journals."""
        if self.read or not all(one.settled for one in self.executions.values()):
            return False
        if time.monotonic() - self._looked > LOOK_S or not self._looked:
            self._looked, self._ended = time.monotonic(), not self.folder.alive
        return self._ended

    def _read_requests(self) -> None:
        for request in self._requests.new():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # of a later version
                self._ask(request)

    def _ask(self, request: Record) -> None:
        self.changes += 1
        if "from" in request:
            self._rename(request["from"], request["path"])
        elif "settled" in request:
            self._settle(request)
        elif "answered" in request:
            if one := self.executions.get(request["id"]):
                one.answered, one.question = request["answered"], None
        elif "cell" in request:
            self._ask_for(request)

    def _ask_for(self, request: Record) -> None:
        one = self.executions.get(request["id"])
        if one is None:
            one = Execution(request["id"], recall=lambda one: self._memory.recall(one, self.read or None))
            one.kept = self._memory.new(one)
        elif one.asked == request["t"]:
            return  # our own, read again
        self._forget_cell(one)
        one.session, one.path, one.cell = request["session"], request["path"], request["cell"]
        one.code, one.asked, one.after = request["code"], request["t"], request.get("after", "")
        if one.state is State.LOST and not one.began:
            one.state, one.ended = State.QUEUED, None  # asked for once more
        self.executions[one.id] = one
        self._cells.setdefault((one.path, one.cell), []).append(one.id)

    def _forget_cell(self, one: Execution) -> None:
        names = self._cells.get((one.path, one.cell), [])
        if one.id in names:
            names.remove(one.id)
            if not names:
                del self._cells[one.path, one.cell]

    def _rename(self, before: str, after: str) -> None:
        cells, self._cells = self._cells, {}
        for (path, cell), names in cells.items():
            now = _renamed(path, before, after) or path
            for name in names:
                self.executions[name].path = now
            there = self._cells.setdefault((now, cell), [])
            there += names
            there.sort(key=lambda name: self.executions[name].asked)

    def _settle(self, request: Record) -> None:
        one = self.executions.get(request["id"])
        if one is None:
            return
        one.settled, one.settled_with = request["settled"], int(request.get("n", one.last))
        if not one.began and "state" in request:
            # The journal may not tell it any more.
            one.state = State(request["state"])
            one.count, one.failed = request.get("count"), bool(request.get("failed"))
            one.started, one.ended = request.get("started"), request.get("ended")
        if one.last > one.settled_with and one.settled != DELETED:
            one.settled = ""
        one.drop()

    def _hear(self, segment: int, line: bytes) -> None:
        """Take a line of the journal."""
        kind, name, number = "", "", 0
        if head := _HEAD.match(line):
            number, kind, name = int(head[1]), head[2].decode(), head[3].decode(errors="replace")
            if number <= self.read:
                return
            if kind == "stream" and self._is_unwanted(segment, name, number):
                self.read = number
                return
        try:
            record: Record = json.loads(line)
            kind, name, number = record["type"], record.get("id", ""), int(record.get("n", self.read + 1))
            if number > self.read:
                self.read = number
                self._take(segment, kind, name, record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A torn line of a crash of the machine, or a kernel that says what nobody understands.
            log.debug("cupola: a record of %s is left out: %s", self.folder.kernel_id, error)

    def _is_unwanted(self, segment: int, name: str, number: int) -> bool:
        if self.widgets.catches(name):
            return False
        one = self._of(name)
        if one is None:
            return True
        if number > one.settled_with or not one.settled or one.listeners:
            return False
        one.segments.add(segment)
        self._segments.setdefault(segment, set()).add(name)
        one.last = max(one.last, number)
        return True

    def _of(self, name: str) -> Execution | None:
        one = self.executions.get(name)
        if one is None and name:
            # Another server may have noted it since we looked.
            self._read_requests()
            one = self.executions.get(name)
        return one

    def _take(self, segment: int, kind: str, name: str, record: Record) -> None:
        self.changes += 1
        self._take_of_kernel(segment, kind, name, record)
        one = self._of(name)
        if kind == "input_request":
            if one is not None and record["t"] > one.answered:
                one.question = record["content"]
            for asker in tuple(self.askers):
                asker(record)
            return
        caught = kind in _OUTPUT and self.widgets.take(record)
        if kind in {"display_data", "update_display_data", "execute_result"}:
            self._update_others(segment, one, record)
        if one is None or "parent" in record:
            return
        self._mark(segment, one)
        if kind == "execute_input":
            one.count = record["content"].get("execution_count")
        elif kind == "status":
            self._status(one, record["content"]["execution_state"], record["t"])
        elif kind in _OUTPUT and not caught:
            self._feed(one, record)
        for listener in tuple(one.listeners):
            listener(record)

    def _take_of_kernel(self, segment: int, kind: str, name: str, record: Record) -> None:
        """Take what is of the kernel as a whole."""
        if kind in {"start", "end"}:
            self._end(record, ended=kind == "end")
        elif kind == "gap":
            self._miss(segment, record)
        elif kind in _COMM:
            self.widgets.feed(record)
        elif kind == "status" and "parent" not in record:
            self._note_running(name, record)

    def _mark(self, segment: int, one: Execution) -> None:
        one.segments.add(segment)
        self._segments.setdefault(segment, set()).add(one.id)

    def _feed(self, one: Execution, record: Record) -> None:
        one.failed |= record["type"] == "error"
        one.take(record)
        if (name := display_id(record["content"])) and record["type"] == "display_data":
            self._displays.setdefault(name, set()).add(one.id)
        if self._memory.spill(one) and self.read % _AT_ONCE == 0:
            self._memory.write(really=self.writes)

    def _update_others(self, segment: int, one: Execution | None, record: Record) -> None:
        """Change what other cells show under the same id."""
        change = {**record, "type": "update_display_data"}
        for name in self._displays.get(display_id(record["content"]), ()):
            other = self.executions[name]
            if other is not one or "parent" in record:
                self._mark(segment, other)
                other.take(change)
                for listener in tuple(other.listeners):
                    listener(change)

    def _miss(self, segment: int, record: Record) -> None:
        """Let the outputs say that the journal has a hole."""
        one = self.running
        if one is not None:
            self._mark(segment, one)
            one.take(said_of_gap(record))

    def _note_running(self, name: str, record: Record) -> None:
        state = record["content"]["execution_state"]
        if state == "busy":
            self._running = name
        elif state == "idle" and self._running == name:
            self._running = ""

    def _status(self, one: Execution, state: str, at: float) -> None:
        if state == "busy":
            one.state, one.started, one.ended = State.RUNNING, at, None
        elif state == "idle":
            one.state = State.DONE if one.count is not None else State.ABORTED
            one.ended, one.question = at, None
            for name in self._cells.get((one.path, one.cell), [])[:-1]:
                self.executions[name].drop()
            self._memory.shrink(self.executions.values(), one)

    def _end(self, record: Record, *, ended: bool) -> None:
        """Note that the kernel has ended, or that another one begins under its id."""
        self._running, self._ended = "", ended
        self.widgets.end()
        # Ids of displays are of one kernel.
        self._displays.clear()
        for one in self.executions.values():
            # What was asked for later is not of the kernel before; the journal has milliseconds.
            if not one.state.over and round(one.asked, 3) <= record["t"]:
                self._lose(one, record)

    def _lose(self, one: Execution, record: Record) -> None:
        one.state, one.ended, one.question = State.LOST, record["t"], None
        self.changes += 1
        for listener in tuple(one.listeners):
            listener(record)

    def _look_after_kernel(self) -> None:
        """Give up what a dead kernel will never do, and what never reached it."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        waiting = [one for one in self.executions.values() if not one.state.over]
        if waiting and not self.folder.alive:
            last = self._last_sign()
            # One that was just asked for may be of a kernel that is about to start.
            if time.time() - max(last, *(one.asked for one in waiting)) > STARTS_S:
                self._running, self._ended = "", True
                for one in waiting:
                    self._lose(one, {"n": self.read, "t": last, "type": "end", "content": {}})
            return
        for one in waiting:
            if one.state is State.QUEUED and self._is_forgotten(one):
                self._lose(one, {"n": self.read, "t": one.asked, "type": "lost", "content": {}})

    def _last_sign(self) -> float:
        """Return when the kernel was heard of last."""
        numbers = self._journal.numbers
        with contextlib.suppress(OSError):
            return self._journal.path(numbers[-1]).stat().st_mtime if numbers else time.time()
        return time.time()

    # -- the end of the journal ---------------------------------------------------------------------------------

    def cut(self, after: float = CUT_AFTER_S) -> list[int]:
        """Delete the segments of the journal of which nothing is needed any more; return their numbers.

        Parameters
        ----------
        after
            Seconds for which a segment has not grown.
        """
        if not self.writes:
            return []
        gone = []
        for number in self._journal.numbers[:-1]:
            names = self._segments.get(number, set())
            try:
                old = time.time() - self._journal.path(number).stat().st_mtime > after
            except OSError:
                continue
            if old and all(self._is_cuttable(self.executions[name]) for name in names):
                gone.append(number)
        if gone and self.widgets.save(self.read):
            for number in gone:
                self._journal.delete(number)
                self._segments.pop(number, None)
            return gone
        return []

    def _is_cuttable(self, one: Execution) -> bool:
        return self._is_done_with(one) and not one.listeners


def _renamed(path: str, before: str, after: str) -> str:
    """Return the new name of a notebook, empty where it has kept its own."""
    if path == before:
        return after
    return after + path[len(before) :] if path.startswith(before + "/") else ""
