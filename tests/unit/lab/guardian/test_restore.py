"""Which dead kernel's variables a new one gets."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.variables.restore import claim, newest_for, tidy

NOTEBOOK = "work/one.ipynb"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make the folder of a kernel, as its guardian, the server and the kernel leave it."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    locks = []

    def kernel(name, started, *, path=NOTEBOOK, alive=False, stored=True, requests=None, **record):  # noqa: PLR0913
        folder = KernelFolder.of(name)
        folder.variables.mkdir(parents=True)
        said = {"kernel_id": name, "kernel_name": "python3", "started": started, **record}
        folder.record_file.write_text(json.dumps(said))
        lines = [{"id": "1", "path": path, "cell": "c", "code": "1"}] if requests is None else requests
        folder.requests.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"half')
        lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
        locks.append(lock)
        if alive:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if stored:
            store(folder)
        return folder

    def die(folder):
        for lock in locks:
            if os.fstat(lock).st_ino == folder.lock.stat().st_ino:
                fcntl.flock(lock, fcntl.LOCK_UN)

    kernel.die = die
    yield kernel
    for lock in locks:
        os.close(lock)


def store(folder, names=("a",), left=()):
    file = folder.variables / f"{'0' * 40}.pkl"
    file.write_bytes(b"12345")
    entries = [{"name": name, "type": "int", "bytes": 5, "file": file.name, "seconds": 0} for name in names]
    index = {"time": 1.0, "after": 3, "whole": True, "variables": entries, "modules": {}}
    index["left"] = [{"name": name, "type": "x", "why": "y"} for name in left]
    (folder.variables / "index.json").write_text(json.dumps(index))


def restored(folder, left=()):
    said = {"time": 1.0, "from": "one", "restored": ["a"], "modules": []}
    said["left"] = [{"name": name, "type": "x", "why": "y"} for name in left]
    (folder.variables / "restored.json").write_text(json.dumps(said))


def test_a_dead_kernel_of_the_notebook_is_found(make):
    folder = make("one", 1)
    assert newest_for(NOTEBOOK, "python3") == folder
    assert newest_for("work/other.ipynb", "python3") is None
    assert newest_for(NOTEBOOK, "other-python") is None


def test_the_newest_counts(make):
    make("one", 5)
    newest = make("two", 7)
    make("three", 6)
    assert newest_for(NOTEBOOK, "python3") == newest


def test_a_notebook_whose_kernel_lives_gets_nothing(make):
    make("one", 1)
    alive = make("two", 2, alive=True)
    assert newest_for(NOTEBOOK, "python3") is None
    make.die(alive)
    assert newest_for(NOTEBOOK, "python3") == alive


def test_what_its_owner_ended_does_not_come_back_nor_what_was_before(make):
    make("one", 1)
    make("two", 2, ended="asked")
    assert newest_for(NOTEBOOK, "python3") is None


def test_a_kernel_that_stored_nothing_leaves_the_one_before(make):
    one = make("one", 1)
    make("two", 2, stored=False)
    assert newest_for(NOTEBOOK, "python3") == one


def test_a_renamed_notebook_is_found_by_its_new_name(make):
    requests = [{"id": "1", "path": "old.ipynb"}, {"from": "old.ipynb", "path": NOTEBOOK}]
    folder = make("one", 1, requests=requests)
    assert newest_for(NOTEBOOK, "python3") == folder
    assert newest_for("old.ipynb", "python3") is None


@pytest.mark.parametrize("broken", ["kernel.json", "requests.jsonl", "variables/index.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "null"])
def test_a_broken_folder_is_passed_over(make, broken, content):
    one = make("one", 1)
    two = make("two", 2)
    (two.path / broken).write_text(content)
    assert newest_for(NOTEBOOK, "python3") == one


def test_only_one_kernel_gets_the_variables(make):
    one = make("one", 1)
    assert claim(NOTEBOOK, "python3", "two") == one
    make("two", 2, alive=True, stored=False, requests=[])
    assert claim(NOTEBOOK, "python3", "three") is None
    assert newest_for(NOTEBOOK, "python3") is None


def test_a_kernel_that_got_them_is_the_notebooks_even_before_it_runs_anything(make):
    make("one", 1)
    claim(NOTEBOOK, "python3", "two")
    two = make("two", 2, requests=[])
    assert claim(NOTEBOOK, "python3", "three") == two


def test_they_are_given_again_where_the_first_died_before_it_stored_them_but_not_for_ever(make):
    one = make("one", 1)
    assert claim(NOTEBOOK, "python3", "two") == one
    make("two", 2, stored=False, requests=[])
    assert claim(NOTEBOOK, "python3", "three") == one
    make("three", 3, stored=False, requests=[])
    assert claim(NOTEBOOK, "python3", "four") == one
    make("four", 4, stored=False, requests=[])
    assert claim(NOTEBOOK, "python3", "five") is None


def test_what_was_given_to_a_kernel_that_its_owner_ended_is_not_given_again(make):
    make("one", 1)
    claim(NOTEBOOK, "python3", "two")
    make("two", 2, stored=False, requests=[], ended="asked")
    assert claim(NOTEBOOK, "python3", "three") is None


def test_a_kernel_that_keeps_dying_under_its_own_id_gets_them_a_few_times(make):
    one = make("one", 1)
    assert [claim(NOTEBOOK, "python3", "one") for _ in range(4)] == [one, one, one, None]


def test_files_that_nobody_will_get_are_removed(make):
    ended = make("ended", 1, path="a.ipynb", ended="asked")
    waiting = make("waiting", 1, path="b.ipynb")
    given = make("given", 1, path="c.ipynb")
    claim("c.ipynb", "python3", "taker")
    taker = make("taker", 2, path="c.ipynb", alive=True)
    assert tidy() == 5  # one that is given away is kept until it is known what came of it
    restored(taker)
    assert tidy() == 5
    there = {
        folder.kernel_id for folder in (ended, waiting, given, taker) if list(folder.variables.glob("*.pkl"))
    }
    assert there == {"waiting", "taker"}
    assert tidy() == 0


def test_what_could_not_be_loaded_is_not_removed(make):
    given = make("given", 1)
    claim(NOTEBOOK, "python3", "taker")
    taker = make("taker", 2, alive=True)
    restored(taker, left=["a"])
    assert tidy() == 0
    assert list(given.variables.glob("*.pkl"))
