"""Files of notebooks hold what kernels said, and nobody finds a conflict."""

import asyncio
import hashlib
import json
import os
import shutil
import time

import nbformat
import pytest
from tornado.web import HTTPError

from cupola.lab.guardian.documents import contents as documents
from cupola.lab.guardian.journal.ledger import Ledger
from cupola.lab.guardian.journal.widgets import STATE, VIEW
from support.disks import disk, fill, needs
from support.homes import Home, cell, text
from support.journals import Said, asked


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "AFTER_SAVE_S", -1)
    home = Home(tmp_path)
    yield home
    home.close()


def run(home, name="x1", *texts, cell="c1", path="a.ipynb", **fields):
    home.ledger.note(asked(name, cell=cell, path=path, **fields))
    home.kernel.run(name, *(texts or ("out\n",)))


def test_a_notebook_is_read_with_what_its_kernel_said(home):
    home.write(cell(), cell("c2", "y"))
    run(home, "x1", "a\n", "b\n")
    home.ledger.note(asked("x2", cell="c2"))
    home.kernel.begin("x2")
    home.kernel.print("x2", "so far")
    first, second = home.content()["cells"]
    assert (text(first), first["execution_count"]) == ("a\nb\n", 1)
    assert (text(second), second["execution_count"]) == ("so far", None)
    assert first["metadata"]["trusted"]
    assert not home.file().cells[0].outputs  # the page will save it


def test_a_save_that_has_it_settles_and_a_clear_after_it_stays(home):
    home.write(cell())
    run(home)
    content = home.content()
    home.save(content)
    assert home.ledger.executions["x1"].settled == "saved"
    content["cells"][0].update(outputs=[], execution_count=None)
    home.save(content)
    assert not home.content()["cells"][0]["outputs"]
    home.start()
    assert not home.content()["cells"][0]["outputs"]


def test_a_save_by_whoever_has_not_seen_the_file_is_refused(home):
    home.write(cell())
    content = home.content()
    first = home.save(content)["hash"]
    content["cells"][0]["source"] = "x = 'newer'"
    second = home.save(content, base=first)["hash"]
    assert second != first
    content["cells"][0]["source"] = "x = 'late'"
    with pytest.raises(HTTPError) as refused:
        home.save(content, base=first)
    assert refused.value.status_code == 409
    assert home.content()["cells"][0]["source"] == "x = 'newer'"
    # What we have put in ourselves is no change of somebody else's.
    run(home)
    assert home.keep()
    home.save(content, base=second)
    # A file that is gone, or was saved under another name, is no reason either.
    home.save(content, path="b.ipynb", base=first)
    assert home.content()["cells"][0]["source"] == "x = 'late'"


def test_a_page_that_missed_it_cannot_lose_it(home):
    home.write(cell())
    content = home.content()
    run(home)
    home.save(content)
    assert not home.ledger.executions["x1"].settled
    assert text(home.content()["cells"][0]) == "out\n"


def test_a_page_says_what_it_had_heard_before_it_saved(home):
    home.write(cell())
    content = home.content()
    run(home)
    home.save(content)  # cleared, after the page had seen it
    home.contents.settle("a.ipynb", ["x1", "unknown"])
    assert home.ledger.executions["x1"].settled == "saved"
    assert not home.content()["cells"][0]["outputs"]


def test_a_count_of_an_older_kernel_is_no_proof(home):
    home.write(cell(execution_count=1, outputs=[nbformat.v4.new_output("stream", text="old")]))
    content = home.content()
    run(home, "x1", "new")
    home.save(content)
    assert text(home.content()["cells"][0]) == "new"


def test_a_deleted_cell_does_not_come_back_unless_the_deletion_is_undone(home):
    home.write(cell(), cell("c2", "y"))
    run(home)
    run(home, "x2", cell="c2")
    before = home.content()
    home.save({**before, "cells": before["cells"][:1]})
    assert [one["id"] for one in home.content()["cells"]] == ["c1"]
    stale = json.loads(json.dumps(before))
    stale["cells"][1].update(outputs=[], execution_count=None)
    home.save(stale)
    assert text(home.content()["cells"][1]) == "out\n"


def test_edited_and_moved_cells_keep_their_outputs(home):
    home.write(cell(), cell("c2", "y"))
    content = home.content()
    run(home)
    content["cells"].reverse()
    content["cells"][1]["source"] = "edited"
    home.save(content)
    found = home.content()["cells"][1]
    assert (found["source"], text(found)) == ("edited", "out\n")


def test_a_cell_that_was_run_and_never_saved_is_there(home):
    home.write(cell(), cell("c9", "z"))
    run(home, "x1", cell="new", code="new code", after="c1")
    run(home, "x2", cell="next", code="next code", after="new")
    run(home, "x3", cell="lost", code="lost code", after="nowhere")
    for _ in range(2):
        found = home.content()["cells"]
        assert [one["id"] for one in found] == ["c1", "new", "next", "c9", "lost"]
        assert found[1]["metadata"]["cupola"] == {"recovered": True}
        assert found[1]["source"] == "new code"
        assert home.keep() or home.keep() is False
    assert [one.id for one in home.file().cells] == ["c1", "new", "next", "c9", "lost"]
    nbformat.validate(home.file())


def test_a_cell_of_a_file_that_was_replaced_does_not_come_back(home):
    home.write(cell())
    run(home, "x1", cell="new")
    later = (home.place / "a.ipynb").stat().st_mtime + 100
    home.write(cell("c7"))
    os.utime(home.place / "a.ipynb", (later, later))
    assert [one["id"] for one in home.content()["cells"]] == ["c7"]


def test_the_last_kernel_that_ran_a_cell_counts(home, tmp_path):
    home.write(cell())
    run(home, "x1", "old")
    other = Said(tmp_path / ".cupola" / "kernels" / "a-later-one")
    second = Ledger(other.folder)
    second.note(asked("x2"))
    other.run("x2", "new")
    home.contents.parent.kernel_manager.ledgers = lambda: [second, home.ledger]
    assert text(home.content()["cells"][0]) == "new"
    home.contents.parent.kernel_manager.ledgers = lambda: [home.ledger, second]
    assert text(home.content()["cells"][0]) == "new"
    second.close()


def test_cells_of_old_notebooks_are_found_by_what_they_say_if_only_one_does(home):
    home.write(cell("a", "only"), cell("b", "twice"), cell("c", "twice"), minor=4)
    run(home, "x1", cell="made-up", code="only")
    run(home, "x2", cell="made-up-2", code="twice")
    found = home.content()["cells"]
    assert [text(one) for one in found] == ["out\n", "", ""]
    before = (home.place / "a.ipynb").read_bytes()
    assert not home.keep()
    assert (home.place / "a.ipynb").read_bytes() == before


# -- the file itself --------------------------------------------------------------------------------------------


def test_the_file_is_brought_up_to_date_while_no_page_has_it_open(home):
    home.write(cell())
    told = home.get(content=False, require_hash=True)
    (home.place / "a.ipynb").chmod(0o640)
    home.connections["k1"] = 1
    run(home)
    assert not home.keep()
    home.connections["k1"] = 0
    assert home.keep()
    assert text(home.file().cells[0]) == "out\n"
    assert (home.place / "a.ipynb").stat().st_mode & 0o777 == 0o640
    assert not home.keep()
    # For a page that had it open before, nothing has changed; also after a restart.
    for _ in range(2):
        now = home.get(content=False, require_hash=True)
        assert (now["hash"], now["last_modified"]) == (told["hash"], told["last_modified"])
        assert home.get(content=True, require_hash=True)["hash"] == told["hash"]
        home.start()
    assert not list(home.place.glob(".~*"))


def test_a_page_that_then_saves_wins_and_loses_nothing(home):
    home.write(cell(), cell("c2", "y"))
    stale = home.content()
    run(home)
    assert home.keep()
    stale["cells"][1]["source"] = "edited"
    home.save(stale)
    assert not home.file().cells[0].outputs
    found = home.content()["cells"]
    assert (text(found[0]), found[1]["source"]) == ("out\n", "edited")
    home.contents._written.clear()
    assert home.keep()
    assert (text(home.file().cells[0]), home.file().cells[1].source) == ("out\n", "edited")


def test_a_file_that_somebody_else_changed_is_told_as_it_is(home):
    home.write(cell())
    run(home)
    assert home.keep()
    home.write(cell(source="theirs"))
    data = (home.place / "a.ipynb").read_bytes()
    assert home.get(content=False, require_hash=True)["hash"] == hashlib.sha256(data).hexdigest()


def test_a_write_that_somebody_else_was_quicker_with_is_left_out(home, monkeypatch):
    home.write(cell())
    run(home)
    read = documents.filing.read

    def read_and_lose(place, *options):
        found = read(place, *options)
        home.write(cell(source="theirs"))
        return found

    monkeypatch.setattr(documents.filing, "read", read_and_lose)
    assert not home.keep()
    assert home.file().cells[0].source == "theirs"
    assert not list(home.place.glob(".~*"))


@pytest.mark.parametrize("kind", ["link", "folder of a link", "no notebook", "format 3", "no file"])
def test_files_that_are_not_ours_to_write_are_left_alone(home, tmp_path_factory, kind):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.ipynb"
    path, place = "a.ipynb", home.place / "a.ipynb"
    home.write(cell())
    if kind == "link":
        shutil.move(place, elsewhere)
        place.symlink_to(elsewhere)
    elif kind == "folder of a link":
        shutil.move(place, elsewhere)
        (home.place / "shared").symlink_to(elsewhere.parent)
        path, place = "shared/a.ipynb", elsewhere
    elif kind == "no notebook":
        place.write_text('{"cells": [')
    elif kind == "format 3":
        place.write_text('{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}')
    else:
        place.unlink()
    before = place.read_bytes() if place.exists() else None
    run(home, path=path)
    assert not home.keep(path)
    assert (place.read_bytes() if place.exists() else None) == before


def test_what_we_wrote_is_trusted_if_the_rest_was(home):
    html = {"output_type": "display_data", "data": {"text/html": "<b>x</b>"}, "metadata": {}}
    home.write(cell(), cell("c2", "y", outputs=[nbformat.from_dict(html)]))
    run(home)
    home.kernel.say("display_data", {"data": {"text/html": "<i>"}, "metadata": {}}, "x1")
    assert home.keep()
    # The second cell's output is of somebody else, and nobody has said that it may run.
    home.ledger.settle(home.ledger.executions["x1"], "saved")
    assert [one["metadata"].get("trusted") for one in home.content()["cells"]] == [False, False]
    asyncio.run(home.contents.trust_notebook("a.ipynb"))
    run(home, "x2")
    home.kernel.say("display_data", {"data": {"text/html": "<i>"}, "metadata": {}}, "x2")
    assert home.keep()
    home.ledger.settle(home.ledger.executions["x2"], "saved")
    assert [one["metadata"].get("trusted") for one in home.content()["cells"]] == [True, True]


def test_renamed_notebooks_keep_what_is_theirs_and_copies_get_nothing(home):
    (home.place / "f").mkdir()
    home.write(cell(), path="f/a.ipynb")
    told = home.get("f/a.ipynb", content=False, require_hash=True)["hash"]
    run(home, path="f/a.ipynb")
    assert home.keep("f/a.ipynb")
    home.write(cell(), path="copy.ipynb")
    asyncio.run(home.contents.rename_file("f", "g"))
    home.start()
    assert text(home.content("g/a.ipynb")["cells"][0]) == "out\n"
    assert home.get("g/a.ipynb", content=False, require_hash=True)["hash"] == told
    assert not home.content("copy.ipynb")["cells"][0]["outputs"]


def test_a_notebook_that_was_moved_behind_the_servers_back_keeps_what_is_its(home):
    (home.place / "f").mkdir()
    home.write(cell(), cell("c2", "y"))
    told = home.get(content=False, require_hash=True)["hash"]
    run(home, "x1", "one\n")
    assert home.keep()
    run(home, "x2", "two\n", cell="c2")
    # The clock of files ticks every hundredth of a second at most.
    time.sleep(0.05)
    (home.place / "a.ipynb").rename(home.place / "f" / "b.ipynb")
    home.start()
    assert [text(one) for one in home.content("f/b.ipynb")["cells"]] == ["one\n", "two\n"]
    assert home.ledger.paths() == {"f/b.ipynb"}
    assert home.get("f/b.ipynb", content=False, require_hash=True)["hash"] == told


@pytest.mark.parametrize("case", ["old copy", "there", "open", "another", "its own"])
def test_a_notebook_that_was_not_moved_gets_nothing_of_another(home, case):
    home.write(cell(), cell("c2", "y"), cell("c3", "z"))
    place, other = home.place / "a.ipynb", home.place / "b.ipynb"
    if case == "old copy":
        shutil.copy(place, other)
    for number in (1, 2, 3):
        run(home, f"x{number}", cell=f"c{number}")
    time.sleep(0.05)
    if case == "open":
        # A page is there that has the notebook, and will save it under its name.
        home.connections["k1"] = 1
    if case == "its own":
        run(home, "x9", cell="c9", path="b.ipynb")
    if case == "another":
        home.write(cell(), cell("c8"), path="b.ipynb")
    elif case != "old copy":
        shutil.copy(place, other)
    if case != "there":
        place.unlink()
    assert [text(one) for one in home.content("b.ipynb")["cells"]] == [""] * (2 if case == "another" else 3)
    assert "a.ipynb" in home.ledger.paths()


def test_widgets_of_a_kernel_that_is_gone_have_their_last_state(home):
    home.write(cell())
    home.ledger.note(asked("x1"))
    home.kernel.begin("x1")
    model = {
        "_model_name": "IntProgressModel",
        "_model_module": "@jupyter-widgets/controls",
        "_model_module_version": "2",
    }
    for name, state in [("l1", {}), ("w1", model | {"value": 0, "layout": "IPY_MODEL_l1"}), ("other", model)]:
        data = {"state": state, "buffer_paths": []}
        home.kernel.say("comm_open", {"comm_id": name, "target_name": "jupyter.widget", "data": data}, "x1")
    home.kernel.say("display_data", {"data": {VIEW: {"model_id": "w1"}}, "metadata": {}}, "x1")
    home.kernel.say("comm_msg", {"comm_id": "w1", "data": {"method": "update", "state": {"value": 7}}}, "x1")
    home.kernel.finish("x1")
    assert home.keep()
    state = home.file().metadata.widgets[STATE]["state"]
    assert sorted(state) == ["l1", "w1"]
    assert state["w1"]["state"]["value"] == 7
    assert state["w1"]["model_name"] == "IntProgressModel"
    assert home.ledger.comms() == {"l1": "jupyter.widget", "w1": "jupyter.widget", "other": "jupyter.widget"}


@pytest.mark.system
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    needs("mkfs.ext4", "mount")
    with disk(tmp_path, "ext4", 8) as place:
        home = Home(place)
        home.write(cell())
        run(home, "x1", "o" * 50_000)
        before = (place / "a.ipynb").read_bytes()
        fill(place)
        assert not home.keep()
        assert (place / "a.ipynb").read_bytes() == before
        assert len(text(home.content()["cells"][0])) == 50_000
        (place / "fill").unlink()
        home.contents._written.clear()
        assert home.keep()
        assert len(text(home.file().cells[0])) == 50_000
        home.close()
