"""The engines of HTCondor and Slurm against real pools: what a scheduler is asked, and what it says of lost tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cupola.exceptions import LimitError
from cupola.lab.jobs.packing import label, pack
from cupola.models.job import TaskPlan, TaskState
from cupola.platform.storage.engine import Array, Control
from cupola.platform.storage.files.jobs import JobFolder

pytestmark = pytest.mark.system
PATIENCE = 180
"""Seconds: HTCondor suffers most from a busy machine."""


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session", params=["htcondor", "slurm"])
def pool(request, htcondor_pool, slurm_pool):
    """Both pools, one after the other; named here, so that these tests are where the pools are (`support.lanes`)."""
    return {"htcondor": htcondor_pool, "slurm": slurm_pool}[request.param]


@pytest.fixture
def scheduler(pool):
    yield pool.engine()
    # What a test that failed has left would keep the cores from all others.
    command = ["condor_rm", "-all"] if pool.name == "htcondor" else ["scancel", "--user=root"]
    with contextlib.suppress(subprocess.CalledProcessError):  # nothing is left
        pool.tool(*command)


@pytest.fixture
def make(tmp_path):
    """Write the folder of a job and return its array."""

    def written(tag, function, inputs, **asked):
        environment = asked.pop("environment", {})
        home = asked.pop("home", tmp_path / "ada")
        folder = home / ".cupola" / "jobs" / tag
        plan = TaskPlan(
            tag=tag, name=tag, inputs=len(inputs), chunk=1, tasks=len(inputs), at_once=100, **asked
        )
        payload = pack(function, inputs)
        JobFolder(folder).write(plan, payload, [label(one) for one in inputs])
        return Array(
            tag=tag,
            folder=folder,
            python=Path(sys.executable),
            tasks=plan.tasks,
            owner="ada",
            at_once=100,
            retries=plan.retries,
            memory_mib=plan.memory_mib,
            cpus=plan.cpus,
            time_s=plan.time_s,
            only=None if plan.only is None else tuple(plan.only),
            environment={"PATH": os.defpath, "CUPOLA_JOB": tag, **environment},
        )

    return written


def gone(scheduler, array, native):
    return until(lambda: array.tag not in scheduler.poll([(array, native)]), f"the end of {array.tag}")


def done(array):
    return JobFolder(array.folder).settled().done


def square(number):
    print("squaring", number)  # noqa: T201 - it goes to the log
    return number**2


def nap(seconds):
    import time as clock

    clock.sleep(seconds)
    return seconds


def test_two_arrays_are_submitted_found_polled_at_once_and_end(scheduler, make):
    first = make("job-first", square, list(range(4)))
    # Only some of the tasks, as a retry asks for.
    second = make("job-second", square, list(range(5)), only=[1, 3])
    natives = {one.tag: scheduler.submit(one) for one in (first, second)}
    assert natives["job-first"] != natives["job-second"]
    assert scheduler.find(first) == natives["job-first"]
    assert scheduler.find(replace(first, attempt=2)) is None
    seen = scheduler.poll([(one, natives[one.tag]) for one in (first, second)])
    assert set(seen.get("job-second", {1: 0, 3: 0})) == {1, 3}
    for one in (first, second):
        gone(scheduler, one, natives[one.tag])
    assert done(first) == {0, 1, 2, 3}
    assert done(second) == {1, 3}
    assert scheduler.losses(first, natives["job-first"]) == {}
    assert "squaring 3" in scheduler.log(second, 3)
    # What has ended can be told anything.
    for wish in Control:
        scheduler.control(first, natives["job-first"], wish)


def test_a_wish_is_followed_and_the_queue_says_what_waits(scheduler, make):
    first = make("job-many", nap, [0.2] * 8, cpus=2)
    second = make("job-after", nap, [0], cpus=4)
    native, later = scheduler.submit(first), scheduler.submit(second)
    scheduler.control(first, native, Control.HOLD)
    until(lambda: TaskState.RUNNING not in scheduler.poll([(first, native)])[first.tag].values(), "what ran")
    # The pool is free for the other one, before which nothing waits that may run.
    gone(scheduler, second, later)
    assert scheduler.ahead(second, later) == 0
    held = scheduler.poll([(first, native)])[first.tag]
    assert TaskState.QUEUED in held.values()
    scheduler.throttle(first, native, 1)
    scheduler.control(first, native, Control.RUN)
    gone(scheduler, first, native)
    assert done(first) == set(range(8))
    assert scheduler.throttle(first, native, 3) is None  # it is gone


def test_what_waits_before_an_array_is_counted(scheduler, make):
    first, second = make("job-five", nap, [600] * 5, cpus=4), make("job-last", nap, [0], cpus=4)
    natives = {one.tag: scheduler.submit(one) for one in (first, second)}
    try:
        until(
            lambda: TaskState.RUNNING in scheduler.poll([(first, natives[first.tag])])[first.tag].values(),
            "a first task",
        )
        assert scheduler.ahead(second, natives[second.tag]) == 4
        assert scheduler.capacity().free_cores == 0
    finally:
        for one in (first, second):
            scheduler.control(one, natives[one.tag], Control.CANCEL)
    for one in (first, second):
        gone(scheduler, one, natives[one.tag])
    assert done(first) == set()


def process_of(folder, task):
    """Return the process of a task, as this machine sees it: the pool has numbers of its own."""
    wanted = ["-m", "cupola.lab.task", str(folder), "--nth", str(task)]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[-5:] == wanted and words[0] == sys.executable:
            return process
    return None


def test_a_task_whose_process_is_killed_is_told(scheduler, make):
    array = make("job-killed", nap, [600, 0], retries=0)
    native = scheduler.submit(array)
    until(lambda: process_of(array.folder, 0), "its process").send_signal(signal.SIGKILL)
    gone(scheduler, array, native)
    losses = scheduler.losses(array, native)
    assert set(losses) == {0}
    assert losses[0].error == "Killed"
    assert "signal 9" in losses[0].message
    assert done(array) == {1}


def test_a_task_that_somebody_removes_is_told(pool, scheduler, make):
    array = make("job-removed", nap, [600])
    native = scheduler.submit(array)
    until(lambda: process_of(array.folder, 0), "its process")
    if pool.name == "htcondor":
        pool.tool("condor_rm", "-reason", "by its administrator", f"{native}.0")
    else:
        pool.tool("scancel", f"{native}_0")
    losses = until(lambda: scheduler.losses(array, native), "the loss")
    scheduler.control(array, native, Control.CANCEL)
    gone(scheduler, array, native)
    assert set(losses) == {0}
    assert losses[0].error == "Killed"
    assert losses[0].message in {
        "It was removed from HTCondor: by its administrator (by user dev).",
        "Somebody cancelled it at Slurm.",
    }


def test_a_task_that_runs_too_long_is_ended(pool, scheduler, make):
    if pool.name == "slurm":
        pytest.skip("Slurm counts whole minutes: see the golden file")
    array = make("job-slow", nap, [600], time_s=1)
    native = scheduler.submit(array)
    gone(scheduler, array, native)
    loss = scheduler.losses(array, native)[0]
    assert loss.error == "TimeLimit"
    assert "1 s it asked for" in loss.message


def grow(mebibytes):
    import time as clock

    kept = bytearray(mebibytes << 20)
    for place in range(0, len(kept), 4096):
        kept[place] = 1
    clock.sleep(600)


def test_a_task_over_its_memory_is_ended_and_told_how_much_it_used(pool, scheduler, make):
    if pool.name == "slurm":
        pytest.skip("the test cluster has no cgroups: see the unit test of its losses")
    array = make("job-large", grow, [300], memory_mib=64)
    native = scheduler.submit(array)
    until(
        lambda: TaskState.LOST in scheduler.poll([(array, native)]).get(array.tag, {}).values(),
        "the pool's hold",
    )
    gone(scheduler, array, native)
    loss = scheduler.losses(array, native)[0]
    assert loss.error == "OutOfMemory"
    # The pool looks every few seconds, so it may see it while it grows.
    assert 64 < int(loss.message.split()[2]) < 500
    assert "had asked for 64:" in loss.message


def test_more_than_any_machine_has_is_refused(pool, scheduler, make):
    room = scheduler.capacity()
    assert (room.cores, room.widest, room.free_cores) == (4, 4, 4)
    for asked in (
        {"cpus": 5},
        {"memory_mib": room.memory_mib + 1},
        {"gpus": room.gpus + 1},
    ):
        array = make(f"job-{next(iter(asked)).replace('_', '-')}", square, [1])
        with pytest.raises(LimitError, match="ask for less"):
            scheduler.submit(replace(array, **asked))
    assert room.gpus == (2 if pool.name == "htcondor" else 0)


def environment_of(_):
    import os as system

    return dict(system.environ)


def test_tasks_find_their_environment_and_nothing_of_the_platforms(scheduler, make, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_INTERNAL_TOKEN", "secret-of-the-platform")
    said = {
        "ODD": """a 'b' "c" $HOME $(Process) %A `id` \\ ; ünï""",
        "EMPTY": "",
        "JSON": '[{"a": "b\'s"}]',
    }
    home = tmp_path / 'o\'dd $(name) %A "x" ü'
    array = make("job-odd", environment_of, [0], environment=said, home=home)
    native = scheduler.submit(array)
    gone(scheduler, array, native)
    assert done(array) == {0}, (scheduler.log(array, 0), scheduler.losses(array, native))
    import cloudpickle

    with JobFolder(array.folder).result(0) as file:
        found = cloudpickle.load(file)
    assert {name: found.get(name) for name in said} == said
    assert found["CUPOLA_JOB"] == "job-odd"
    assert "secret-of-the-platform" not in found.values()
    assert not {name for name in found if name.startswith(("CONDOR_CONFIG", "SLURM_CONF", "_CONDOR_SEC"))}


def test_an_interpreter_that_is_not_there_is_told(scheduler, make):
    array = replace(make("job-no-python", square, [1]), python=Path("/nowhere/bin/python"))
    native = scheduler.submit(array)
    gone(scheduler, array, native)
    words = f"{scheduler.losses(array, native)} {scheduler.log(array, 0)}"
    assert "/nowhere/bin/python" in words


def test_an_array_longer_than_slurm_takes_becomes_several(slurm_pool, make):
    scheduler = slurm_pool.engine()
    array = make("job-long", square, list(range(120)))
    native = scheduler.submit(array)
    assert len(native.split("+")) == 3
    assert scheduler.find(array) == native
    assert set(scheduler.poll([(array, native)])[array.tag]) == set(range(120))
    scheduler.control(array, native, Control.HOLD)
    scheduler.control(array, native, Control.CANCEL)
    gone(scheduler, array, native)


def test_an_array_longer_than_slurm_takes_computes_each_input_once(slurm_pool, make):
    scheduler = slurm_pool.engine()
    array = make("job-parts", square, list(range(52)), only=[*range(40), *range(41, 52)])
    native = scheduler.submit(array)
    gone(scheduler, array, native)
    assert done(array) == set(range(52)) - {40}


def test_tasks_get_gpus_of_their_own(htcondor_pool, make):
    scheduler = htcondor_pool.engine()
    array = replace(make("job-gpu", environment_of, [0]), gpus=1)
    native = scheduler.submit(array)
    gone(scheduler, array, native)
    import cloudpickle

    with JobFolder(array.folder).result(0) as file:
        assert cloudpickle.load(file)["CUDA_VISIBLE_DEVICES"] in {"CUDA0", "CUDA1"}
