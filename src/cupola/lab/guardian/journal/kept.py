"""What is kept of an execution's outputs: all of it, or its beginning and its end where it is too much for a page."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

__all__ = ["Kept", "Limits", "Output"]

Output = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """How much of one execution is kept.

    Parameters
    ----------
    lines
        Of text; an output that is no text counts as one.
    characters
        Of text.
    rich
        Characters of all that is no stream: pictures, tables, errors.
    """

    lines: int = 5000
    characters: int = 2 << 20
    rich: int = 20 << 20


class Kept:
    """Lines and other outputs in their order; of too many the middle goes.

    Parameters
    ----------
    limits
        A half of them is for the beginning, a half for the end.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lines_left_out = 0
        self.characters_left_out = 0
        self.spilled: list[str] = []
        """Text for the file with the full text; there is none as long as nothing is left out."""
        self._spills = False
        self.clear()

    def clear(self) -> None:
        """Forget all outputs; a full text that was begun goes on."""
        self.lines_left_out = self.characters_left_out = 0
        self._head: list[tuple[Output, str]] = []
        self._tail: deque[tuple[Output, str]] = deque()
        self._head_characters = self._tail_characters = 0
        self._head_open = True

    @property
    def size(self) -> int:
        """Characters of text that are kept."""
        return self._head_characters + self._tail_characters

    @property
    def spills(self) -> bool:
        """Whether there is a full text."""
        return self._spills

    def add(self, output: Output, text: str = "") -> list[Output]:
        """Take a line of a stream, or an output that is no stream; return the outputs that went for it."""
        if self._spills and text:
            self.spilled.append(text)
        if self._head_open:
            lines = len(self._head) < self.limits.lines // 2
            if lines and self._head_characters + len(text) <= self.limits.characters // 2:
                self._head.append((output, text))
                self._head_characters += len(text)
                return []
            self._head_open = False
        self._tail.append((output, text))
        self._tail_characters += len(text)
        return self._leave_out()

    def _leave_out(self) -> list[Output]:
        gone = []
        most, longest = self.limits.lines - self.limits.lines // 2, self.limits.characters // 2
        while len(self._tail) > 1 and (len(self._tail) > most or self._tail_characters > longest):
            if not self._spills:
                self._spill()
            output, text = self._tail.popleft()
            self._tail_characters -= len(text)
            self.lines_left_out += 1
            self.characters_left_out += len(text)
            if not text:
                gone.append(output)
        return gone

    def _spill(self) -> None:
        self._spills = True
        self.spilled += [text for _, text in (*self._head, *self._tail) if text]

    def outputs(self, line: str, stream: Output | None, cut: Output | None) -> list[Output]:
        """Return the outputs.

        Parameters
        ----------
        line, stream
            The line that a stream is writing, which may be the last output.
        cut
            Stands where something is left out.
        """
        found: list[Output] = []
        texts: list[list[str]] = []
        last: Output | None = None
        tail = [*self._tail, (stream, line)] if stream is not None and line else [*self._tail]
        between = [(cut, "")] if cut is not None and self.lines_left_out else []
        for output, text in (*self._head, *between, *tail):
            if output is not last or not text:
                found.append(output if not text else {**output, "text": ""})
                texts.append([])
            texts[-1].append(text)
            last = output
        for output, parts in zip(found, texts, strict=True):
            if output.get("output_type") == "stream":
                output["text"] = "".join(parts)
        return found
