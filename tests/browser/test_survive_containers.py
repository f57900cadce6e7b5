"""Notebooks survive in sessions that are containers: the short forms of the scenarios under the docker driver."""

from __future__ import annotations

import nbformat
import pytest

from support import survive
from support.map_lab import MARKS
from support.platform import Platform

pytest.importorskip("playwright.sync_api")

from support.survive_page import until
from support.survive_platform import ContainerLab

pytestmark = [*MARKS, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def place(tmp_path_factory, images):
    """A platform whose sessions are containers."""
    images.have("lab")
    one = Platform(tmp_path_factory.mktemp("survive"), settings=images.settings)
    try:
        one.start()
        yield one
    finally:
        one.clean()


@pytest.fixture
def lab(place, engine):
    one = ContainerLab(place, engine).start()
    yield one
    one.stop()


@pytest.mark.parametrize("name", ["mid-cell", "crash", "lost"])
def test_nothing_is_missing_and_nothing_is_there_twice(lab, name):
    """The container's first process is not the server: it outlives one that is killed, and its kernels with it."""
    outcome = survive.play(lab, name, survive.SHORT)
    assert not outcome.wrong, outcome.told()
    assert not outcome.signs, outcome.told()


def test_variables_are_there_after_a_wake(lab):
    cells = [
        nbformat.v4.new_code_cell(code, id=f"cell-{n}")
        for n, code in enumerate(("kept = 6 * 7", "print(kept)"))
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    lab.write("sleeper.ipynb", book)
    before = lab.container.id
    run(lab, 0, lambda seen: seen.prompts[0] == "1")
    lab.hibernate()
    lab.wake()
    assert lab.container.id != before
    run(lab, 1, lambda seen: seen.outputs[1] == ["42"])


def run(lab, cell, done):
    """Run a cell on a machine that has never been here, and wait."""
    machine = lab.machine()
    try:
        notebook = lab.open(machine, "sleeper.ipynb")
        notebook.ready()
        notebook.run(cell)
        until(lambda: done(notebook.look()), notebook.look)
    finally:
        machine.kill()
