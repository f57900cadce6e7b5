"""Notebooks opened in browsers of their own, and what is typed and seen there."""

from __future__ import annotations

import contextlib

import nbformat
import pytest

__all__ = ["WAIT", "text_of", "type_in", "visit"]

WAIT = "\nimport pathlib, time\nwhile not pathlib.Path('{name}').exists():\n    time.sleep(0.1)"
"""Ends a cell that waits for a file."""


@pytest.fixture
def visit(lab):
    """Open notebooks, each in a browser of its own."""
    machines = []

    def open_one(name, *cells, ready=True):
        if cells:
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
            notebook.metadata.kernelspec = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            nbformat.write(notebook, lab.folder / name)
        machines.append(lab.machine())
        found = lab.open(machines[-1], name)
        found.machine = machines[-1]
        if ready:
            found.ready()
        else:
            found.wait()
        return found

    yield open_one
    for machine in machines:
        with contextlib.suppress(Exception):
            machine.close()


def text_of(notebook, cell):
    outputs = notebook.look().outputs
    return "\n".join(outputs[cell]) if cell < len(outputs) else ""


def type_in(page, cell, text):
    page.page.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.page.keyboard.press("Control+End")
    page.page.keyboard.type(text)
