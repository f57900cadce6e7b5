"""The ledger follows the journal of a kernel, whatever happens to it."""

import json
import os
import time

import pytest

from cupola.lab.guardian.journal import ledger as ledgers
from cupola.lab.guardian.journal.ledger import Ledger, State
from support.disks import disk, fill, needs
from support.journals import Said, asked


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_SESSION", "mine")
    return Said(tmp_path / "kernels" / "k1", "mine")


@pytest.fixture
def ledger(kernel):
    ledger = Ledger(kernel.folder)
    yield ledger
    ledger.close()


def text(one):
    return "".join(output.get("text", "") for output in one.fold.outputs)


def again(kernel, before=None):
    """The server is started again."""
    if before is not None:
        before.close()
    found = Ledger(kernel.folder)
    found.poll()
    return found


def test_an_execution_from_its_request_to_its_end(kernel, ledger):
    ledger.note(asked("x1"))
    assert ledger.executions["x1"].state is State.QUEUED
    kernel.begin("x1")
    kernel.print("x1", "a\n")
    ledger.poll()
    one = ledger.executions["x1"]
    assert (one.state, one.count, text(one)) == (State.RUNNING, 1, "a\n")
    assert ledger.running is one
    assert ledger.busy
    kernel.finish("x1")
    assert ledger.poll()
    assert (one.state, ledger.busy) == (State.DONE, False)
    assert not ledger.poll()
    told = again(kernel).executions["x1"]
    assert (told.state, told.count, told.code, text(told)) == (State.DONE, 1, "x", "a\n")


def test_a_cell_that_never_began_is_aborted(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.say("status", {"execution_state": "busy"}, "x1")
    kernel.finish("x1")
    ledger.poll()
    assert ledger.executions["x1"].state is State.ABORTED
    assert not ledger.begun_of("a.ipynb")


def test_the_newest_execution_of_a_cell_counts(kernel, ledger):
    ledger.note(asked("x1"))
    ledger.note(asked("x2"))
    ledger.note(asked("y1", cell="c2"))
    kernel.run("x1", "old")
    ledger.poll()
    assert [one.id for one in ledger.of("a.ipynb")] == ["x2", "y1"]
    # What was asked for and has not begun says nothing yet of what the cell shows.
    assert [one.id for one in ledger.begun_of("a.ipynb")] == ["x1"]
    kernel.run("x2", "new")
    ledger.poll()
    assert [text(one) for one in ledger.begun_of("a.ipynb")] == ["new"]


def test_a_copy_of_a_notebook_is_another_one_and_a_renamed_one_the_same(kernel, ledger):
    ledger.note(asked("x1", path="f/a.ipynb"))
    kernel.run("x1", "a")
    ledger.note(asked("x2", path="f/b.ipynb"))
    kernel.run("x2", "b")
    ledger.poll()
    assert [text(one) for one in ledger.of("f/a.ipynb")] == ["a"]
    ledger.rename("f", "g")
    ledger.rename("g/a.ipynb", "c.ipynb")
    for told in (ledger, again(kernel)):
        assert [text(one) for one in told.of("c.ipynb")] == ["a"]
        assert [text(one) for one in told.of("g/b.ipynb")] == ["b"]
        assert not told.of("f/a.ipynb")


@pytest.mark.parametrize("word", ["end", "start"])
def test_what_a_kernel_did_not_finish_is_lost_with_it(kernel, ledger, word):
    ledger.note(asked("x1"))
    ledger.note(asked("x2", cell="c2"))
    kernel.begin("x1")
    kernel.print("x1", "a")
    kernel.say(word, epoch=2)
    ledger.poll()
    assert {one.state for one in ledger.of("a.ipynb")} == {State.LOST}
    assert text(ledger.executions["x1"]) == "a"
    time.sleep(0.01)
    ledger.note(asked("x3", cell="c3"))
    kernel.run("x3", "of the next one")
    ledger.poll()
    assert [one.state for one in again(kernel, ledger).of("a.ipynb")] == [State.LOST, State.LOST, State.DONE]


def test_a_guardian_that_ends_without_a_word_is_noticed(kernel, ledger, monkeypatch):
    monkeypatch.setattr(ledgers, "STARTS_S", -1)
    ledger.note(asked("x1"))
    kernel.begin("x1")
    ledger.poll()
    assert ledger.executions["x1"].state is State.RUNNING
    kernel.die()
    assert again(kernel).executions["x1"].state is State.LOST


def test_a_kernel_of_a_busy_console_is_busy(kernel, ledger):
    kernel.begin("console")
    ledger.poll()
    assert ledger.busy
    assert ledger.running is None
    kernel.finish("console")
    ledger.poll()
    assert not ledger.busy


def test_what_was_noted_and_never_sent_can_be_told(kernel, ledger, monkeypatch):
    ledger.note(asked("x1"))
    assert ledger.was_sent("x1")
    assert not ledger.was_sent("unknown")
    after = again(kernel)
    assert after.was_sent("x1")  # it may be on its way
    monkeypatch.setattr(ledgers, "SENT_S", -1)
    assert not after.was_sent("x1")
    monkeypatch.setattr(ledgers, "LOOK_S", -1)
    after.poll()
    assert after.executions["x1"].state is State.LOST
    # Asked for once more, under the same id.
    after.note(asked("x1"))
    assert after.executions["x1"].state is State.QUEUED
    assert after.was_sent("x1")
    kernel.run("x1", "a")
    after.poll()
    assert (after.executions["x1"].state, text(after.executions["x1"])) == (State.DONE, "a")
    assert len(after.of("a.ipynb")) == 1


def test_requests_reach_a_kernel_in_their_order(kernel, ledger):
    ledger.note(asked("x1"))
    ledger.note(asked("x2", cell="c2"))
    kernel.begin("x2")
    after = again(kernel)
    assert not after.was_sent("x1")
    assert after.was_sent("x2")


def test_half_lines_wait_and_torn_ones_are_left_out(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.begin("x1")
    segment = next(kernel.folder.journal.iterdir())
    with segment.open("ab") as file:
        line = b'{"n":50,"t":1.0,"type":"stream","id":"x1","content":{"name":"stdout","text":"a"}}\n'
        file.write(line[:30])
        file.flush()
        ledger.poll()
        assert text(ledger.executions["x1"]) == ""
        file.write(
            line[30:] + b'{"n":51,"t"\n[]\n{"n":52,"t":1.0,"type":"later","id":"x1"}\n{"type":"stream"}\n'
        )
    with kernel.folder.requests.open("ab") as file:
        file.write(b'{"id"\n7\n{"id":"y","later":1}\n{"id":3,"cell":"c"}\n')
    ledger.poll()
    assert text(ledger.executions["x1"]) == "a"
    assert list(ledger.executions) == ["x1"]


def test_segments_are_followed_and_may_vanish(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.begin("x1")
    for number in range(5):
        kernel.print("x1", f"{number}\n")
        kernel.next_segment()
        if number == 2:
            ledger.poll()
    sorted(kernel.folder.journal.iterdir())[3].unlink()
    kernel.finish("x1")
    ledger.poll()
    assert text(ledger.executions["x1"]) == "0\n1\n2\n4\n"


@pytest.mark.usefixtures("kernel")
def test_nothing_is_listed_while_nothing_is_new(ledger, monkeypatch):
    ledger.poll()
    listed = []
    monkeypatch.setattr(os, "listdir", lambda *_: listed.append(1) or [])
    for _ in range(50):
        ledger.poll()
    assert not listed


def test_displays_are_changed_by_other_cells_even_later(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.begin("x1")
    kernel.show("x1", "0 %", "bar")
    kernel.finish("x1")
    ledger.poll()
    one = ledger.executions["x1"]
    ledger.settle(one, "saved")
    assert one.kept is None
    ledger.note(asked("x2", cell="c2"))
    kernel.begin("x2")
    kernel.show("x2", "100 %", "bar", "update_display_data")
    kernel.finish("x2")
    ledger.poll()
    for told in (ledger, again(kernel)):
        one = told.executions["x1"]
        assert [output["data"]["text/plain"] for output in one.fold.outputs] == ["100 %"]
        assert not one.settled
        assert one.late


def test_threads_may_speak_after_the_end_of_their_cell(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.run("x1", "a")
    ledger.poll()
    ledger.settle(ledger.executions["x1"], "saved")
    kernel.print("x1", "late")
    ledger.poll()
    for told in (ledger, again(kernel)):
        one = told.executions["x1"]
        assert (text(one), one.settled, one.state) == ("alate", "", State.DONE)


def test_settled_executions_keep_no_outputs_and_say_what_they_were(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.run("x1", "a" * 100)
    ledger.poll()
    assert not ledger.all_settled
    ledger.settle(ledger.executions["x1"], "saved")
    assert ledger.all_settled
    told = again(kernel)
    one = told.executions["x1"]
    assert (one.settled, one.state, one.count, told.all_settled) == ("saved", State.DONE, 1, True)
    # Still, somebody who missed it can have it as long as the journal has.
    assert text(one) == "a" * 100


def test_the_journal_is_cut_where_all_is_settled(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.run("x1", "a")
    kernel.next_segment()
    ledger.note(asked("x2", cell="c2"))
    kernel.run("x2", "b")
    kernel.next_segment()
    ledger.poll()
    ledger.settle(ledger.executions["x1"], "saved")
    assert not ledger.cut()  # a page may still ask
    kernel.old()
    assert len(ledger.cut()) == 1
    assert not ledger.cut()
    told = again(kernel, ledger)
    assert (told.executions["x1"].state, told.executions["x1"].count) == (State.DONE, 1)
    assert text(told.executions["x2"]) == "b"
    told.settle(told.executions["x2"], "saved")
    kernel.old()
    assert len(told.cut()) == 1
    assert len(list(kernel.folder.journal.iterdir())) == 1


def test_another_session_of_the_same_home_only_reads(kernel, ledger, monkeypatch):
    ledger.note(asked("x1"))
    kernel.run("x1", "a")
    kernel.next_segment()
    assert ledger.writes
    other = again(kernel)
    assert not other.writes  # two servers, one lock
    ledger.close()
    monkeypatch.setenv("CUPOLA_SESSION", "theirs")
    other.settle(other.executions["x1"], "saved")
    kernel.old()
    assert not other.cut()
    kernel.die()
    # Nobody else will.
    assert len(other.cut()) == 1


def test_the_middle_of_a_flood_is_in_a_file_of_its_own_once(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.begin("x1")
    for number in range(60):
        kernel.print("x1", "".join(f"{number}-{line}\n" for line in range(200)))
        if number % 20 == 7:
            ledger.poll()
    ledger = again(kernel, ledger)
    kernel.print("x1", "rest")
    kernel.finish("x1")
    ledger.poll()
    again(kernel, ledger)
    whole = "".join(f"{number}-{line}\n" for number in range(60) for line in range(200)) + "rest"
    place = kernel.folder.texts / "x1.txt"
    assert place.read_text() == whole
    first, cut, last = ledger.executions["x1"].fold.outputs
    assert whole.startswith(first["text"])
    assert whole.endswith(last["text"])
    assert str(place) in cut["data"]["text/plain"]
    assert "7,001 lines" in cut["data"]["text/plain"]


def test_a_hole_in_the_journal_is_told_in_the_cell(kernel, ledger):
    ledger.note(asked("x1"))
    kernel.begin("x1")
    kernel.print("x1", "a\n")
    kernel.say("gap", why="No space left on device", messages=12)
    kernel.print("x1", "b\n")
    kernel.finish("x1")
    ledger.poll()
    assert "12 messages" in text(ledger.executions["x1"])
    ledger.settle(ledger.executions["x1"], "saved")
    assert "12 messages" in text(ledger.executions["x1"])


def test_a_journal_of_a_dead_kernel_that_nobody_needs_is_not_read(kernel, ledger, monkeypatch):
    ledger.note(asked("x1"))
    kernel.run("x1", "a")
    ledger.poll()
    kernel.die()
    assert again(kernel).read  # somebody needs it
    ledger.settle(ledger.executions["x1"], "saved")
    monkeypatch.setattr(Ledger, "_hear", lambda *_: pytest.fail("it was read"))
    told = again(kernel)
    assert (told.all_settled, told.executions["x1"].state, told.comms()) == (True, State.DONE, {})
    assert text(told.executions["x1"]) == "a"


@pytest.mark.system
def test_a_full_disk_tears_nothing(tmp_path):
    needs("mkfs.ext4", "mount")
    with disk(tmp_path, "ext4", 8) as place:
        kernel = Said(place / "k1")
        ledger = Ledger(kernel.folder)
        ledger.note(asked("x1"))
        fill(place)
        with pytest.raises(OSError, match="space"):
            ledger.note(asked("x2", cell="c2", code="y" * 10000))
        assert "x2" in ledger.executions
        (place / "fill").unlink()
        ledger.note(asked("x3", cell="c3"))
        told = [json.loads(line)["id"] for line in kernel.folder.requests.read_text().splitlines()]
        assert told == ["x1", "x3"]
        ledger.close()
        kernel.die()


def test_what_is_not_looked_at_can_go_from_memory(kernel, ledger, monkeypatch):
    monkeypatch.setattr("cupola.lab.guardian.journal.memory.MOST", 1000)
    for number in range(9):
        ledger.note(asked(f"x{number}", cell=f"c{number}"))
        kernel.run(f"x{number}", f"{number}" * 500)
    ledger.poll()
    assert sum(one.kept is not None for one in ledger.executions.values()) < 4
    assert [text(one)[0] for one in ledger.of("a.ipynb")] == list("012345678")


def test_what_an_output_widget_takes_is_not_the_cells(kernel, ledger):
    def tell(kind, **data):
        content = {"comm_id": "out", "target_name": "jupyter.widget", "data": data}
        kernel.say(kind, content, "x1")

    ledger.note(asked("x1"))
    kernel.begin("x1")
    tell("comm_open", state={"_model_name": "OutputModel", "msg_id": "", "outputs": []})
    tell("comm_msg", method="update", state={"msg_id": "x1"})
    kernel.print("x1", "inside")
    kernel.say("error", {"ename": "E", "evalue": "", "traceback": []}, "x1")
    tell("comm_msg", method="update", state={"msg_id": ""})
    kernel.print("x1", "outside")
    kernel.finish("x1")
    ledger.poll()
    one = ledger.executions["x1"]
    assert text(one) == "outside"
    assert not one.failed, "the widget shows the error, and the cell went on"
    one.drop()
    assert text(one) == "outside", "read from the journal again"
    [model] = ledger.widgets.open_ones().values()
    assert [output["output_type"] for output in model["state"]["outputs"]] == ["stream", "error"]
