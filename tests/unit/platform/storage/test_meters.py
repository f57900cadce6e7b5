from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys

import psutil
import pytest

from cupola.exceptions import UnavailableError
from cupola.models.resources import Usage
from cupola.platform.services.sessions.usage import UsageService
from cupola.platform.storage.docker.usage import ContainerMeter
from cupola.platform.storage.processes import ProcessMeter
from support.fake_engine import FakeEngine

MIB = 2**20


def stats(busy_ns, used_mib, cached_mib=0, **more):
    memory = {"usage": used_mib * MIB, "stats": {"total_inactive_file": cached_mib * MIB}}
    return {
        "cpu_stats": {"cpu_usage": {"total_usage": busy_ns}},
        "memory_stats": memory,
        "pids_stats": {"current": 7},
        **more,
    }


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path) as engine:
        yield engine


@pytest.fixture
def meter(engine):
    with contextlib.closing(ContainerMeter(engine.host, "key1")) as meter:
        yield meter


def test_containers_are_measured_by_their_labels_and_caches_do_not_count(engine, meter):
    engine.containers = {"c1": ("key1", "lab-a"), "c2": ("key1", "lab-b"), "c3": ("key1", "lab-c")}
    engine.stats = {"c1": stats(10**9, 500, 200), "c2": {"memory_stats": {}, "cpu_stats": {}}}
    first = meter.usages(["lab-a", "lab-b", "lab-c", "lab-gone"])
    # One has ended while it was asked about, one is just being made.
    assert first == {"lab-a": Usage(cores=0, memory_mib=300, peak_memory_mib=300, processes=7)}
    engine.stats["c1"] = stats(5 * 10**9, 250)
    second = meter.usages(["lab-a"])["lab-a"]
    assert second.cores > 0
    assert (second.memory_mib, second.peak_memory_mib) == (250, 300)
    # A listing and a look per container that is asked for: no more, however many run.
    assert engine.asked[-2:] == ["/containers/json", "/containers/c1/stats"]


def test_the_new_layout_of_control_groups_is_understood(engine, meter):
    engine.containers = {"c1": ("key1", "lab-a")}
    engine.stats = {
        "c1": stats(1, 0) | {"memory_stats": {"usage": 400 * MIB, "stats": {"inactive_file": 100 * MIB}}}
    }
    assert meter.usages(["lab-a"])["lab-a"].memory_mib == 300


def test_the_engine_tells_what_there_is_and_is_asked_once(engine, meter):
    assert [meter.machine() for _ in range(3)] == [(8, 16384)] * 3
    assert engine.asked.count("/info") == 1


# The engine's library leaves the socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_not_there_is_told(tmp_path):
    meter = ContainerMeter(f"unix://{tmp_path}/none.sock", "key1")
    for ask in (meter.machine, lambda: meter.usages(["lab-a"])):
        with pytest.raises(UnavailableError, match="does not answer"):
            ask()
    gc.collect()


BUSY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'while True: pass']); x = b'x' * (64 << 20)\nwhile True: pass"


@pytest.fixture
def busy(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    record = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    (tmp_path / "lab-a.json").write_text(json.dumps(record))
    yield process
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


@pytest.mark.usefixtures("busy")
def test_a_process_is_measured_with_all_that_comes_from_it(tmp_path):
    meter = ProcessMeter(tmp_path)
    while meter.usages(["lab-a"])["lab-a"].memory_mib < 60:
        pass
    # Busy both of them: whole cores on a quiet machine, whatever is left on a busy one.
    while (seen := meter.usages(["lab-a"])["lab-a"]).cores == 0:
        pass
    assert seen.processes == 2
    assert seen.peak_memory_mib >= seen.memory_mib >= 60


def test_a_record_of_another_process_or_a_broken_one_measures_nothing(tmp_path, busy):
    (tmp_path / "lab-b.json").write_text(json.dumps({"pid": busy.pid, "created": 1.0}))
    (tmp_path / "lab-c.json").write_text("{")
    assert ProcessMeter(tmp_path).usages(["lab-b", "lab-c", "lab-d"]) == {}


class Counted:
    """A meter that counts its looks."""

    def __init__(self):
        self.looks = []
        self.error = None

    def usages(self, sessions):
        self.looks.append(list(sessions))
        if self.error:
            raise self.error
        return {name: Usage(cores=1, memory_mib=len(self.looks)) for name in sessions if name != "gone"}


@pytest.mark.asyncio
async def test_many_pages_cost_one_look_in_two_seconds():
    now, meter = [0.0], Counted()
    service = UsageService(meter, clock=lambda: now[0])
    assert (await service.usages(["a", "b"]))["a"].memory_mib == 1
    now[0] = 1.9
    assert set(await service.usages(["a", "gone"])) == {"a"}
    assert await service.usages(["gone", "b"])
    assert meter.looks == [["a", "b"], ["gone"]]
    now[0] = 2.1
    assert (await service.usages(["a"]))["a"].memory_mib == 3


@pytest.mark.asyncio
async def test_a_look_that_fails_shows_nothing_and_breaks_nothing():
    meter = Counted()
    service = UsageService(meter)
    for meter.error in (UnavailableError("no engine"), ValueError("broken")):
        assert await service.usages(["a"]) == {}
