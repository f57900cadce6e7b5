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


def test_a_lost_kernel_is_told_in_plain_words_and_typed_text_is_offered(lab, visit, axe):
    page = visit("lost.ipynb", "x = 41", "print(x, flush=True)" + WAIT.format(name="go-4"), "y = 1")
    page.run(0)
    until(lambda: page.look().prompts[0] == "1", "it ran")
    page.run(1)
    until(lambda: text_of(page, 1) == "41", "it runs")
    page.save()
    # Else it might be saved before it is lost.
    lab.kill_server()
    page.page.locator(".jp-CodeCell .cm-content").nth(2).click()
    page.page.keyboard.press("Control+End")
    page.page.keyboard.type(" + 5")
    kept = "() => Object.keys(localStorage).some(key => key.includes('draft') && localStorage[key].includes('y = 1 + 5'))"
    page.page.wait_for_function(kept)
    lab.lose()
    page.page.close()
    lab.again()
    page = lab.open(page.machine, "lost.ipynb")
    page.ready()
    bar = page.page.locator(".cupola-bar-lost")
    bar.wait_for()
    assert "ended with its container" in bar.inner_text()
    assert text_of(page, 1) == "41"
    cut = page.page.locator(".jp-Cell.cupola-cut")
    assert cut.count() == 1
    assert violations(page.page, axe, ".cupola-bar-lost") == []
    toast = page.page.locator(".Toastify__toast", has_text="changes that were never saved")
    toast.get_by_role("button", name="Show").click()
    page.page.locator(".jp-Dialog").get_by_role("button", name="Put them into the notebook").click()
    until(lambda: page.look().sources[2].strip() == "y = 1 + 5", "they are back")
    (lab.folder / "go-4").touch()
    bar.get_by_role("button", name="Run again up to here").click()
    until(lambda: text_of(page, 1) == "41" and page.look().prompts[1] not in {"*", ""}, "it runs again")
    bar.get_by_role("button", name="Close").click()
    bar.wait_for(state="detached")


def test_what_is_kept_of_variables_can_be_seen(visit, axe):
    page = visit("kept.ipynb", "answer = 42\nimport sqlite3\ncon = sqlite3.connect(':memory:')")
    page.run(0)
    until(lambda: page.look().prompts[0] == "1", "it ran")
    page.page.get_by_role("menubar").get_by_text("Kernel", exact=True).first.click()
    page.page.locator(".lm-Menu-item", has_text="Variables Kept").click()
    dialog = page.page.locator(".jp-Dialog")
    dialog.get_by_role("button", name="Keep now").click()
    page.page.locator(".Toastify__toast", has_text="stored").wait_for()
    page.page.get_by_role("menubar").get_by_text("Kernel", exact=True).first.click()
    page.page.locator(".lm-Menu-item", has_text="Variables Kept").click()
    dialog.get_by_text("answer", exact=True).wait_for()
    assert dialog.get_by_role("cell", name="con", exact=True).count() == 1
    assert violations(page.page, axe, ".jp-Dialog .cupola-variables") == []
    dialog.get_by_role("button", name="Close").click()
