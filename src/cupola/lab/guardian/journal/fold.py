"""From what a kernel said to the outputs of a cell, as JupyterLab would show and save them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from cupola.lab.guardian.journal.kept import Kept, Limits, Output
from cupola.lab.guardian.journal.stream import StreamText, overwrite

__all__ = ["Fold", "Limits", "overwrite", "same_outputs"]

Pointer = Callable[[int, int], Output]
"""Makes the output that stands for lines and characters left out."""


def _say_left_out(lines: int, characters: int) -> Output:
    said = f"[{lines:,} lines ({characters:,} characters) are left out here]\n"
    return {"output_type": "display_data", "data": {"text/plain": said}, "metadata": {}}


class Fold:
    """The outputs of one execution.

    Parameters
    ----------
    limits
        Of what is kept.
    pointer
        Makes the output that stands for what is left out.
    """

    def __init__(self, limits: Limits | None = None, pointer: Pointer = _say_left_out) -> None:
        self._kept = Kept(limits or Limits())
        self._pointer = pointer
        self._text = StreamText()
        self._stream: Output | None = None
        self._displays: dict[str, list[Output]] = {}
        self._names: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self._rich = 0
        self._clear_next = False

    # -- taking -----------------------------------------------------------------------------------------------

    def feed(self, kind: str, content: dict[str, Any]) -> None:
        """Take the next message.

        Parameters
        ----------
        kind, content
            Of a message on iopub that belongs to the execution.
        """
        if kind == "stream":
            self._add_text(content)
        elif kind in {"display_data", "execute_result", "error"}:
            # JupyterLab changes what was shown under the id before, too.
            self.update(content)
            self._add(kind, content)
        elif kind == "update_display_data":
            self.update(content)
        elif kind == "clear_output":
            if content.get("wait"):
                self._clear_next = True
                self._end_stream()
            else:
                self._clear()

    def update(self, content: dict[str, Any]) -> bool:
        """Change what was shown under a display id; say whether there was something."""
        shown = self._displays.get(display_id(content), [])
        for output in shown:
            fields = _fields("display_data", content)
            # It is no longer a result, even if it was.
            output.clear()
            output.update(self._weigh(output, fields))
        return bool(shown)

    def _clear(self) -> None:
        self._end_stream()
        self._kept.clear()
        self._displays.clear()
        self._names.clear()
        self._sizes.clear()
        self._rich = 0

    def _clear_if_asked(self) -> None:
        if self._clear_next:
            self._clear()
            self._clear_next = False

    def _end_stream(self) -> None:
        if self._stream is not None and (line := self._text.rest()):
            self._forget(self._kept.add(self._stream, line))
        self._stream = None

    def _add_text(self, content: dict[str, Any]) -> None:
        self._clear_if_asked()
        name, text = str(content.get("name") or "stdout"), _joined(content.get("text", ""))
        if self._stream is None or self._stream["name"] != name:
            self._end_stream()
            self._stream = {"output_type": "stream", "name": name, "text": ""}
        for line in self._text.feed(text):
            self._forget(self._kept.add(self._stream, line))

    def _add(self, kind: str, content: dict[str, Any]) -> None:
        self._clear_if_asked()
        self._end_stream()
        output: Output = {}
        output.update(self._weigh(output, _fields(kind, content)))
        # Only these can be changed later, whatever else carries an id.
        if kind == "display_data" and (name := display_id(content)):
            self._displays.setdefault(name, []).append(output)
            self._names[id(output)] = name
        self._forget(self._kept.add(output))

    def _weigh(self, output: Output, fields: Output) -> Output:
        """Return what is kept of `fields`: a page must be able to bear all of them together."""
        size = _size(fields)
        before = self._sizes.get(id(output), 0)
        if self._rich - before + size > self._kept.limits.rich:
            kinds = ", ".join(sorted(fields.get("data", {}))) or fields["output_type"]
            said = (
                f"[{kinds} of {size:,} characters is left out: the outputs of this cell are too big together]"
            )
            fields = {
                "output_type": "display_data",
                "data": {"text/plain": said},
                "metadata": {},
            }
            size = len(said)
        self._rich += size - before
        self._sizes[id(output)] = size
        return fields

    def _forget(self, gone: list[Output]) -> None:
        for output in gone:
            self._rich -= self._sizes.pop(id(output), 0)
            if name := self._names.pop(id(output), ""):
                self._displays[name] = [one for one in self._displays[name] if one is not output]

    # -- telling ----------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> list[Output]:
        """The outputs; those that are no streams can be asked for their `display_id`."""
        cut = None
        if self._kept.lines_left_out:
            cut = self._pointer(self._kept.lines_left_out, self._kept.characters_left_out)
        return self._kept.outputs(self._text.line, self._stream, cut)

    def display_id(self, output: Output) -> str:
        """Return under which id `output`, one of `outputs`, can be changed; empty for most."""
        return self._names.get(id(output), "")

    @property
    def display_ids(self) -> set[str]:
        """Under which ids something can be changed."""
        return set(self._displays)

    def copy(self) -> list[Output]:
        """Return the outputs, for somebody who may change them."""
        return copy.deepcopy(self.outputs)

    @property
    def size(self) -> int:
        """About how many characters are kept."""
        return self._rich + self._kept.size + len(self._text)

    @property
    def spills(self) -> bool:
        """Whether something was left out, so that the full text is to be kept elsewhere."""
        return self._kept.spills

    def spilled(self, *, whole: bool = False) -> str:
        """Return what is to be added to the full text; with `whole` the unfinished line too."""
        if whole and self._kept.spills and self._stream is not None and (line := self._text.rest()):
            self._forget(self._kept.add(self._stream, line))
        text = "".join(self._kept.spilled)
        self._kept.spilled.clear()
        return text


def display_id(content: dict[str, Any]) -> str:
    """Return the display id that a message carries, empty where it has none."""
    transient = content.get("transient")
    return str(transient.get("display_id") or "") if isinstance(transient, dict) else ""


def same_outputs(one: list[Output], other: list[Output]) -> bool:
    """Return whether two lists of outputs are the same, however they are written down."""
    return [_plain(output) for output in one if output.get("name") != "stdin"] == [
        _plain(output) for output in other if output.get("name") != "stdin"
    ]


def _plain(output: Output) -> Output:
    found = {key: value for key, value in output.items() if key != "transient"}
    if "text" in found:
        found["text"] = _joined(found["text"])
    if isinstance(found.get("data"), dict):
        found["data"] = {kind: _as_kept(kind, value) for kind, value in found["data"].items()}
    return found


def _fields(kind: str, content: dict[str, Any]) -> Output:
    """Return what a notebook keeps of a message; what its format requires is there in any case."""
    if kind == "error":
        traceback = content.get("traceback")
        return {
            "output_type": kind,
            "ename": str(content.get("ename", "")),
            "evalue": str(content.get("evalue", "")),
            "traceback": [str(line) for line in traceback] if isinstance(traceback, list) else [],
        }
    data, metadata = content.get("data"), content.get("metadata")
    fields: Output = {
        "output_type": kind,
        "data": {key: _as_kept(key, value) for key, value in data.items()} if isinstance(data, dict) else {},
        "metadata": copy.deepcopy(metadata) if isinstance(metadata, dict) else {},
    }
    if kind == "execute_result":
        count = content.get("execution_count")
        fields["execution_count"] = count if isinstance(count, int) else None
    return fields


def _as_kept(kind: str, value: Any) -> Any:
    if kind == "application/json" or kind.endswith("+json"):
        return copy.deepcopy(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _size(value: Any) -> int:
    """Return about how many characters a value takes as JSON."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(one) + 6 for key, one in value.items()) + 2
    if isinstance(value, list):
        return sum(_size(one) + 2 for one in value) + 2
    return 8
