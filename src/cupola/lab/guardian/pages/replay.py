"""What an execution has said so far, told to a page again, and then what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.fold import overwrite
from cupola.lab.guardian.journal.ledger import State
from cupola.lab.guardian.journal.widgets import turns_outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.guardian.journal.ledger import Execution, Record

__all__ = ["MOST_TEXT", "TOLD", "Replay"]

TOLD = frozenset(
    [
        "stream",
        "display_data",
        "execute_result",
        "error",
        "execute_input",
        "status",
        "update_display_data",
        "clear_output",
    ]
)
"""What a page gets from the journal. Widgets' messages come by the ordinary way: the page keeps their state.

Only those that turn outputs into a widget come from the journal too, for they must keep their place between the outputs.
"""
BETWEEN_S = 0.1
"""Text of the same stream that comes within this time is told as one message."""
MOST_TEXT = 1 << 18
"""Characters of streams that follow one by one; of what is longer the page gets what is kept of it, now and then."""
REFRESH_S = 3.0
AGAIN = {"cupola": "again"}
"""Metadata of messages that a page may have had before: they are meant for the cell, whoever listens in."""


class Replay:
    """The way of one execution from the journal to one page.

    Parameters
    ----------
    known
        The execution.
    header
        Of the page's request: what is told answers it.
    say
        Sends a message to the page: kind, content, header of the request, and by name channel and metadata.
    later
        Calls a function after so many seconds.
    """

    def __init__(
        self,
        known: Execution,
        header: dict[str, Any],
        say: Callable[..., None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.known = known
        self.header = header
        self._say = say
        self._later = later
        self.reply: dict[str, Any] | None = None
        """The kernel's own reply, where it came while this page listened."""
        self._waiting: list[Record] = []
        self._pausing = False
        self._text = 0
        self.over = False

    def start(self, *, flood: bool = False) -> None:
        """Tell what there is, and follow.

        Parameters
        ----------
        flood
            The page had more of it already than it can bear.
        """
        if flood:
            self._text = MOST_TEXT + 1
        known = self.known
        if known.state is not State.QUEUED:
            self.say("status", {"execution_state": "busy"})
        if known.count is not None:
            self.say("execute_input", {"code": known.code, "execution_count": known.count})
        self._tell_outputs()
        if known.question is not None:
            self.say("input_request", known.question, channel="stdin")
        if known.state.over:
            self._finish()
        else:
            known.listeners.add(self._hear)

    def stop(self) -> None:
        """Tell no more."""
        self.over = True
        self._waiting.clear()
        self.known.listeners.discard(self._hear)

    def say(self, kind: str, content: dict[str, Any], **options: Any) -> None:
        """Send a message to the page."""
        self._say(kind, content, self.header, **options)

    def _tell_outputs(self) -> None:
        outputs = self.known.fold.outputs
        # What is shown stays until the first output comes, so that the page does not jump.
        self.say("clear_output", {"wait": bool(outputs)}, metadata=AGAIN)
        for output in outputs:
            content = {key: value for key, value in output.items() if key != "output_type"}
            if isinstance(content.get("text"), list):
                content["text"] = "".join(content["text"])
            if name := self.known.fold.display_id(output):
                content["transient"] = {"display_id": name}
            self.say(output["output_type"], content, metadata=AGAIN)

    # -- what follows -----------------------------------------------------------------------------------------

    def _hear(self, record: Record) -> None:
        if record["type"] in TOLD or turns_outputs(record["type"], record.get("content") or {}):
            self._waiting.append(record)
        if self.known.state.over:
            self.flush()
            self._finish()
        elif not self._pausing:
            self.flush()
            self._pausing = True
            self._later(BETWEEN_S, self._go_on)

    def _go_on(self) -> None:
        self._pausing = False
        if self._waiting and not self.over:
            self._pausing = True
            self.flush()
            if self._is_flood:
                self._tell_outputs()
            self._later(REFRESH_S if self._is_flood else BETWEEN_S, self._go_on)

    @property
    def _is_flood(self) -> bool:
        return self._text > MOST_TEXT

    def flush(self) -> None:
        """Tell what was heard."""
        waiting, self._waiting = self._waiting, []
        if self._is_flood:
            waiting = [one for one in waiting if one["type"] in {"status", "comm_msg"}]
        for kind, content, metadata in _joined(waiting):
            if kind == "stream":
                self._text += len(content["text"])
                if self._is_flood:
                    continue
            if kind != "status" or content["execution_state"] != "idle":
                self.say(kind, content, metadata=metadata)

    def _finish(self) -> None:
        if self._is_flood:
            self._tell_outputs()
        self.stop()
        self.say("execute_reply", self.reply or self._made_up_reply(), channel="shell")
        self.say("status", {"execution_state": "idle"})

    def _made_up_reply(self) -> dict[str, Any]:
        known = self.known
        status = "error" if known.failed else "ok"
        if known.state is not State.DONE:
            status = "aborted"
        if status == "ok":
            return {"status": status, "execution_count": known.count, "payload": [], "user_expressions": {}}
        failure = {"ename": "", "evalue": "", "traceback": []}
        return {"status": status, "execution_count": known.count, **failure}


def _joined(records: list[Record]) -> list[tuple[str, dict[str, Any], dict[str, Any] | None]]:
    """Return kinds, contents and metadata, with text of the same stream in one piece."""
    found: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = []
    for record in records:
        kind, content = record["type"], record["content"]
        last = found[-1] if found else None
        if kind == "stream" and last and last[0] == "stream" and last[1]["name"] == content["name"]:
            last[1]["text"] += content["text"]
        else:
            found.append((kind, dict(content), record.get("metadata")))
    for kind, content, _ in found:
        if kind == "stream":
            content["text"] = _shortened(content["text"])
    return found


def _shortened(text: str) -> str:
    """Leave out what a progress bar has overwritten by itself; the first line may overwrite what the page has."""
    first, line_end, rest = text.partition("\n")
    return first + line_end + overwrite(rest)
