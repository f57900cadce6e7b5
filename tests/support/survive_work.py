"""The notebook that scenarios run, what must come of it, and how much of that is missing or doubled."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import nbformat

__all__ = [
    "AFTER",
    "FIRST",
    "KEPT",
    "LONG",
    "SECOND",
    "SETUP",
    "Found",
    "Work",
    "missing_or_doubled",
    "of_file",
    "units",
]

SETUP, LONG, FIRST, SECOND, AFTER, KEPT = range(6)
"""The cells, by their places."""

SETUP_CELL = """
start = 7
def note(word):
    with open({notes!r}, "a") as file:
        file.write(word + "\\n")
print("set up")
"""
LONG_CELL = """
import os, time
from IPython.display import HTML, display
from ipywidgets import HBox, IntProgress, Label
bar, label = IntProgress(max={lines}), Label("none yet")
display(HBox([bar, label]))
for number in range({lines}):
    while number == {half} and {held} and not os.path.exists({go!r}):
        time.sleep(0.05)
    print(f"line {{number:05}}", flush=True)
    bar.value = number + 1
    label.value = f"step {{number + 1}} of {lines}"
    note(f"line {{number:05}}")
    time.sleep({pause})
display(HTML("<b class='survivor'>bold words</b>"))
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot(range(10))
plt.show()
total = {lines}
note("long")
f"the last of {{total}}"
"""
QUEUED = (
    'queued = total + 1\nprint("first in the queue:", queued)\nnote("first")',
    'print("second in the queue:", queued + 1)\nnote("second")',
    'print("afterwards:", start + total + queued)\nnote("after")',
    'print("kept:", start)\nnote("kept")',
)
PNG, WIDGET = "image/png", "application/vnd.jupyter.widget-view+json"


@dataclass
class Found:
    """What a page or a file shows of a notebook: for each cell the pieces of its outputs, and its prompt."""

    outputs: list[list[str]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    """Such as ``3`` or ``*``; empty where a cell was not run."""


@dataclass
class Work:
    """A notebook with a long cell, two queued behind it, and two to run after the return."""

    lines: int
    pause: float
    held: bool = False
    """The long cell waits in its middle until it is told to go on (`go`), however slow the machine is."""
    notes: str = "notes.txt"
    """File, in the notebook's folder, in which the cells note for themselves how far they came."""

    def notebook(self) -> nbformat.NotebookNode:
        """Return the notebook, not run."""
        words = {"lines": self.lines, "pause": self.pause, "notes": self.notes, "half": self.lines // 2}
        words |= {"held": self.held, "go": self.go}
        codes = [SETUP_CELL.strip().format(**words), LONG_CELL.strip().format(**words), *QUEUED]
        cells = [nbformat.v4.new_code_cell(code, id=f"cell-{place}") for place, code in enumerate(codes)]
        book = nbformat.v4.new_notebook(cells=cells)
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return book

    @property
    def go(self) -> str:
        """The file for which the long cell waits."""
        return f"{self.notes}.go"

    def expected(self, *, page: bool) -> list[list[str]]:
        """Return the pieces of the outputs of all cells; of widgets a page shows more than a file does."""
        end = 2 * self.lines + 8
        state = ["bar 100%", f"label step {self.lines} of {self.lines}"] if page else []
        return [
            ["set up"],
            [
                *("widget", *state),
                *(f"line {number:05}" for number in range(self.lines)),
                *("bold words", "figure", f"'the last of {self.lines}'"),
            ],
            [f"first in the queue: {self.lines + 1}"],
            [f"second in the queue: {self.lines + 2}"],
            [f"afterwards: {end}"],
            ["kept: 7"],
        ]

    @staticmethod
    def expected_of_lost(*, lines: int) -> list[list[str]]:
        """Return what must be there of a kernel that was lost after so many lines; the widget's state went with it."""
        return [
            ["set up"],
            ["widget", *(f"line {number:05}" for number in range(lines))],
            *([], [], []),
            ["kept: 7"],
        ]


def missing_or_doubled(expected: list[list[str]], found: list[list[str]]) -> list[str]:
    """Return one sentence for each expected piece that is not there exactly once in its cell, or not in its order."""
    told = []
    for place, wanted in enumerate(expected):
        there = found[place] if place < len(found) else []
        often = Counter(there)
        told += [
            f"cell {place}: {piece!r} {f'{often[piece]} times' if often[piece] else 'missing'}"
            for piece in wanted
            if often[piece] != 1
        ]
        places = [there.index(piece) for piece in wanted if often[piece] == 1]
        told += [
            f"cell {place}: {there[later]!r} comes before {there[earlier]!r}"
            for earlier, later in pairwise(places)
            if later < earlier
        ]
        told += [f"cell {place}: {piece!r} is too much" for piece in there if piece not in wanted]
    return told


def units(expected: list[list[str]]) -> int:
    """Return how many pieces are expected."""
    return sum(len(cell) for cell in expected)


def of_file(book: nbformat.NotebookNode) -> Found:
    """Return what a notebook on disk shows."""
    found = Found()
    for cell in book.cells:
        if cell.cell_type == "code":
            found.outputs.append([piece for output in cell.outputs for piece in _pieces(output)])
            found.prompts.append(str(cell.execution_count or ""))
    return found


def _pieces(output: nbformat.NotebookNode) -> list[str]:
    if output.output_type == "stream":
        return [line for line in output.text.splitlines() if line]
    if output.output_type == "error":
        return [f"{output.ename}: {output.evalue}"]
    if WIDGET in output.data:
        return ["widget"]
    if PNG in output.data:
        return ["figure"]
    if "text/html" in output.data:
        return [re.sub(r"<[^>]*>", "", output.data["text/html"])]
    return [line for line in output.data["text/plain"].splitlines() if line]
