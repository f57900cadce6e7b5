"""Snapshots of the variables of real kernels, and their return in others."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil
import pytest

from cupola.lab.guardian.variables.snapshots import kernel_arguments
from support.disks import disk, needs
from support.stored_kernels import StoredKernel, kept, left, until

ONLY_ASKED = {"CUPOLA_SNAPSHOTS": '{"wait": 100000}'}
"""A kernel that stores nothing by itself."""
NAMESPACE = """
import os, sys, collections, concurrent.futures, dataclasses, enum, functools, matplotlib, sqlite3, threading
import numpy as np
import xml.etree.ElementTree
from os.path import join
x = 1
array = np.arange(1000.0)
same = numbers = [1, 2, 3]
holder = {"numbers": numbers, "array": array}
inner = [[7]]; sharing = [inner[0]]
forth = {}; back = {"forth": forth}; forth["back"] = back
class Base:
    def __init__(self, value): self.value = value
    def total(self): return self.value + x
class Child(Base):
    def total(self): return super().total() * 2
base, child = Base(5), Child(6)
method = child.total
def f(y): return x + y + helper()
def helper(): return 1000
double = lambda z: z * x
def make():
    n = 0
    def increase():
        nonlocal n
        n += 1
        return n
    return increase, lambda: n
increase, get = make()
increase(), increase()
@functools.lru_cache(maxsize=7)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
@dataclasses.dataclass
class Record:
    a: int = 3
record = Record(9)
class Colour(enum.Enum):
    RED = 1
red = Colour.RED
Point = collections.namedtuple("Point", "x y")
point = Point(1, 2)
iterator = iter(numbers); next(iterator)
everything, shell, output = globals(), get_ipython(), sys.stdout
_private = 3
thread = threading.Thread(target=threading.Event().wait, daemon=True); thread.start()
generator = (i for i in range(3))
connection = sqlite3.connect(":memory:")
user_of_it = [connection]
def query(): return connection.execute("select 1")
file = open(__PLACE__); file.readline()
class Holder: pass
holds = Holder(); holds.inside = [threading.Lock()]
class Loud:
    def __reduce__(self):
        print("printed"); sys.stderr.write("printed"); os.write(1, b"written"); raise ValueError("boom")
    def __repr__(self): raise RuntimeError
loud = Loud()
class Leaving:
    def __reduce__(self): raise SystemExit(3)
leaving = Leaving()
class Crashing:
    def __reduce__(self): os.kill(os.getpid(), 11)
crashing = Crashing()
deep = []
for _ in range(100_000): deep = [deep]
def coroutine(): yield
async def asynchronous(): pass
awaited = asynchronous()
made_by_hand = type(sys)("made_by_hand")
import ipywidgets; slider = ipywidgets.IntSlider()
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """What was stored of a full namespace, the kernel that got it back, and the folder."""
    folder = tmp_path_factory.mktemp("kernels")
    place = folder / "lines.txt"
    place.write_text("first\nsecond\nthird\n")
    first = StoredKernel(folder / "first")
    assert first.run(NAMESPACE.replace("__PLACE__", repr(str(place)))) == ""
    index = first.store()
    told = first.run("file.readline(), thread.is_alive()")
    stray = first.stray
    first.kill()
    second = StoredKernel(folder / "second", restore=folder / "first")
    yield index, second, told, stray
    second.close()


def test_nothing_of_it_is_seen_in_a_kernel(kernel):
    ours, plain = kernel("ours"), kernel("plain", arguments=[])
    look = "print(sorted(globals()), In[:-1], Out, sorted(__import__('sys').meta_path, key=str)[:0])\n%who\n%history"
    assert ours.run(look) == plain.run(look)
    assert ours.count == plain.count == 1
    assert not ours.stray
    child = "import subprocess; subprocess.run('env', capture_output=True, text=True).stdout.count('CUPOLA_KERNEL')"
    assert (ours.run(child), plain.run(child)) == ("0", "1")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (
            "numbers, same is numbers, holder['numbers'] is numbers, holder['array'] is array",
            "([1, 2, 3], True, True, True)",
        ),
        ("array.sum()", "np.float64(499500.0)"),
        ("inner, sharing[0] is inner[0]", "([[7]], True)"),
        ("forth['back']['forth'] is forth, back['forth'] is forth", "(True, True)"),
        ("base.total(), child.total(), method(), isinstance(child, Base)", "(6, 14, 14, True)"),
        ("method.__self__ is child", "True"),
        ("f(1), double(2)", "(1002, 2)"),
        ("increase(), get()", "(3, 3)"),
        ("fibonacci(30), fibonacci.cache_parameters()['maxsize']", "(832040, 7)"),
        ("record, Record(3) == Record(), red is Colour.RED", "(Record(a=9), True, True)"),
        ("point, type(point) is Point, next(iterator), _private", "(Point(x=1, y=2), True, 2, 3)"),
        ("everything is globals(), shell is get_ipython(), output is sys.stdout", "(True, True, True)"),
        ("np.__name__, xml.etree.ElementTree.__name__", "('numpy', 'xml.etree.ElementTree')"),
        ("concurrent.futures.__name__, join('a', 'b')", "('concurrent.futures', 'a/b')"),
        ("__import__('inspect').getsource(helper)", r"'def helper(): return 1000\n'"),
    ],
)
def test_what_comes_back_is_what_it_was(stored, expression, value):
    assert stored[1].run(expression) == value


def test_functions_use_the_variables_as_they_are_later(stored):
    kernel = stored[1]
    assert kernel.run("x = 50; f(1), double(2), base.total()") == "(1051, 100, 55)"
    assert kernel.run("helper = lambda: 0\nf(1)") == "51"
    assert kernel.run("query()") == "NameError: name 'connection' is not defined"
    kernel.run("x = 1\ndef helper(): return 1000")


def test_cells_are_counted_on(stored):
    index, kernel = stored[:2]
    assert index["after"] == 1
    before = kernel.run("In[1], len(In)")
    assert before == f"('', {kernel.count + 1})"
    assert kernel.count > 1


def test_what_was_not_kept_is_told_in_words(stored):
    expected = {
        "thread": "a thread cannot be stored",
        "generator": "a generator cannot be stored",
        "connection": "an open sqlite connection cannot be stored",
        "user_of_it": "it refers to connection, which could not be kept",
        "file": "an open file cannot be stored",
        "holds": "it holds a lock, which cannot be stored",
        "loud": "ValueError: boom",
        "leaving": "SystemExit: 3",
        "crashing": "storing it crashed",
        "deep": "it is nested too deeply",
        "awaited": "a coroutine cannot be stored",
        "slider": "a widget cannot be stored",
    }
    index, kernel = stored[:2]
    found = left(index)
    assert found.pop("made_by_hand", "kept by value") == "kept by value"
    assert found == expected
    back = kernel.restored()
    assert left(back) == left(index)
    assert back["restored"] == kept(index)
    assert back["from"] == "first"


def test_storing_disturbs_nobody(stored):
    index, _, told, stray = stored
    assert index["whole"]
    assert not index["midcell"]
    assert told == "('second\\n', True)"  # the place in the file has not moved, the thread lives
    assert not stray  # what a variable printed while it was stored is in no notebook


def test_a_snapshot_follows_a_cell_by_itself(kernel):
    one = kernel()
    assert not one.index()
    one.run("a = 1")
    index = until(one.index)
    assert (kept(index), index["whole"], index["after"]) == (["a"], True, 1)
    assert "token" not in index


def test_a_kernel_that_ran_nothing_stores_nothing_of_its_own(kernel):
    one = kernel(CUPOLA_SNAPSHOTS='{"wait": 0}')
    assert one.store()["variables"] == []
    assert one.run("1") == "1"


def test_a_running_cell_is_not_waited_for(kernel, tmp_path):
    one = kernel()
    go = tmp_path / "go"
    code = f"import time, pathlib\na = 1\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\na = 2\na"
    request = one.begin(code)
    until(lambda: kept(one.store()))
    index = one.store()
    assert (index["midcell"], index["whole"], "a" in kept(index)) == (True, False, True)
    go.touch()
    assert one.wait(request) == "2"
    index = one.store()
    assert (index["midcell"], index["whole"]) == (False, True)


def test_all_who_ask_are_answered(kernel):
    one = kernel()
    (one.variables / "wanted").write_text("first\nsecond\n")
    index = until(lambda: one.answer("first"))
    assert index["token"] == "second"
    assert one.answer("second")
    assert not (one.variables / "wanted").exists()


def test_what_has_not_changed_is_not_written_again(kernel):
    one = kernel(**ONLY_ASKED)
    one.run("import numpy as np; large = np.arange(4_000_000); small = 1")
    files = {entry["name"]: entry["file"] for entry in one.store()["variables"]}
    before = (one.variables / files["large"]).stat()
    one.run("small = 2")
    again = {entry["name"]: entry["file"] for entry in one.store()["variables"]}
    assert again["large"] == files["large"]
    after = (one.variables / again["large"]).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert again["small"] != files["small"]
    until(lambda: {file.name for file in one.variables.glob("*.pkl")} == set(again.values()))
    one.run("large[5] = 0")
    third = {entry["name"]: entry["file"] for entry in one.store()["variables"]}
    assert third["large"] != again["large"]


def test_limits_leave_out_what_is_too_large_or_too_slow(kernel):
    one = kernel(CUPOLA_SNAPSHOTS='{"variable": 1000000, "all": 1500000, "seconds": 1}')
    one.run("""
import numpy as np, time
class Slow:
    def __reduce__(self): time.sleep(1000)
slow, large = Slow(), np.zeros(1_000_000)
many = list(range(1_000_000))
first, second, third = (np.arange(100_000) + n for n in range(3))
""")
    found = left(one.store())
    assert found["large"] == "7.6 MiB is more than 976.6 KiB"
    assert found["many"] == "it is larger than 976.6 KiB"
    assert found["slow"] == "storing it took longer than 1 s"
    assert found["second"] == "there was no room left for it"
    assert set(found) == {"large", "many", "slow", "second", "third"}


def test_time_for_all_ends_too(kernel):
    one = kernel(CUPOLA_SNAPSHOTS='{"seconds": 5, "all_seconds": 1}')
    one.run("import time\nclass Slow:\n    def __reduce__(self): time.sleep(1000)\nslow, a = Slow(), 1")
    index = one.store()
    assert not index["whole"]
    assert left(index)["slow"] == "there was no time left for it (1 s for all)"
    # What was too slow comes last the next time, so that it takes nobody's time but its own.
    one.run("slow, b = Slow(), 1")
    assert {"a", "Slow"} <= set(kept(one.store()))


def test_a_kernel_that_is_killed_while_it_stores_leaves_the_snapshot_before(kernel, tmp_path):
    one = kernel(**ONLY_ASKED)
    one.run("a = [1]")
    before = one.store()
    mark = tmp_path / "pid"
    one.run(f"""
import os, time
class Slow:
    def __reduce__(self):
        with open({str(mark)!r} + ".part", "w") as file: file.write(f"{{os.getpid()}} {{os.getppid()}}")
        os.rename({str(mark)!r} + ".part", {str(mark)!r})
        time.sleep(1000)
slow = Slow()
a.append(2)
""")
    (one.variables / "wanted").write_text("token")
    until(mark.exists)
    children = [int(pid) for pid in mark.read_text().split()]
    assert one.pid not in children
    one.kill()
    # Nobody is left who holds the ports, or writes.
    until(lambda: not any(psutil.pid_exists(pid) for pid in children))
    assert one.index() == before
    two = kernel("two", restore=one.variables.parent)
    assert two.run("a") == "[1]"


def test_a_full_disk_leaves_the_snapshot_before(tmp_path):
    needs("mkfs.ext4")
    with disk(tmp_path, "ext4", 64) as place:
        one = StoredKernel(place / "kernel", **ONLY_ASKED)
        try:
            one.run("import numpy as np; a = np.arange(100_000)")
            before = one.store()
            assert kept(before) == ["a"]
            one.run("a = np.arange(100_000) + 1")
            with (place / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            # A little room is left, for the word that there is none.
            os.truncate(place / "filling", (place / "filling").stat().st_size - 40_000)
            assert one.store()["why"] == "there is too little free space in your home: delete something"
            assert one.index() == before
            assert {file.name for file in one.variables.glob("*.pkl")} == {before["variables"][0]["file"]}
            (place / "filling").unlink()
            assert one.store()["variables"][0]["file"] != before["variables"][0]["file"]
            # It goes after the new index is there.
            until(lambda: not (one.variables / "problem.json").exists())
        finally:
            one.close()


def test_a_disk_that_takes_no_file_more_leaves_the_snapshot_before(tmp_path):
    needs("mkfs.ext4")
    with disk(tmp_path, "ext4", 64) as place:
        one = StoredKernel(place / "kernel", **ONLY_ASKED)
        try:
            one.run("a = [1]")
            before = one.store()
            one.run("a = [2]")
            filling = []
            with contextlib.suppress(OSError):
                while True:
                    filling.append(place / str(len(filling)))
                    filling[-1].touch()
            filling[-2].unlink()  # for the wish, then for the variable, but not for the index as well
            assert one.store()["why"] == "there is too little free space in your home: delete something"
            assert one.index() == before
            assert {file.name for file in one.variables.glob("*.pkl")} == {before["variables"][0]["file"]}
        finally:
            one.close()


def test_a_kernel_goes_on_where_no_process_can_be_made(kernel):
    one = kernel()
    one.run("a = 1")
    one.store()
    # The leader of a session is refused a new one, as a fork is where there is no room.
    one.run("""
import ctypes, sys
module = sys.modules["_cupola_kernel.kernel_fork"]
real, module._FORK = module._FORK, ctypes.PyDLL(None, use_errno=True).setsid
""")
    assert one.store()["why"] == "there was not enough memory to store the variables"
    assert one.run("module._FORK = real; b = 1; b") == "1"
    assert "b" in kept(one.store())


def test_a_kernel_that_computes_with_threads_is_not_stopped_by_a_snapshot(kernel, tmp_path):
    # With an ordinary fork it hangs: OpenBLAS waits for its threads then, which wait for work.
    one = kernel(OPENBLAS_NUM_THREADS="2")
    go = tmp_path / "go"
    request = one.begin(f"""
import pathlib, numpy as np
a = np.random.rand(500, 500)
while not pathlib.Path({str(go)!r}).exists(): a @ a
print("end")
""")
    until(lambda: "a" in kept(one.store()))
    for _ in range(8):
        assert one.store()["midcell"]
    go.touch()
    assert one.wait(request) == "end\n"


def test_a_kernel_whose_user_waits_for_any_child_goes_on_storing(kernel):
    one = kernel()
    one.run("import os, signal, threading\nold = signal.signal(signal.SIGCHLD, signal.SIG_IGN)\na = 1")
    assert "a" in kept(one.store())
    one.run("b = 1")
    assert "b" in kept(one.store())


def test_without_cloudpickle_it_says_so(kernel, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cloudpickle.py").write_text("raise ImportError('not here')")
    one = kernel(PYTHONPATH=str(tmp_path / "broken"))
    assert one.run("1 + 1") == "2"
    assert one.store()["unable"] == "cloudpickle is not installed in this kernel's environment"
    two = kernel("two", restore=one.variables.parent)
    assert two.run("1") == "1"
    assert two.restored()["unable"]


def test_switched_off_nothing_is_stored(kernel):
    one = kernel(CUPOLA_SNAPSHOTS="0")
    one.run("a = 1")
    index = one.store()
    assert (index["variables"], index["unable"]) == ([], "storing variables is switched off")


def test_a_kernel_starts_where_the_file_is_missing_or_the_folder_cannot_be_written(kernel, tmp_path):
    arguments = [one.replace("kernel_side.py", "gone.py") for one in kernel_arguments()]
    assert kernel(arguments=arguments).run("1") == "1"
    (tmp_path / "file").write_text("")
    one = kernel("three", CUPOLA_KERNEL_FOLDER=str(tmp_path / "file"))
    assert one.run("1") == "1"
    assert not one.stray


def test_lines_of_the_users_own_configuration_are_run(kernel, tmp_path):
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("c.InteractiveShellApp.exec_lines = ['mine = 3']")
    one = kernel(IPYTHONDIR=str(tmp_path / "ipython"))
    assert one.run("mine") == "3"


def test_two_kernels_store_in_folders_of_their_own(kernel):
    one, two = kernel("one"), kernel("two")
    one.run("a = 1")
    two.run("b = 1")
    assert (kept(one.store()), kept(two.store())) == (["a"], ["b"])
    assert Path(f"/proc/{one.pid}/environ").exists()
