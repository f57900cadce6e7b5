"""What a session tells of itself, and what it does with the answer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.stops import telling
from cupola.lab.guardian.stops.activity import Looker, Processors, runs_below
from cupola.lab.guardian.stops.telling import Teller
from cupola.lab.guardian.variables import wishes
from cupola.models.activity import Activity
from support.stop_portal import StopPortal


@pytest.fixture
def portal():
    made = StopPortal()
    yield made
    made.close()


async def eventually(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - files and portals tell nobody
            await asyncio.sleep(0.02)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Sight:
    """What somebody who looks sees."""

    def __init__(self):
        self.activity = Activity()

    async def look(self, snapshot=None):
        return self.activity.model_copy(update={"snapshot": snapshot})


class Kernel:
    def __init__(self, state):
        self.execution_state = state


class Kernels:
    def __init__(self, **states):
        self.kernels = {name: Kernel(state) for name, state in states.items()}

    def list_kernel_ids(self):
        return list(self.kernels)

    def get_kernel(self, name):
        return self.kernels[name]


def server_of(kernels, *sessions, terminals=None):
    async def list_sessions():
        return [{"path": path, "type": kind, "kernel": {"id": kernel}} for path, kind, kernel in sessions]

    manager = SimpleNamespace(terminals=terminals or {})
    return SimpleNamespace(
        kernel_manager=kernels,
        session_manager=SimpleNamespace(list_sessions=list_sessions),
        web_app=SimpleNamespace(settings={"terminal_manager": manager}),
    )


def look(server, **more):
    return asyncio.run(Looker(server, {}, **more).look())


def test_kernels_that_compute_are_told_with_their_notebooks():
    kernels = Kernels(a="busy", b="idle", c="busy", d="busy")
    seen = look(
        server_of(
            kernels,
            ("work/a.ipynb", "notebook", "a"),
            ("b.ipynb", "notebook", "b"),
            ("console-1", "console", "c"),
            ("../out.ipynb", "notebook", "d"),
        )
    )
    assert seen.busy == ["work/a.ipynb"]
    assert seen.kernels == 3, "a console and what has no name compute too"
    assert seen.notebooks == ["b.ipynb", "work/a.ipynb"]
    assert seen.computes


def test_what_the_journal_knows_counts_where_the_state_does_not_say_it():
    class Journaled(Kernels):
        def ledger(self, _):
            return SimpleNamespace(busy=True, executions={})

    assert look(server_of(Journaled(a="idle"))).kernels == 1
    assert look(server_of(Kernels(a="idle"))).kernels == 0


def test_a_person_is_seen_by_what_they_did_and_the_last_of_it_counts():
    clock = Clock()
    looker = Looker(server_of(Kernels()), {}, clock=clock)

    def idle():
        return asyncio.run(looker.look()).idle_seconds

    clock.now += 100
    assert idle() == 100, "it was started by a person"
    looker.person(30)
    looker.person(70)
    assert idle() == 30
    clock.now += 5
    assert idle() == 35
    looker.person(-1)
    assert idle() == 0


def test_a_cell_that_is_run_is_something_a_person_did():
    clock = Clock()
    executions = {}

    class Journaled(Kernels):
        def ledger(self, _):
            return SimpleNamespace(busy=False, executions=executions)

    looker = Looker(server_of(Journaled(a="idle")), {}, clock=clock)
    executions["old"] = SimpleNamespace(asked=time.time() - 3600)
    clock.now += 100
    assert asyncio.run(looker.look()).idle_seconds == 100
    executions["new"] = SimpleNamespace(asked=time.time() + 1)
    assert asyncio.run(looker.look()).idle_seconds == 0


def test_a_shell_with_a_program_is_told_and_one_that_waits_or_was_stopped_is_not():
    shell = subprocess.Popen(["bash", "-c", "read line; sleep 1000 & read line; kill -STOP $!; read line; kill -9 $!; read line"],
        stdin=subprocess.PIPE)  # fmt: skip
    terminals = {"1": SimpleNamespace(ptyproc=SimpleNamespace(pid=shell.pid))}

    def told(number):
        end = time.monotonic() + 60
        while look(server_of(Kernels(), terminals=terminals)).terminals != number:
            assert time.monotonic() < end
            time.sleep(0.05)

    try:
        for number in (0, 1, 0, 0):
            told(number)
            shell.stdin.write(b"\n")
            shell.stdin.flush()
    finally:
        for child in psutil.Process(shell.pid).children():
            child.kill()
        shell.kill()
        shell.communicate()
    assert not runs_below(shell.pid)


def test_processor_time_is_that_of_the_programs_with_the_mark(tmp_path):
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ninput()"
    environ = {**os.environ, "CUPOLA_SESSION": "lab-of-this-test"}
    ours = subprocess.Popen([sys.executable, "-c", code], env=environ, stdin=subprocess.PIPE)
    processors = Processors("lab-of-this-test", tmp_path)
    try:
        end = time.monotonic() + 60
        while (seconds := processors.seconds()) < 0.5:
            assert time.monotonic() < end, seconds
            time.sleep(0.05)
        assert seconds < 60, "others are not counted"
    finally:
        ours.communicate(b"\n")
    assert processors.seconds() == 0
    assert Processors("", tmp_path).seconds() is None


def test_in_a_container_the_system_counts(tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 12500000\nuser_usec 1\n")
    assert Processors("", tmp_path).seconds() is None, "that is the whole machine"
    (tmp_path / "cgroup.events").write_text("populated 1\n")
    assert Processors("", tmp_path).seconds() == 12.5
    (tmp_path / "cpu.stat").write_text("nonsense")
    assert Processors("", tmp_path).seconds() is None


# -- telling ----------------------------------------------------------------------------------------------------


def teller_of(portal, clock=time.monotonic, **more):
    return Teller(Sight(), {**portal.environ, **more}, clock=clock)


def test_what_goes_on_is_told_and_the_answer_is_kept_and_counts_down(portal):
    clock = Clock()

    async def tell():
        teller = teller_of(portal, clock)
        await teller.tell()
        assert teller.plan is None
        portal.announce(600)
        await teller.tell()
        assert 590 < teller.plan.seconds <= 600
        clock.now += 400
        assert 190 < teller.plan.seconds <= 200
        clock.now += 200 + telling.STALE_S + 1
        assert teller.plan is None, "nothing was heard of it since"
        portal.withdraw()
        await teller.tell()
        assert teller.plan is None

    asyncio.run(tell())
    assert len(portal.told) == 3


def test_an_older_portal_is_told_what_computes(portal):
    portal.refuses["activity"] = 404, "There is no such address."

    async def tell():
        teller = teller_of(portal)
        teller.looker.activity = Activity(busy=[f"{number}.ipynb" for number in range(30)])
        await teller.tell()
        del portal.refuses["activity"]
        await teller.tell()

    asyncio.run(tell())
    assert [len(one) for one in portal.computing] == [telling.MOST_COMPUTING]
    assert [len(one.busy) for one in portal.told] == [30], "it was upgraded"


def test_a_portal_that_does_not_answer_is_told_later(portal):
    class Log:
        def debug(self, *_):
            pass

    async def tell():
        teller = teller_of(portal)
        running = asyncio.create_task(teller.run(Log()))
        try:
            await eventually(lambda: portal.told)
            portal.refuses["activity"] = 503, "Later."
            portal.withdraw()
            teller.looker.activity = Activity(busy=["a.ipynb"])
            await asyncio.sleep(telling.LOOK_S * 1.5)
            number = len(portal.told)
            del portal.refuses["activity"]
            await eventually(lambda: any(one.busy == ["a.ipynb"] for one in portal.told[number:]))
        finally:
            running.cancel()

    asyncio.run(tell())


def test_news_of_a_plan_wakes_who_waits_and_the_same_plan_does_not(portal):
    async def wait():
        teller = teller_of(portal)
        waiting = asyncio.create_task(teller.wait(60))
        await asyncio.sleep(0)
        portal.announce(600)
        await teller.tell()
        await asyncio.wait_for(waiting, 10)
        again = asyncio.create_task(teller.wait(60))
        await asyncio.sleep(0)
        await teller.tell()
        await asyncio.sleep(0.1)
        assert not again.done()
        portal.withdraw()
        await teller.tell()
        await asyncio.wait_for(again, 10)

    asyncio.run(wait())


GUARD = """
import fcntl, sys
with open(sys.argv[1] + "/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    input()
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The folder of a kernel that lives as long as another process has its lock."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    folder = KernelFolder.of("kernel-1")
    folder.path.mkdir(parents=True)
    command = [sys.executable, "-c", GUARD, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guard:
        record(folder, guard.pid)
        assert guard.stdout.readline() == b"locked\n"
        yield folder
        guard.communicate(b"\n")


def record(folder, pid, language="python"):
    folder.record_file.write_text(json.dumps({"guardian": pid, "session": "lab-7", "language": language}))


INDEX = {
    "time": 1.0,
    "after": 3,
    "whole": True,
    "variables": [{"name": name, "file": "a.pkl", "bytes": 1} for name in "xyz"],
    "modules": {},
    "left": [{"name": "con", "type": "Connection", "why": "an open connection"}],
}


async def store(folder):
    """Do as a kernel does when it finds a wish."""
    wanted = folder.variables / "wanted"
    await eventually(wanted.exists)
    tokens = wanted.read_text().split()
    wanted.unlink()
    (folder.variables / "index.json").write_text(json.dumps({**INDEX, "tokens": tokens}))


def test_a_wish_for_a_snapshot_is_carried_out_and_told(portal, kernel):
    async def carry():
        teller = teller_of(portal)
        portal.announce(30, snapshot="wish-1")
        storing = asyncio.create_task(store(kernel))
        teller.note_page("page-1")
        await teller.tell()
        await storing
        assert all(one.snapshot is None for one in portal.told), "a page has not saved yet"
        teller.saved("page-1")
        await eventually(lambda: portal.told[-1].snapshot)
        await teller.tell()

    asyncio.run(carry())
    told = portal.told[-1].snapshot
    assert (told.wish, told.kernels, told.kept, told.left) == ("wish-1", 1, 3, 1)


def test_a_kernel_that_refuses_or_ends_is_not_waited_for(kernel):
    async def ask():
        asking = asyncio.create_task(wishes.snapshot([kernel], seconds=60))
        await eventually((kernel.variables / "wanted").exists)
        tokens = (kernel.variables / "wanted").read_text().split()
        (kernel.variables / "problem.json").write_text(json.dumps({"tokens": tokens, "why": "no memory"}))
        return await asyncio.wait_for(asking, 10)

    assert asyncio.run(ask()) == wishes.Kept()


def test_kernels_that_are_dead_of_other_sessions_or_other_languages_are_not_asked(kernel):
    assert [one.kernel_id for one in wishes.living("lab-7")] == ["kernel-1"]
    assert wishes.living("lab-8") == []
    record(kernel, kernel.guardian, "R")
    assert wishes.living("lab-7") == []
    dead = KernelFolder.of("kernel-2")
    dead.path.mkdir()
    record(dead, os.getpid())
    assert wishes.living("lab-7") == []


def test_a_kernel_that_cannot_be_asked_is_left_out(kernel):
    # As on a full disk: nothing can be made there.
    kernel.variables.write_text("")
    assert asyncio.run(wishes.snapshot([kernel], seconds=60)) == wishes.Kept()
