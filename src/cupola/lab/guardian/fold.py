"""From what a kernel said to the outputs of a cell, as JupyterLab would show them."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["Fold", "overwrite"]

_FIELDS = ("name", "text", "ename", "evalue", "traceback", "data", "metadata", "execution_count")


def overwrite(text: str) -> str:
    r"""Apply ``\\r`` as a terminal would, so that a progress bar stays one line."""
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line if line.endswith("\r") else line.rsplit("\r", 1)[-1] for line in lines)


class Fold:
    """The outputs of one execution."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._clear_next = False

    def feed(self, kind: str, content: dict[str, Any]) -> None:
        """Take the next message.

        Parameters
        ----------
        kind, content
            Of a message on iopub that belongs to the execution.
        """
        if kind == "clear_output":
            if content.get("wait"):
                self._clear_next = True
            else:
                self._clear()
        elif kind == "update_display_data":
            self.update(content)
        elif kind in {"stream", "display_data", "execute_result", "error"}:
            self._add(kind, content)

    def update(self, content: dict[str, Any]) -> None:
        """Change what was shown under a display id."""
        for output in self._displays.get(_display_id(content), []):
            output.update(data=content["data"], metadata=content.get("metadata", {}))

    def _clear(self) -> None:
        self.outputs.clear()
        self._displays.clear()

    def _add(self, kind: str, content: dict[str, Any]) -> None:
        if self._clear_next:
            self._clear()
            self._clear_next = False
        output = {"output_type": kind} | {key: content[key] for key in _FIELDS if key in content}
        last = self.outputs[-1] if self.outputs else {}
        if kind == "stream":
            if last.get("output_type") == "stream" and last.get("name") == output["name"]:
                last["text"] = overwrite(last["text"] + output["text"])
                return
            output["text"] = overwrite(output["text"])
        self.outputs.append(output)
        if name := _display_id(content):
            self._displays.setdefault(name, []).append(output)

    def display_id(self, output: dict[str, Any]) -> str:
        """Return under which id `output`, one of `outputs`, can be changed; empty for most."""
        found = (name for name, shown in self._displays.items() if any(one is output for one in shown))
        return next(found, "")

    def copy(self) -> list[dict[str, Any]]:
        """Return the outputs, for somebody who may change them."""
        return copy.deepcopy(self.outputs)


def _display_id(content: dict[str, Any]) -> str:
    return str(content.get("transient", {}).get("display_id") or "")
