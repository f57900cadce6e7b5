"""What happened while nobody looked, and which kernel was lost."""

import json
import time

import pytest

from cupola.lab.guardian.journal.execution import Execution, State
from cupola.lab.guardian.journal.ledger import Ledger
from cupola.lab.guardian.pages.away import ABSENT_S, BEAT_S, Attendance, duration, tell
from cupola.lab.guardian.pages.loss import find_loss
from support.journals import Said, asked


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def begin(tmp_path, clock):
    return Attendance(tmp_path / "looked.json", clock)


def test_whoever_comes_for_the_first_time_was_not_away(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    assert one.absences("a.ipynb") == []


def test_an_absence_lasts_until_its_news_are_read(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    one.left("a.ipynb")
    clock.now += 100
    assert one.absences("a.ipynb") == [(1000, 1100)]  # of a Lab that has not opened it yet
    one.came("a.ipynb")
    clock.now += 50
    assert one.absences("a.ipynb") == [(1000, 1100)]
    one.left("a.ipynb")
    clock.now += 100
    one.came("a.ipynb")
    assert one.absences("a.ipynb") == [(1000, 1100), (1150, 1250)]
    one.read("a.ipynb")
    assert one.absences("a.ipynb") == []


def test_a_page_that_is_loaded_anew_was_not_away(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    one.left("a.ipynb")
    clock.now += ABSENT_S - 1
    one.came("a.ipynb")
    assert one.absences("a.ipynb") == []


def test_a_second_page_looks_on_while_the_first_goes(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    one.came("a.ipynb")
    one.left("a.ipynb")
    clock.now += 100
    one.came("a.ipynb")
    assert one.absences("a.ipynb") == []


def test_a_server_that_was_killed_knows_when_somebody_looked_last(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    clock.now += BEAT_S + 1
    one.beat()
    clock.now += 100
    again = begin(tmp_path, clock)
    again.came("a.ipynb")
    assert again.absences("a.ipynb") == [(1011, 1111)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a.ipynb": 3}', "\x00\xff"])
def test_a_spoilt_file_is_no_reason_to_fail(tmp_path, clock, content):
    (tmp_path / "looked.json").write_text(content, encoding="latin-1")
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    assert json.loads((tmp_path / "looked.json").read_text())["a.ipynb"]["looked"] == 1000


def test_where_nothing_can_be_written_it_is_kept_in_memory(tmp_path, clock):
    one = Attendance(tmp_path / "no folder" / "looked.json", clock)
    one.came("a.ipynb")
    one.left("a.ipynb")
    clock.now += 100
    one.came("a.ipynb")
    assert one.absences("a.ipynb") == [(1000, 1100)]


def test_a_renamed_notebook_keeps_its_news(tmp_path, clock):
    one = begin(tmp_path, clock)
    one.came("a.ipynb")
    one.left("a.ipynb")
    one.renamed("a.ipynb", "b.ipynb")
    clock.now += 100
    assert one.absences("b.ipynb") == [(1000, 1100)]


def done(cell, at, **fields):
    return Execution(
        cell, cell=cell, asked=1.0, started=at - 1, ended=at, state=State.DONE, count=1, **fields
    )


def test_news_name_what_ended_meanwhile_and_what_still_runs():
    running = Execution("r", cell="r", asked=2.0, started=3.0, state=State.RUNNING)
    queued = Execution("q", cell="q", asked=2.0)
    before, after = done("before", 5.0), done("after", 3000.0)
    told = tell(
        [done("a", 20.0), done("b", 30.0), done("c", 40.0, failed=True), running, queued, before, after],
        [(10, 2470)],
    )
    assert (
        told["text"]
        == "While you were away: 2 cells finished, 1 failed, 1 still running, 1 waiting (41 min)."
    )
    assert [one["cell"] for one in told["cells"]] == ["r", "a", "b", "c"]
    assert told["cells"][3]["state"] == "failed"


def test_what_ended_between_two_absences_was_seen():
    told = tell([done("seen", 150.0), done("missed", 250.0)], [(10, 100), (200, 320)])
    assert told["text"] == "While you were away: 1 cell finished (2 min)."
    assert [one["cell"] for one in told["cells"]] == ["missed"]


def test_where_nothing_ended_there_are_no_news():
    assert tell([done("a", 5.0), Execution("r", asked=2.0, state=State.RUNNING)], [(10, 100)]) is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(20, "less than a minute"), (2460, "41 min"), (7300, "2 h"), (260000, "3 days")]
)
def test_lengths_of_time(seconds, said):
    assert duration(seconds) == said


@pytest.fixture
def lost(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_SESSION", "mine")
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    kernel = Said(tmp_path / "kernels" / "k1", "mine")
    ledger = Ledger(kernel.folder)
    ledger.note(asked("x1"))
    kernel.begin("x1")
    ledger.poll()
    yield kernel, ledger
    ledger.close()


def test_a_kernel_whose_guardian_could_write_nothing_more_ended_with_its_container(lost):
    kernel, ledger = lost
    kernel.die()
    told = find_loss("a.ipynb", [ledger], None)
    assert (told["why"], told["cells"]) == ("container", ["c1"])
    assert "ended with its container" in told["ended"]
    assert told["text"] == f"{told['ended']} {told['back']}"
    assert find_loss("b.ipynb", [ledger], None) is None


def test_a_kernel_that_nobody_used_says_so(lost):
    kernel, ledger = lost
    kernel.finish("x1")
    kernel.say("end", code=-15, signal=15, told=True)
    kernel.die()
    assert "The session was stopped" in find_loss("a.ipynb", [ledger], None)["ended"]
    kernel.folder.record_file.write_text('{"kernel_id": "k1", "session": "mine", "ended": "culled"}')
    told = find_loss("a.ipynb", [ledger], None)
    assert told["why"] == "culled"
    assert "nobody had used it" in told["ended"]


def test_a_kernel_that_was_started_again_under_its_own_id_tells_how_the_one_before_ended(lost):
    kernel, ledger = lost
    assert find_loss("a.ipynb", [ledger], kernel.folder) is None
    kernel.say("start", epoch=2)
    ledger.poll()
    ending = {"epoch": 1, "ended": "", "t": time.time(), "code": -9, "signal": 9}
    kernel.record(epoch=2, started=time.time(), before=ending)
    told = find_loss("a.ipynb", [ledger], kernel.folder)
    assert (told["id"], told["why"], told["cells"], told["coming"]) == ("k1.1", "kernel", ["c1"], False)
    assert "want of memory" in told["ended"]
    assert told["back"] == "A new kernel runs without its variables: run the cells again."
    # It was asked nothing of this notebook's before.
    assert find_loss("b.ipynb", [ledger], kernel.folder) is None
    kernel.record(epoch=2, before={"epoch": 1, "ended": "", "t": time.time()})
    assert "ended with its container" in find_loss("a.ipynb", [ledger], kernel.folder)["ended"]
    kernel.record(epoch=2, before=ending | {"t": "soon"})
    assert find_loss("a.ipynb", [ledger], kernel.folder) is None
    # Its owner has restarted it.
    kernel.record(epoch=3, before=ending | {"epoch": 2, "ended": "asked"})
    assert find_loss("a.ipynb", [ledger], kernel.folder) is None


def test_a_kernel_that_loads_its_variables_says_so(lost):
    kernel, ledger = lost
    kernel.record(epoch=2, started=time.time(), before={"epoch": 1, "ended": "", "t": time.time()})
    kernel.folder.variables.mkdir()
    (kernel.folder.variables / "taken").write_text('{"by": "k1", "path": "a.ipynb"}')
    told = find_loss("a.ipynb", [ledger], kernel.folder)
    assert (told["coming"], told["back"]) == (True, "A new kernel runs; its variables are coming back.")
    (kernel.folder.variables / "problem.json").write_text(
        '{"why": "the variables could not be brought back"}'
    )
    assert find_loss("a.ipynb", [ledger], kernel.folder)["coming"] is False


def test_a_cell_that_was_executed_since_is_not_cut_any_more(lost):
    kernel, ledger = lost
    ledger.note(asked("x2", cell="c2"))
    kernel.say("start", epoch=2)
    kernel.record(epoch=2, before={"epoch": 1, "ended": "", "t": time.time()})
    ledger.poll()
    ledger.note(asked("x3"))
    kernel.run("x3")
    ledger.poll()
    told = find_loss("a.ipynb", [ledger], kernel.folder)
    assert (told["cells"], told["waited"]) == (["c2"], ["c2"])
