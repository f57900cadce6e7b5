"""Notebooks survive: a session of a real platform, seen through a real Chromium that is killed, cut off, and comes back.

These are the short forms of what ``benchmarks/survive.py`` runs in minutes, and the awkward cases.
"""

from __future__ import annotations

import re

import nbformat
import pytest

from cupola.processes import marked_with
from support import survive
from support.map_lab import MARKS
from support.survive_work import missing_or_doubled, of_file

pytest.importorskip("playwright.sync_api")

from support.survive_labs import MARK, OursLab
from support.survive_page import until
from support.survive_platform import SessionLab

pytestmark = MARKS

NOTE = 'def note(word):\n    with open("{name}.txt", "a") as file:\n        file.write(word + "\\n")\n'


@pytest.fixture(scope="module")
def lab(platform):
    """One session for all tests but those that lose it."""
    one = SessionLab(platform).start()
    yield one
    one.stop()


@pytest.mark.parametrize("name", ["killed", "mid-cell", "cut", "crash", "crash-new"])
def test_nothing_is_missing_and_nothing_is_there_twice(lab, name):
    outcome = survive.play(lab, name, survive.SHORT)
    assert not outcome.wrong, outcome.told()
    assert not outcome.signs, outcome.told()


def test_what_a_lost_session_had_said_is_there(platform):
    lab = SessionLab(platform).start()
    try:
        outcome = survive.play(lab, "lost", survive.SHORT)
    finally:
        lab.stop()
    assert not outcome.wrong, outcome.told()
    assert not outcome.signs, outcome.told()


# -- the awkward cases -----------------------------------------------------------------------------------------


class Visit:
    """A notebook of some cells, and whoever looks at it."""

    def __init__(self, lab, name, *cells):
        self.lab, self.name, self.machines = lab, name, []
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell, id=f"{name}-{place}") for place, cell in enumerate(cells)]
        )
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        self.notes = lab.notebook_file(f"{name}.txt")
        self.notes.unlink(missing_ok=True)
        lab.write(f"{name}.ipynb", book)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.kill()

    def arrive(self):
        """Open it on a machine that has never been here."""
        self.machines.append(self.lab.machine())
        notebook = self.lab.open(self.machines[-1], f"{self.name}.ipynb")
        notebook.wait()
        return notebook

    def leave(self):
        self.machines.pop().kill()

    def until_noted(self, word):
        until(
            lambda: self.notes.exists() and word in self.notes.read_text().split("\n"), f"it notes {word!r}"
        )

    def until_shown(self, notebook, expected, *, save=True):
        """Wait until the page shows what is expected, and nothing runs; then the file must say the same."""

        def all_there():
            seen = notebook.look()
            return not missing_or_doubled(expected, seen.outputs) and not seen.busy and seen.kernel == "idle"

        def difference():
            seen = notebook.look()
            return missing_or_doubled(expected, seen.outputs)[:10], seen.prompts, seen.kernel, seen.dialogs

        until(all_there, difference, 90)
        assert notebook.look().dialogs == []
        if save:
            notebook.save()
            assert notebook.look().dialogs == [], "nothing is asked when it is saved"

        def in_file():
            return missing_or_doubled(expected, of_file(self.lab.read(f"{self.name}.ipynb")).outputs)

        until(lambda: not in_file(), in_file, 15)


def first_line(notebook, cell, text):
    until(
        lambda: text in notebook.look().outputs[cell], lambda: f"{text!r} appears: {notebook.look().outputs}"
    )


EQUAL = NOTE.format(name="equal") + (
    "import time\nround = globals().get('round', 0) + 1 if isinstance(globals().get('round', 0), int) else 1\n"
    "for number in range(8):\n    print('round', round, 'line', number, flush=True)\n    time.sleep(0.25)\n"
    "note(f'done {round}')"
)


def test_equal_cells_are_not_mixed_up(lab):
    with Visit(lab, "equal", *[EQUAL] * 3) as visit:
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 2)
        first_line(notebook, 0, "round 1 line 1")
        visit.leave()
        visit.until_noted("done 3")
        wanted = [[f"round {cell} line {number}" for number in range(8)] for cell in (1, 2, 3)]
        visit.until_shown(visit.arrive(), wanted)


def test_cells_that_are_moved_edited_or_deleted_while_they_wait(lab):
    cells = [
        NOTE.format(name="moved")
        + "import time\nfor number in range(20):\n    print('long', number, flush=True)\n    time.sleep(0.25)",
        "print('as it was')",
        "print('to be deleted')\nnote('done')",
        "# stays where it is",
    ]
    with Visit(lab, "moved", *cells) as visit:
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 2)
        first_line(notebook, 0, "long 1")
        page = notebook.page
        page.locator(".jp-CodeCell:visible .cm-content").nth(1).click()
        page.keyboard.press("Control+End")
        page.keyboard.insert_text("\n# edited")
        page.keyboard.press("Escape")
        notebook.select(2)
        page.keyboard.press("d")
        page.keyboard.press("d")
        until(lambda: len(notebook.look().outputs) == 3, "the cell is deleted")
        notebook.select(0)
        for _ in range(2):
            page.keyboard.press("Control+Shift+ArrowDown")
        until(lambda: "stays" in notebook.look().sources[1], lambda: notebook.look().sources)
        notebook.save()
        visit.leave()
        visit.until_noted("done")
        notebook = visit.arrive()
        visit.until_shown(notebook, [["as it was"], [], [f"long {number}" for number in range(20)]])
        book = lab.read("moved.ipynb")
        assert [cell.source.partition("\n")[0] for cell in book.cells] == [
            "print('as it was')",
            "# stays where it is",
            cells[0].partition("\n")[0],
        ]
        assert book.cells[0].source.endswith("# edited")


def test_a_question_waits_for_its_answer_through_a_reload_and_a_new_machine(lab):
    cell = (
        "import pathlib, time\nwhile not pathlib.Path('question.go').exists():\n    time.sleep(0.1)\n"
        "name = input('Who are you? ')\nprint('hello', name)"
    )
    go = lab.notebook_file("question.go")
    with Visit(lab, "question", cell, "print('behind')") as visit:
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 1)
        # JupyterLab runs nothing more once a question is open.
        until(lambda: notebook.look().busy == [0, 1], notebook.look)
        go.touch()
        question = ".jp-Stdin input"
        notebook.page.locator(question).wait_for()
        notebook.page.reload()
        notebook.wait()
        notebook.page.locator(question).wait_for()
        visit.leave()
        notebook = visit.arrive()
        notebook.page.locator(question).wait_for()
        assert notebook.page.locator(question).count() == 1
        notebook.page.locator(question).fill("Ada")
        notebook.page.locator(question).press("Enter")
        # What a cell prints is there before the kernel says that it is over: its number comes last.
        until(lambda: notebook.look().prompts == ["1", "2"], notebook.look)
        seen = notebook.look()
        assert seen.outputs[0].count("hello Ada") == 1
        assert seen.outputs[1] == ["behind"]
        assert seen.words[0].count("Who are you?") == 2, "in the code, and once as a question"


REDRAWN = NOTE.format(name="redrawn") + (
    "import time\nfrom IPython.display import clear_output, display\nprint('before')\n"
    "for number in range(16):\n    clear_output(wait=True)\n    print('frame', number, flush=True)\n    time.sleep(0.2)\n"
    "shown = display({'shown': 0}, display_id=True)\n"
    "for number in range(16):\n    shown.update({'shown': number})\n    time.sleep(0.1)\n"
    "print('\\rhalf', end='')\nprint('\\rwhole')"
)


def test_what_is_cleared_and_drawn_again_shows_its_last_state(lab):
    more = "shown.update({'shown': 'by another cell'})\nnote('done')"
    with Visit(lab, "redrawn", REDRAWN, more) as visit:
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 1)
        first_line(notebook, 0, "frame 2")
        visit.leave()
        visit.until_noted("done")
        visit.until_shown(visit.arrive(), [["frame 15", "{'shown': 'by another cell'}", "whole"], []])


LINES = 200_000
FLOOD = NOTE.format(name="flood") + (
    "import time\nprint('begins', flush=True)\ntime.sleep(5)\n"
    f"for number in range({LINES}):\n    print(f'line {{number:06}}')\nprint('ends')"
)


def test_a_flood_of_lines_is_cut_and_the_whole_of_it_can_be_found(lab):
    with Visit(lab, "flood", FLOOD, "note('done')\nprint('behind')") as visit:
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 1)
        first_line(notebook, 0, "begins")
        visit.leave()
        visit.until_noted("done")
        notebook = visit.arrive()
        # The cells may not be drawn yet.
        until(lambda: ["behind"] in notebook.look().outputs[1:], notebook.look, 60)
        shown = notebook.look()
        lines = [piece for piece in shown.outputs[0] if re.fullmatch(r"line \d{6}", piece)]
        assert shown.outputs[0][0] == "begins"
        assert 100 < len(lines) < LINES // 4, "the page is not given all of them"
        assert lines == sorted(set(lines)), "none is there twice"
        assert "ends" in shown.outputs[0], "the end is shown too"
        logs = list((lab.folder / ".cupola" / "kernels").glob("*/log/*.txt"))
        whole = [log for log in logs if f"line {LINES - 1:06}" in log.read_text()]
        assert whole, f"the whole text lies in a file: {logs}"
        text = whole[0].read_text()
        assert sum(line.startswith("line ") for line in text.splitlines()) == LINES
        told = " ".join(shown.outputs[0]) + " ".join(
            str(link.get_attribute("href")) for link in notebook.page.locator(".jp-OutputArea a").all()
        )
        assert whole[0].name in told, "the page says where"


def test_two_pages_of_one_notebook_show_the_same(lab):
    cell = NOTE.format(name="twice") + (
        "import time\nfor number in range(12):\n    print('line', number, flush=True)\n    time.sleep(0.25)"
    )
    wanted = [[f"line {number}" for number in range(12)], ["behind"]]
    with Visit(lab, "twice", cell, "print('behind')\nnote('done')") as visit:
        other = visit.arrive()
        other.ready()
        notebook = visit.arrive()
        notebook.ready()
        notebook.run(0, 1)
        first_line(notebook, 0, "line 1")
        visit.until_noted("done")
        visit.until_shown(notebook, wanted)
        # Whoever only looks needs not save, and has nothing to be asked about.
        visit.until_shown(other, wanted, save=False)
        assert notebook.look().dialogs == []


def test_switched_off_it_is_jupyterlab_as_it_comes(tmp_path):
    lab = OursLab(tmp_path / "off", more={"CUPOLA_GUARDIAN": "0"}).start()
    try:
        with Visit(lab, "off", "print(6 * 7)") as visit:
            notebook = visit.arrive()
            notebook.ready()
            notebook.run(0)
            until(lambda: notebook.look().outputs[0] == ["42"], notebook.look)
        assert lab.state("off.ipynb") == {"on": False}
        assert not (lab.folder / ".cupola" / "kernels").exists()
        commands = [" ".join(one.cmdline()) for one in marked_with(MARK, lab.mark)]
        assert not [command for command in commands if "guardian" in command]
        (kernel,) = [one for one in marked_with(MARK, lab.mark) if "ipykernel" in " ".join(one.cmdline())]
        assert kernel.ppid() == lab.process.pid, "the server itself is its parent"
    finally:
        lab.stop()
