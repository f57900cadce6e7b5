"""Variables that come back to a kernel, where something is in the way."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from support.stored_kernels import left


def test_a_kernel_that_starts_anew_does_not_get_its_own_old_variables(kernel):
    one = kernel()
    one.run("a = 1")
    one.store()
    one.kill()
    again = kernel()
    assert again.index() == {}
    assert again.run("a") == "NameError: name 'a' is not defined"


def test_a_kernel_can_come_back_in_its_own_folder(kernel):
    one = kernel()
    one.run("a = [1]")
    one.store()
    one.kill()
    again = kernel(restore=one.variables.parent)
    assert again.run("a.append(again := 2); a, again") == "([1, 2], 2)"
    assert again.count == 2
    again.store()
    again.kill()
    assert kernel(restore=one.variables.parent).run("a") == "[1, 2]"


def test_what_cannot_be_loaded_spoils_nothing_else(kernel, tmp_path):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "gone_later.py").write_text("class Thing: pass\n")
    one = kernel(PYTHONPATH=str(modules))
    one.run("""
import gone_later
thing = gone_later.Thing(); things = [thing]
broken, missing, foreign, fine = [1], [2], [3], [4]
class Bad:
    def __setstate__(self, state): print("printed"); raise ValueError("not any more")
bad = Bad(); bad.state = 1
""")
    index = one.store()
    one.kill()
    files = {entry["name"]: one.variables / entry["file"] for entry in index["variables"]}
    files["broken"].write_bytes(files["broken"].read_bytes()[:-3])
    files["missing"].unlink()
    for entry in index["variables"]:
        if entry["name"] == "foreign":
            entry["file"] = f"../../{tmp_path.name}/evil.pkl"
    (one.variables / "index.json").write_text(json.dumps(index))
    shutil.rmtree(modules)
    two = kernel("two", restore=one.variables.parent)
    assert two.run("fine") == "[4]"
    assert not two.stray
    needs_module = "No module named 'gone_later': install it, then run its cell again"
    assert left(two.restored()) == {
        "gone_later": needs_module,
        "thing": needs_module,
        "things": f"it needs thing, which could not be loaded ({needs_module})",
        "broken": "its file is not whole",
        "missing": "its file is missing",
        "foreign": f"../../{tmp_path.name}/evil.pkl is no file of a snapshot",
        "bad": "ValueError: not any more",
    }


@pytest.mark.parametrize(
    "how", ["others can write", "belongs to somebody else", "cannot be read", "newer version"]
)
def test_nothing_is_loaded_that_is_not_surely_the_persons_own(kernel, how):
    one = kernel()
    one.run("a = 1")
    index = one.store()
    one.kill()
    if how == "others can write":
        one.variables.chmod(0o777)
    elif how == "belongs to somebody else":
        if os.geteuid() != 0:
            pytest.skip("files can be given away by root only")
        os.chown(one.variables.parent, 12345, -1)
    elif how == "cannot be read":
        (one.variables / "index.json").write_text("[1, 2")
    else:
        (one.variables / "index.json").write_text(json.dumps({**index, "format": 1000}))
    two = kernel("two", restore=one.variables.parent)
    assert two.run("a") == "NameError: name 'a' is not defined"
    assert how in two.restored()["refused"]
