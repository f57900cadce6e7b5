"""A session sleeps and wakes with a notebook open in Chromium: its variables are there, and where CRIU is, everything goes on."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from support import programs
from support.map_lab import MARKS

pytest.importorskip("playwright.sync_api")

from support.survive_page import until
from support.survive_platform import SessionLab

pytestmark = MARKS

KEPT = """import threading, time
kept = {'a': 1}
def counted():
    yield from range(100)
numbers = counted()
next(numbers)
beats = []
def beat():
    while True:
        beats.append(1)
        time.sleep(0.1)
threading.Thread(target=beat, daemon=True).start()"""
ASKS = "import cupola\nprint(kept, cupola.jobs())"
GOES_ON = """before = len(beats)
time.sleep(1)
print(next(numbers), len(beats) > before)"""


@contextmanager
def asleep_and_woken(platform):
    """A session with a notebook whose first cell has run, after a hibernation; what was said of that, and the page left open."""
    platform.start()
    lab = SessionLab(platform).start()
    try:
        cells = [
            nbformat.v4.new_code_cell(code, id=f"cell-{n}") for n, code in enumerate((KEPT, ASKS, GOES_ON))
        ]
        book = nbformat.v4.new_notebook(cells=cells)
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        lab.write("sleeper.ipynb", book)
        with opened(lab) as notebook:
            notebook.run(0)
            until(lambda: notebook.look().prompts[0] == "1", notebook.look)
            found = lab.hibernate()
            assert lab.processes() == []
            lab.wake()
            yield lab, found, notebook
    finally:
        lab.stop()


@contextmanager
def opened(lab):
    machine = lab.machine()
    try:
        notebook = lab.open(machine, "sleeper.ipynb")
        notebook.ready()
        yield notebook
    finally:
        machine.kill()


def picture(notebook, name):
    if folder := os.environ.get("CUPOLA_WAKE_PICTURES"):
        notebook.page.screenshot(path=Path(folder) / f"{name}.png")


def log_of(lab):
    return lab.client("session_log", lab.session)


def shows(notebook, cell, text):
    until(lambda: text in " ".join(notebook.look().outputs[cell]), notebook.look)


def test_variables_are_there_after_a_wake(new_platform):
    platform = new_platform(settings="sessions:\n  idle:\n    freeze_kernels: false\n")
    with asleep_and_woken(platform) as (lab, found, notebook):
        assert "variables are kept" in found.reason
        # The page that was left open finds out by itself, and needs to be known again.
        notebook.page.get_by_role("button", name="Load this page again").wait_for()
        picture(notebook, "left-open")
        notebook.page.get_by_role("button", name="Load this page again").click()
        notebook.page.wait_for_url(re.compile(r"/lab"))
        notebook.ready()
        picture(notebook, "variables")
        said = notebook.look().said
        assert "The session was stopped: this notebook's kernel ended with it at" in said, said
        assert "numbers" in said, said
        notebook.run(1)
        shows(notebook, 1, "{'a': 1}")
        notebook.run(2)
        shows(notebook, 2, "NameError")
        assert "frozen" not in log_of(lab)


def criu_first():
    """A search path on which a CRIU that can freeze kernels comes first."""
    return f"{Path(programs.criu().program).parent}{os.pathsep}{os.environ['PATH']}"


def test_frozen_kernels_go_on(new_platform):
    platform = new_platform(more={"PATH": criu_first()})
    with asleep_and_woken(platform) as (lab, *_), opened(lab) as notebook:
        assert "is frozen as it stands" in log_of(lab)
        assert "goes on as it stood" in log_of(lab)
        assert not (platform.paths.frozen / lab.session).exists()
        picture(notebook, "frozen")
        # By the token that it had: the portal still knows whose it is.
        notebook.run(1)
        shows(notebook, 1, "{'a': 1}")
        notebook.run(2)
        shows(notebook, 2, "1 True")
        # Once more, and then it is deleted with what is frozen of it.
        lab.hibernate()
        assert (platform.paths.frozen / lab.session).exists()
        lab.client("delete_session", lab.session)
        assert not (platform.paths.frozen / lab.session).exists()
