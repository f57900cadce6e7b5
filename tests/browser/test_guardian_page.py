"""What a notebook's page shows of what its kernel did without it, in a real Chromium."""

from __future__ import annotations

import contextlib
import json

import nbformat
import pytest

pytest.importorskip("playwright.sync_api")

from support.axe import violations
from support.map_lab import MARKS
from support.survive_labs import OursLab
from support.survive_page import until

pytestmark = MARKS

WAIT = "\nimport pathlib, time\nwhile not pathlib.Path('{name}').exists():\n    time.sleep(0.1)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    one = OursLab(tmp_path_factory.mktemp("lab")).start()
    yield one
    one.stop()


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


def test_widgets_of_a_cell_that_still_runs_are_drawn_and_move(lab, visit):
    code = (
        "from ipywidgets import IntProgress, Label, HBox\nb = IntProgress(max=2); w = Label('begun')\n"
        "display(HBox([b, w]))"
        + WAIT.format(name="go-1")
        + "\nb.value = 1; w.value = 'on'"
        + WAIT.format(name="go-2")
    )
    first = visit("widgets.ipynb", code)
    first.run(0)
    until(lambda: "label begun" in text_of(first, 0), "the first page draws them")
    first.machine.kill()
    new = visit("widgets.ipynb", ready=False)
    until(lambda: "label begun" in text_of(new, 0), lambda: f"the new page draws them: {new.look().outputs}")
    (lab.folder / "go-1").touch()
    until(lambda: "label on" in text_of(new, 0) and "bar 50%" in text_of(new, 0), "they move")
    assert new.look().prompts[0] == "*"
    (lab.folder / "go-2").touch()
    until(lambda: new.look().prompts[0] == "1", "the cell ends")


def test_a_server_that_is_gone_for_a_while_is_told_quietly(lab, visit):
    page = visit("quiet.ipynb", "print('a')" + WAIT.format(name="go-3"), "print('b')")
    page.run(0, 1)
    until(lambda: text_of(page, 0) == "a", "it runs")
    lab.kill_server()
    lost = page.page.locator(".cupola-connection", has_text="The connection is lost; your kernels go on.")
    lost.wait_for()
    (lab.folder / "go-3").touch()
    lab.back()
    until(lambda: page.look().prompts == ["1", "2"], lambda: f"the page catches up: {page.look()}")
    assert (text_of(page, 0), text_of(page, 1)) == ("a", "b")
    lost.wait_for(state="detached")
    assert page.look().dialogs == []


def test_news_of_an_absence_lead_to_the_cells(lab, visit, axe):
    page = visit("news.ipynb", "print('a')", "1 / 0")
    page.run(0)
    until(lambda: page.look().prompts[0] == "1", "it ran")
    page.run(1)
    until(lambda: page.look().prompts[1] == "2", "it failed")
    page.save()
    page.machine.kill()
    lab.kill_server()
    # As if nobody had looked since before they ran.
    looked = lab.folder / ".cupola" / "looked.json"
    known = json.loads(looked.read_text())
    known["news.ipynb"]["looked"] -= 3600
    looked.write_text(json.dumps(known))
    lab.back()
    page = visit("news.ipynb")
    bar = page.page.locator(".cupola-bar-away")
    bar.wait_for()
    assert "1 cell finished, 1 failed (60 min)" in bar.inner_text()
    assert violations(page.page, axe, ".cupola-bar-away") == []
    bar.get_by_role("button", name="Show cell [2], failed").click()
    page.page.locator(".jp-Cell.cupola-flash", has_text="1 / 0").wait_for()
    bar.get_by_role("button", name="Got it").click()
    bar.wait_for(state="detached")
    page.page.reload()
    page.ready()
    until(lambda: "ZeroDivisionError" in text_of(page, 1), "it is shown")
    assert page.page.locator(".cupola-bar-away").count() == 0
