"""Outputs of executions: those in memory, those read from the journal again, and full texts beside."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.fold import Fold
from cupola.lab.guardian.journal.texts import FullText, pointer, text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.lab.guardian.folder import KernelFolder
    from cupola.lab.guardian.journal.execution import Execution, Record
    from cupola.lab.guardian.journal.tail import Segments

__all__ = ["Memory", "said_of_gap"]

log = logging.getLogger(__name__)

MOST = 64 << 20
"""Characters, about, of outputs of executions that are over."""
_DISPLAYS = frozenset(("display_data", "update_display_data", "execute_result"))
_OUTPUTS = _DISPLAYS | {"stream", "error", "clear_output"}


class Memory:
    """The outputs of the executions of one kernel.

    Parameters
    ----------
    folder
        Of the kernel.
    journal
        Its journal.
    base_url
        Of the server, for links to full texts; empty for none.
    """

    def __init__(self, folder: KernelFolder, journal: Segments, base_url: str = "") -> None:
        self._folder = folder
        self._journal = journal
        self._base_url = base_url
        self._texts: dict[str, FullText] = {}
        self._dirty: dict[str, Execution] = {}
        self._problem = ""

    def new(self, one: Execution) -> Fold:
        """Return an execution's outputs, of which there are none yet."""
        return Fold(pointer=self._pointer(one))

    def recall(self, one: Execution, until: int | None) -> Fold:
        """Read the outputs of an execution from the journal.

        Parameters
        ----------
        one
            The execution.
        until
            The number of the last record that counts: those that follow will be told. Nothing for all.
        """
        fold = self.new(one)
        catching: set[str] = set()
        name, runs = one.id.encode(), False
        for segment in sorted(one.segments) or self._journal.numbers:
            for line in self._journal.read(segment):
                # Other executions may change what this one shows.
                if name not in line and b"display_data" not in line and b'"gap"' not in line:
                    continue
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    record = json.loads(line)
                    if until is not None and record.get("n", 0) > until:
                        return fold
                    if not _is_caught(record, one, catching):
                        runs = self._feed(fold, one, record, runs=runs)
                    fold.spilled()
        return fold

    def _feed(self, fold: Fold, one: Execution, record: Record, *, runs: bool) -> bool:
        kind = record["type"]
        mine = record.get("id") == one.id and "parent" not in record
        if kind == "status" and mine:
            return bool(record["content"]["execution_state"] == "busy")
        if kind == "gap" and runs:
            fold.feed("stream", said_of_gap(record)["content"])
        elif mine:
            fold.feed(kind, record["content"])
        elif kind in _DISPLAYS:
            fold.update(record["content"])
        return runs

    def shrink(self, executions: Iterable[Execution], but: Execution) -> None:
        """Keep little of what is over: what was not looked at can be read again."""
        sizes = [(one, one.kept.size) for one in executions if one.kept is not None]
        total = sum(size for _, size in sizes)
        for one, size in sizes:
            if total > MOST and one is not but and one.state.over:
                one.drop()
                total -= size

    # -- full texts -------------------------------------------------------------------------------------------

    def spill(self, one: Execution) -> bool:
        """See to it that what is left out is kept elsewhere; say whether `write` has something to do."""
        if one.kept is None or not one.kept.spills:
            return False
        if one.last <= self._text_of(one).done:
            one.kept.spilled()  # read again after a restart
            return False
        self._dirty[one.id] = one
        return True

    def write(self, *, really: bool) -> None:
        """Write what was left out, unless another server does it."""
        dirty, self._dirty = self._dirty, {}
        for one in dirty.values():
            text = one.kept.spilled(whole=one.state.over) if one.kept is not None else ""
            if not really or not text:
                continue
            try:
                self._text_of(one).add(text, one.last)
            except OSError as error:
                self._problem = error.strerror or str(error)
                log.warning("cupola: the full text of a cell cannot be kept: %s", error)

    def _text_of(self, one: Execution) -> FullText:
        if one.id not in self._texts:
            self._texts[one.id] = FullText(text_file(self._folder, one.id))
        return self._texts[one.id]

    def _pointer(self, one: Execution) -> Callable[[int, int], dict[str, Any]]:
        def point(lines: int, characters: int) -> dict[str, Any]:
            place = str(text_file(self._folder, one.id))
            home = os.path.expanduser("~")  # noqa: PTH111
            if place.startswith(home + "/"):
                place = "~" + place[len(home) :]
            address = ""
            if self._base_url:
                asked = f"kernel={self._folder.kernel_id}&id={one.id}"
                address = f"{self._base_url}cupola/api/guardian/text?{asked}"
            return pointer(place, address, lines, characters, self._problem)

        return point


def _is_caught(record: Record, one: Execution, catching: set[str]) -> bool:
    """Whether an output widget takes a record instead of the cell; `catching` has those widgets, and is brought up to date."""
    if record["type"] in {"comm_open", "comm_msg"}:
        content = record["content"]
        state = (content.get("data") or {}).get("state") or {}
        if "msg_id" in state:
            (catching.add if state["msg_id"] == one.id else catching.discard)(content["comm_id"])
        return True
    return bool(catching) and record.get("id") == one.id and record["type"] in _OUTPUTS


def said_of_gap(record: Record) -> Record:
    """Return a record about a hole in the journal as an output."""
    messages = f"{record['messages']} messages" if record.get("messages") else "Some messages"
    why = f": {record['why']}" if record.get("why") else ""
    text = f"\n[{messages} of the kernel are missing here{why}]\n"
    return {**record, "type": "stream", "content": {"name": "stderr", "text": text}}
