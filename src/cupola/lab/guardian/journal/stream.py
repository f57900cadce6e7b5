r"""The text of a stream as a page shows it: ``\r`` and ``\b`` move and erase as JupyterLab lets them."""

from __future__ import annotations

import re

__all__ = ["LONGEST_LINE", "StreamText", "overwrite"]

LONGEST_LINE = 256 << 10
"""Characters after which a line is broken off: what was before can be overwritten no more."""
_MOVES = re.compile("([\n\b\r])")


class StreamText:
    """The line that a stream is writing just now; lines before it cannot change any more."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._at = 0

    @property
    def line(self) -> str:
        """What is written of the line so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def __len__(self) -> int:
        return self._length

    def feed(self, text: str) -> list[str]:
        r"""Take text; return the lines that are finished by it, each with its ``\n``."""
        if "\r" not in text and "\b" not in text and self._at == self._length:
            return self._append(text)
        done: list[str] = []
        for piece in _MOVES.split(text):
            if piece == "\n":
                done.append(self.line + "\n")
                self._set("", 0)
            elif piece == "\r":
                self._at = 0
            elif piece == "\b":
                self._erase()
            elif piece:
                self._write(piece, done)
        return done

    def rest(self) -> str:
        """Return the unfinished line, and begin anew."""
        line = self.line
        self._set("", 0)
        return line

    def _append(self, text: str) -> list[str]:
        *done, last = text.split("\n")
        lines: list[str] = []
        for one in done:
            lines += self._extend(one)
            lines.append(self.rest() + "\n")
        return lines + self._extend(last)

    def _extend(self, text: str) -> list[str]:
        if text:
            self._parts.append(text)
            self._length += len(text)
            self._at = self._length
        return self._break_off() if self._length > LONGEST_LINE else []

    def _break_off(self) -> list[str]:
        line, broken = self.line, []
        while len(line) > LONGEST_LINE:
            broken.append(line[:LONGEST_LINE])
            line = line[LONGEST_LINE:]
        self._set(line, len(line))
        return broken

    def _write(self, piece: str, done: list[str]) -> None:
        if self._at == self._length:
            done += self._extend(piece)
            return
        line, at = self.line, self._at
        self._set(line[:at] + piece + line[at + len(piece) :], at + len(piece))
        if self._at == self._length > LONGEST_LINE:
            done += self._break_off()

    def _erase(self) -> None:
        # JupyterLab takes what stands under the place too; at the end of a line, where it matters, nothing does.
        if self._at > 0:
            line, at = self.line, self._at
            self._set(line[: at - 1] + line[at + 1 :], at - 1)

    def _set(self, line: str, at: int) -> None:
        self._parts, self._length, self._at = [line] if line else [], len(line), at


def overwrite(text: str) -> str:
    r"""Return `text` as it stands after all its ``\r`` and ``\b``."""
    stream = StreamText()
    return "".join(stream.feed(text)) + stream.line
