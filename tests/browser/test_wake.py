"""A session sleeps and wakes with a notebook open in Chromium: its variables are there, and where CRIU is, everything goes on."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path

import httpx
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
    """What the platform says in the session's log: whole, where a test fails by it."""
    return [line for line in lab.client("session_log", lab.session).splitlines() if "[cupola]" in line]


def tokens_of(lab):
    """The tokens that programs of the session hold; its server was forked and shows none."""
    held = {process.environ().get("JUPYTERHUB_API_TOKEN") for process in lab.processes()}
    return held - {None}


def is_known(lab, token):
    """Whether the hub takes the token."""
    answer = httpx.get(
        f"{lab.platform.address}/hub/api/user", headers={"Authorization": f"token {token}"}, trust_env=False
    )
    assert answer.status_code in {httpx.codes.OK, httpx.codes.FORBIDDEN}, answer
    return answer.status_code == httpx.codes.OK


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
        assert not any("frozen" in line for line in log_of(lab))


def criu_first():
    """A search path on which a CRIU that can freeze kernels comes first."""
    return f"{Path(programs.criu().program).parent}{os.pathsep}{os.environ['PATH']}"


def test_frozen_kernels_go_on(new_platform):
    platform = new_platform(more={"PATH": criu_first()})
    with asleep_and_woken(platform) as (lab, *_), opened(lab) as notebook:
        said = [line.partition(" ")[2].split(" ", 2)[2] for line in log_of(lab)]
        assert said == ["is frozen as it stands", "goes on as it stood"]
        assert not (platform.paths.frozen / lab.session).exists()
        picture(notebook, "frozen")
        # By the token that it had: the portal still knows whose it is.
        notebook.run(1)
        shows(notebook, 1, "{'a': 1}")
        notebook.run(2)
        shows(notebook, 2, "1 True")
        (token,) = tokens_of(lab)
        assert is_known(lab, token)
        # Once more, and now the session crashes when it is awake: nobody is known by that token any more.
        lab.hibernate()
        assert (platform.paths.frozen / lab.session).exists()
        lab.wake()
        assert is_known(lab, token)
        lab.lose()
        until(lambda: not is_known(lab, token), "the token ends with the session", 60)
        assert lab.processes() == []
