"""What the server says of stored variables."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.variables.kernel_pickle import OtherPythonError, constructor
from cupola.lab.guardian.variables.kernel_worker import size
from cupola.lab.guardian.variables.snapshots import Restored, Snapshot, answer, ask, clock


@pytest.fixture
def folder(tmp_path):
    made = KernelFolder(tmp_path / "kernel")
    made.variables.mkdir(parents=True)
    return made


def write(folder, name, **said):
    (folder.variables / name).write_text(json.dumps(said))


def entry(name, file="f", size=3):
    return {"name": name, "type": "int", "bytes": size, "file": file, "seconds": 0.1}


CON = {"name": "con", "type": "Connection", "why": "an open sqlite connection cannot be stored"}
INDEX = {"time": 1.0, "after": 3, "whole": True, "variables": [], "modules": {}, "left": []}
RESTORED = {"time": 1.0, "from": "x", "restored": [], "modules": [], "left": []}


def test_a_snapshot_is_told_in_a_sentence(folder):
    assert Snapshot.read(folder) is None
    now = time.time()
    variables = [entry("a"), entry("b"), entry("c", "g", 4)]
    write(folder, "index.json", **{**INDEX, "time": now, "variables": variables, "left": [CON]})
    found = Snapshot.read(folder)
    assert found.bytes == 7  # two of one file
    assert found.sentence == (
        f"3 variables of {clock(now)} are stored; 1 is not: con (an open sqlite connection cannot be stored)."
    )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"restored": ["a"]}, "1 variable of HH:MM is back."),
        (
            {"restored": ["a", "b"], "midcell": True},
            "2 variables of HH:MM are back, stored while a cell was running.",
        ),
        (
            {"restored": ["a", "b"], "left": [CON]},
            "2 variables of HH:MM are back; 1 could not be kept: con (an open sqlite connection cannot be stored).",
        ),
        (
            {"left": [{"name": n, "why": "w"} for n in "abcde"]},
            "No variables of HH:MM are back; 5 could not be kept: a (w), b (w), c (w) and 2 more.",
        ),
        (
            {"refused": "X belongs to somebody else"},
            "The variables are not back: X belongs to somebody else. Run the cells again.",
        ),
        (
            {"unable": "cloudpickle is missing"},
            "The variables are not back: cloudpickle is missing. Run the cells again.",
        ),
    ],
)
def test_what_is_back_is_told_in_a_sentence(folder, more, sentence):
    assert Restored.read(folder) is None
    now = time.time()
    write(folder, "restored.json", **{**RESTORED, "time": now, **more})
    found = Restored.read(folder)
    assert found.sentence == sentence.replace("HH:MM", clock(now))
    assert found.as_json()["text"] == found.sentence
    json.dumps(found.as_json())


@pytest.mark.parametrize("said", ["", "[]", "null", "{}", '{"time": "x"}', '{"time": 1, "variables": [1]}'])
def test_what_cannot_be_read_is_nothing(folder, said):
    for name in ("index.json", "restored.json"):
        (folder.variables / name).write_text(said)
    assert Snapshot.read(folder) is None
    assert Restored.read(folder) is None


def test_a_time_of_another_day_has_its_day():
    then = datetime(2020, 3, 5, 10, 32).astimezone().timestamp()
    assert clock(then) == "5 March, 10:32"


def test_a_wish_is_answered_by_its_token(folder):
    one, two = ask(folder), ask(folder)
    assert (folder.variables / "wanted").read_text().split() == [one, two]
    assert answer(folder, one) is None
    write(folder, "index.json", **INDEX, token=two, tokens=[one, two])
    assert (answer(folder, one), answer(folder, two), answer(folder, "other")) == ("", "", None)
    write(folder, "index.json", **INDEX)
    write(folder, "problem.json", time=1.0, why="the disk is full", tokens=[one])
    assert (answer(folder, one), answer(folder, two)) == ("the disk is full", None)


def test_code_of_another_python_is_not_run():
    with pytest.raises(OtherPythonError, match=r"Python 3\.1 defined it, and this kernel runs Python"):
        constructor("code")("3.1", b"", "file", "")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (256 << 20, "256 MiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_sizes_are_short(number, text):
    assert size(number) == text
