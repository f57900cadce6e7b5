# ruff: noqa: S301 - what these tests pickled themselves
from __future__ import annotations

import functools
import importlib
import linecache
import pickle
import subprocess
import sys
import threading

import pytest

from cupola.exceptions import InputError
from cupola.lab.jobs import packing
from cupola.lab.jobs.packing import label, pack, source_of

FACTOR = 3


def times(x):
    return FACTOR * x


def test_a_payload_says_where_it_comes_from_before_it_needs_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    place = pickle.loads(pack(lambda x: x, [1]))
    assert place["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert place["cwd"] == str(tmp_path)
    assert str(tmp_path / "mine") in place["path"]
    assert not any("site-packages" in entry for entry in place["path"])


def test_a_users_module_travels_by_value(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_packed.py").write_text("FACTOR = 5\ndef times(x):\n    return FACTOR * x\n")
    module = importlib.import_module("mine_packed")
    (tmp_path / "payload").write_bytes(pack(module.times, [2]))
    (tmp_path / "mine_packed.py").unlink()
    load = (
        "import pickle; f = open('payload', 'rb'); pickle.load(f); "
        "function, inputs = pickle.load(f); print(function(inputs[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", load], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "10\n", done.stderr


def test_a_module_is_registered_only_while_packing(tmp_path, monkeypatch):
    import cloudpickle

    monkeypatch.chdir(tmp_path)
    before = cloudpickle.list_registry_pickle_by_value()
    pack(times, [1])
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_cells_that_the_function_calls_are_packed_too():
    cells = {
        "/nowhere/a.py": "def inner(x):\n    return 1 / x\n",
        "/nowhere/b.py": "def outer(x):\n    return inner(x)\n",
    }
    space = {}
    for name, text in cells.items():
        exec(compile(text, name, "exec"), space)  # noqa: S102 - as a notebook runs a cell
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    place = pickle.loads(pack(functools.partial(space["outer"]), [1]))
    assert place["sources"] == cells


def test_what_cannot_be_sent_is_said_with_the_way_out():
    lock = threading.Lock()
    with pytest.raises(InputError, match="open files, connections and the like inside the function"):
        pack(lambda _: lock.locked(), [1])


def test_something_that_is_no_function_is_refused():
    with pytest.raises(InputError, match=r"this is a list: write cupola\.map"):
        pack([1, 2], [1])


def test_data_instead_of_names_are_refused(monkeypatch):
    monkeypatch.setattr(packing, "LARGEST_PAYLOAD", 2**20)
    with pytest.raises(InputError, match="give names of files"):
        pack(len, [b"x" * 2**21])


def test_source_of_a_function_and_of_a_partial():
    assert source_of(times) == "def times(x):\n    return FACTOR * x\n"
    assert source_of(functools.partial(times)) == source_of(times)
    assert source_of(len) == ""


def test_labels_keep_the_end_of_long_paths_and_fit_on_a_line():
    assert label("/data/" + "x" * 200 + "/scene.tif").endswith("/scene.tif")
    assert len(label("/data/" + "x" * 200)) == packing.LONGEST_LABEL
    assert "\n" not in label({"a": "one\ntwo"})

    class Awkward:
        def __repr__(self):
            raise ValueError("no text")

    assert label(Awkward()).startswith("<Awkward")
