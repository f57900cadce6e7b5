"""What a notebook's page says of a kernel that was lost, in a real Chromium."""

from __future__ import annotations

import os
import signal

import pytest

pytest.importorskip("playwright.sync_api")

from cupola.lab.guardian.folder import KernelFolder
from support.axe import violations
from support.map_lab import MARKS
from support.opened import WAIT, text_of, until_kept, write_and_run
from support.survive_labs import OursLab
from support.survive_page import until

pytestmark = MARKS


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    one = OursLab(tmp_path_factory.mktemp("lab")).start()
    yield one
    one.stop()


def folder_of(lab, name):
    """Return the folder of a notebook's kernel."""
    return KernelFolder(lab.folder / ".cupola" / "kernels" / lab.state(name)["kernel"]["id"])


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


def test_a_kernel_that_is_lost_under_an_open_page_is_told_and_replaced(lab, visit):
    page = visit("open.ipynb", "x = 41\nrows = (i for i in range(3))", "print(x)" + WAIT.format(name="never"))
    page.run(0)
    until_kept(lab, "open.ipynb", "x")
    page.run(1)
    until(lambda: text_of(page, 1) == "41", "it runs")
    lab.lose()
    page.page.locator(".cupola-connection", has_text="The connection is lost").wait_for()
    lab.again()
    page.page.locator(".cupola-connection", has_text="A kernel was lost").wait_for()
    bar = page.page.locator(".cupola-bar-lost", has_text="1 variable of")
    bar.wait_for()
    assert "rows (a generator cannot be stored)" in bar.inner_text()
    page.ready()
    assert page.page.locator(".jp-Cell.cupola-cut").count() == 1
    assert page.look().dialogs == []
    write_and_run(page, 1, "print(x + 1)")
    until(lambda: text_of(page, 1) == "42", "the new kernel has them")


SLOW = "import pathlib, time\nwhile pathlib.Path('hold').exists():\n    time.sleep(0.1)"


@pytest.fixture
def hold(lab):
    """A file: while it is there, kernels do not finish to start."""
    startup = lab.place / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "hold.py").write_text(SLOW)
    file = lab.folder / "hold"
    yield file
    file.unlink(missing_ok=True)
    (startup / "hold.py").unlink()


@pytest.mark.parametrize("both", [False, True])
def test_a_kernel_that_dies_and_is_started_again_is_told_without_a_dialog(lab, visit, hold, both):
    name = f"died-{both}.ipynb"
    page = visit(
        name, "x = 41\nrows = (i for i in range(3))", "print(x)" + WAIT.format(name="never"), "print('later')"
    )
    page.run(0)
    until_kept(lab, name, "x")
    page.run(1)
    page.run(2)
    until(lambda: text_of(page, 1) == "41", "it runs")
    folder = folder_of(lab, name)
    hold.touch()
    os.kill(folder.record()["guardian" if both else "kernel"], signal.SIGKILL)
    page.page.locator(".cupola-bar-lost", has_text="its variables are coming back").wait_for()
    # The page asks again meanwhile.
    page.page.wait_for_timeout(2500)
    hold.unlink()
    bar = page.page.locator(".cupola-bar-lost", has_text="1 variable of")
    bar.wait_for()
    said = bar.inner_text()
    assert "rows (a generator cannot be stored)" in said
    # Who is killed alone has a guardian who says how; it goes with the guardian without a word.
    assert ("most likely for want of memory" in said, "ended with its container" in said) == (not both, both)
    marks = page.page.locator(".jp-Cell.cupola-cut").evaluate_all(
        "all => all.map(one => one.dataset.cupolaCut)"
    )
    assert [mark.split(" at ")[0] for mark in marks] == [
        "Ended with the kernel",
        "Did not run: the kernel ended",
    ]
    assert page.look().dialogs == []
    page.ready()
    assert page.look().outputs == [[], ["41"], []], "what was lost is not executed again"
    bar.get_by_role("button", name="Close").click()
    bar.wait_for(state="detached")
    write_and_run(page, 2, "print(x + 1)")
    until(lambda: text_of(page, 2) == "42", "the kernel that was started again has them")
    assert lab.state(name)["lost"] is None
    # The next time is another loss.
    os.kill(folder.record()["kernel"], signal.SIGKILL)
    page.page.locator(".cupola-bar-lost", has_text="most likely for want of memory").wait_for()
    assert page.look().dialogs == []


def test_a_kernel_that_dies_before_it_was_asked_anything_is_told_too(lab, visit):
    page = visit("unused.ipynb", "x = 1")
    os.kill(folder_of(lab, "unused.ipynb").record()["kernel"], signal.SIGKILL)
    page.page.get_by_text("The kernel of unused.ipynb died and was started again").first.wait_for()
    assert page.look().dialogs == []
