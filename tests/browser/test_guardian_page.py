"""What a notebook's page shows of what its kernel did without it, in a real Chromium."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

pytest.importorskip("playwright.sync_api")

from support.axe import violations
from support.map_lab import MARKS
from support.opened import WAIT, text_of, type_in
from support.survive_labs import OursLab
from support.survive_page import Notebook, until

pytestmark = MARKS


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    one = OursLab(tmp_path_factory.mktemp("lab")).start()
    yield one
    one.stop()


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
    until(lambda: new.look().kernel == "busy", lambda: f"it is shown as busy: {new.look().kernel}")
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
    page.page.locator(".cupola-connection", has_text="Your kernels went on.").wait_for()
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


VIEWERS = """
from jupyter_server.auth.identity import PasswordIdentityProvider
from tornado.web import HTTPError
from cupola.lab.access import may_be_viewed
from cupola.models.share import ShareAccess

class Viewers(PasswordIdentityProvider):
    async def get_user(self, handler):
        user = super().get_user(handler)
        user = await user if hasattr(user, "__await__") else user
        if user and handler.get_cookie("looks"):
            user.access = ShareAccess.VIEW
            if not may_be_viewed(handler.request.method, handler.request.path.removeprefix(handler.base_url)):
                raise HTTPError(403, "You may look at this session.")
        return user
"""


class ViewedLab(OursLab):
    """A Lab that takes whoever brings a certain cookie for a visitor who may only look."""

    def command(self):
        *first, code, port_and_more = (*super().command()[:4], super().command()[4:])
        return [
            *first,
            VIEWERS + code,
            *port_and_more,
            "--ServerApp.identity_provider_class=__main__.Viewers",
        ]


def test_a_viewer_sees_what_a_kernel_says_whose_owner_is_away(tmp_path):
    lab = ViewedLab(tmp_path / "viewed").start()
    machines = []
    try:
        code = "print('begun', flush=True)" + WAIT.format(name="go") + "\nprint('over')"
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(one) for one in (code, "print('next')")]
        )
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        lab.write("viewed.ipynb", book)
        machines.append(lab.machine())
        owner = lab.open(machines[0], "viewed.ipynb")
        owner.ready()
        owner.run(0, 1)
        until(lambda: text_of(owner, 0) == "begun", "it runs")
        machines.append(lab.machine())
        page = machines[1].page()
        page.context.add_cookies([{"name": "looks", "value": "1", "url": lab.url}])
        page.goto(f"{lab.url}lab/workspaces/viewed/tree/viewed.ipynb?token={lab.token}")
        viewer = Notebook(page)
        viewer.wait()
        until(lambda: text_of(viewer, 0) == "begun", lambda: f"what there is: {viewer.look()}")
        machines[0].kill()
        (lab.folder / "go").touch()
        until(lambda: viewer.look().outputs == [["begun", "over"], ["next"]], lambda: viewer.look().outputs)
        until(lambda: viewer.look().prompts == ["1", "2"], lambda: viewer.look().prompts)
        assert viewer.look().dialogs == []
    finally:
        for machine in machines:
            machine.close()
        lab.stop()


def drafts(page):
    return page.page.evaluate("() => Object.keys(localStorage).filter(key => key.includes(':draft:')).length")


def put_in(page, cells):
    """Show a draft of so many cells, and take it."""
    toast = page.page.locator(".Toastify__toast", has_text=f"never saved ({cells}")
    toast.get_by_role("button", name="Show").click()
    dialog = page.page.locator(".jp-Dialog")
    words = dialog.inner_text()
    dialog.get_by_role("button", name="Put them into the notebook").click()
    dialog.wait_for(state="detached")
    return words


def test_drafts_of_two_pages_are_not_put_over_what_is_newer(lab, visit):
    first = visit("drafts.ipynb", "a = 1", "b = 1", "c = 1")
    second = lab.open(first.machine, "drafts.ipynb")
    second.ready()
    lab.kill_server()
    type_in(first, 0, "  # first")
    type_in(second, 1, "  # second")
    type_in(second, 2, "  # second")
    until(lambda: drafts(first) == 2, "each page keeps its own")
    second.page.close()
    first.page.close()
    book = nbformat.read(lab.folder / "drafts.ipynb", as_version=4)
    book.cells[0].source = "a = 'newer'"
    del book.cells[1]
    nbformat.write(book, lab.folder / "drafts.ipynb")
    lab.back()
    page = lab.open(first.machine, "drafts.ipynb")
    page.ready()
    assert page.look().sources == ["a = 'newer'", "c = 1"], "nothing is put in unasked"
    assert "Cell 1 was changed since then" in put_in(page, "one cell")
    assert "Its cell was deleted since then" in put_in(page, "2 cells")
    sources = ["a = 'newer'", "b = 1  # second", "a = 1  # first", "c = 1  # second"]
    until(lambda: sorted(page.look().sources) == sorted(sources), lambda: page.look().sources)
    page.save()
    until(lambda: drafts(page) == 0, "what is saved is kept no longer")
    saved = nbformat.read(lab.folder / "drafts.ipynb", as_version=4)
    assert sorted(cell.source for cell in saved.cells) == sorted(sources)


def test_a_page_that_saves_in_the_same_moment_writes_over_nothing(lab, visit):
    first = visit("moment.ipynb", "", "b = 1")
    second = lab.open(first.machine, "moment.ipynb")
    second.ready()
    held = []
    first.page.route(re.compile(r"/api/contents/moment\.ipynb"), lambda route: hold(route, held))
    first.page.bring_to_front()
    # Nobody has typed in this page; it has looked at the file, and its save is on the way.
    with first.page.expect_request(lambda asked: asked.method == "PUT" and "/api/contents/" in asked.url):
        first.page.keyboard.press("Control+s")
    until(lambda: first.look() and held, "its save is held")
    second.page.bring_to_front()
    type_in(second, 0, "a = 'kept'")
    second.save()
    saved = lab.folder / "moment.ipynb"
    until(lambda: "kept" in saved.read_text(), "the second page has saved")
    held[0].continue_()
    until(lambda: first.look().sources == ["a = 'kept'", "b = 1"], first.look)
    assert nbformat.read(saved, as_version=4).cells[0].source == "a = 'kept'"
    assert second.look().sources == ["a = 'kept'", "b = 1"]
    assert first.page.locator(".jp-Dialog").count() == 0


def hold(route, held):
    """Hold the first save, and let everything else through."""
    if route.request.method == "PUT" and not held:
        held.append(route)
    else:
        route.continue_()


FULL = """() => {
  for (let size = 1 << 22; size >= 1; size /= 2) {
    try { for (let one = 0; ; one += 1) { localStorage.setItem(`fill-${size}-${one}`, 'x'.repeat(size)); } } catch { }
  }
}"""


def test_a_browser_that_keeps_nothing_breaks_nothing(lab, visit):
    # Where it is forbidden altogether, JupyterLab itself does not open.
    page = visit("full.ipynb", "print('a')", "")
    page.page.evaluate(FULL)
    lab.kill_server()
    type_in(page, 1, "b = 2")
    page.page.locator(".cupola-connection", has_text="This browser keeps nothing").wait_for()
    lab.back()
    page.page.locator(".cupola-connection").wait_for(state="detached")
    page.run(0)
    until(lambda: text_of(page, 0) == "a", "the notebook works as before")
    page.save()
    assert nbformat.read(lab.folder / "full.ipynb", as_version=4).cells[1].source == "b = 2"


PRINTED = """() => {
  const found = [[], []];
  for (const one of document.querySelectorAll('.jp-NotebookPanel .jp-RenderedText')) {
    found[one.closest('.widget-output') ? 0 : 1].push(...one.textContent.split(/\\s+/).filter(word => word));
  }
  return found;
}"""
"""The words in widgets, and those in cells."""


def test_what_was_printed_into_an_output_widget_meanwhile_is_there_once(lab, visit):
    code = (
        "from ipywidgets import Output\nout = Output()\ndisplay(out)\nprint('begun', flush=True)\n"
        "with out:\n    print('inside 1', flush=True)"
        + WAIT.format(name="go-5").replace("\n", "\n    ")
        + "\n    print('inside 2', flush=True)"
        + WAIT.format(name="go-6")
        + "\nwith out:\n    print('inside 3')\nprint('outside')"
    )
    first = visit("output.ipynb", code)
    first.run(0)

    def shown(page):
        """Return the words in widgets, but for the first of each line, and those in cells."""
        inside, below = page.page.evaluate(PRINTED)
        return [word for word in inside if word != "inside"], below

    until(lambda: "1" in shown(first)[0], lambda: f"the first page has it: {shown(first)}")
    first.save()
    first.machine.kill()
    (lab.folder / "go-5").touch()
    new = visit("output.ipynb", ready=False)
    until(lambda: "2" in shown(new)[0], lambda: f"what came meanwhile: {shown(new)}")
    (lab.folder / "go-6").touch()
    until(lambda: new.look().prompts == ["1"], lambda: f"it ends: {new.look().prompts}")
    wanted = (["1", "2", "3"], ["begun", "outside"])
    until(lambda: shown(new) == wanted, lambda: f"what came last: {shown(new)}")
    # The kernel, which is idle now, has never heard of what came meanwhile: the server tells it.
    new.machine.kill()
    last = visit("output.ipynb", ready=False)
    until(lambda: shown(last) == wanted, lambda: f"to whoever comes later: {shown(last)}")


def run_and_leave(page):
    for cell in range(3):
        page.run(cell)
        # One by one: a cell that fails takes along those that wait.
        until(lambda cell=cell: page.look().prompts[cell] == str(cell + 1), f"cell {cell} is run")
    page.save()
    page.machine.kill()


def test_several_notebooks_have_a_word_on_their_own_cells_each(lab, visit):
    names = ["one.ipynb", "two.ipynb", "three.ipynb"]
    for name in names[:2]:
        second = "1 / 0" if name == "two.ipynb" else "print('more')"
        run_and_leave(visit(name, f"print('{name}')", second, "%%capture said\nprint('hidden')"))
    lab.kill_server()
    looked = lab.folder / ".cupola" / "looked.json"
    known = json.loads(looked.read_text())
    for name in names[:2]:
        known[name]["looked"] -= 3600
    looked.write_text(json.dumps(known))
    lab.back()
    page = visit("three.ipynb", "print(3)")
    told = page.page.locator(".Toastify__toast")
    told.filter(has_text="one.ipynb: While you were away: 3 cells finished").wait_for()
    told.filter(has_text="two.ipynb: While you were away: 2 cells finished, 1 failed").wait_for()
    told.filter(has_text="one.ipynb:").get_by_role("button", name="Open").click()
    bar = page.page.locator(".jp-NotebookPanel:visible .cupola-bar-away")
    bar.filter(has_text="3 cells finished (").wait_for()
    assert text_of(page, 2) == "", "what a cell captures is not shown"
    told.filter(has_text="two.ipynb:").get_by_role("button", name="Open").click()
    bar.filter(has_text="2 cells finished, 1 failed").wait_for()
    assert bar.count() == 1
    bar.get_by_role("button", name="Got it").click()
    bar.wait_for(state="detached")
    page.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="one.ipynb").click()
    bar.filter(has_text="3 cells finished (").wait_for()


def test_a_cell_that_was_never_saved_is_put_back_in_its_place(visit):
    page = visit("placed.ipynb", "a = 1", "b = 2")

    def keep_from_saving(route):
        route.abort() if route.request.method == "PUT" else route.continue_()

    page.page.route("**/api/contents/**", keep_from_saving)
    page.select(0)
    page.page.keyboard.press("b")
    until(lambda: len(page.look().outputs) == 3, "there is a new cell")
    type_in(page, 1, "print('new')")
    page.page.keyboard.press("Control+Enter")
    until(lambda: text_of(page, 1) == "new", "it ran")
    page.machine.kill()
    page = visit("placed.ipynb")
    until(lambda: page.look().sources == ["a = 1", "print('new')", "b = 2"], lambda: page.look().sources)
    assert text_of(page, 1) == "new"
