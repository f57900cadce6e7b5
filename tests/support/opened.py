"""Notebooks opened in browsers of their own, and what is typed and seen there."""

from __future__ import annotations

import contextlib

import nbformat
import pytest

from support.survive_page import until

__all__ = ["WAIT", "text_of", "type_in", "until_kept", "visit", "write_and_run"]

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


def write_and_run(page, cell, code):
    """Put other code into a cell and run it."""
    type_in(page, cell, "")
    page.page.keyboard.press("Control+a")
    page.page.keyboard.insert_text(code)
    page.page.keyboard.press("Control+Enter")


def until_kept(lab, name, *variables):
    """Wait until these variables of a notebook are stored, and no other."""

    def kept():
        kernel = lab.state(name)["kernel"]
        return kernel and kernel["kept"] and kernel["kept"]["variables"] == [*variables]

    until(kept, "the variables are kept")
