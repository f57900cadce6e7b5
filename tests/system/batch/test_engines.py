"""The engines of HTCondor and Slurm against real pools: what a scheduler is asked, and what it says of lost tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cupola.exceptions import InputError, LimitError, UnavailableError
from cupola.lab.jobs.packing import label, pack
from cupola.models.job import TaskPlan, TaskState
from cupola.platform.storage.engine import Array, Control
from cupola.platform.storage.files.jobs import JobFolder

PATIENCE = 120
"""Seconds: HTCondor suffers most from a busy machine."""


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session", params=["htcondor", "slurm"])
def pool(request):
    """Both pools, one after the other."""
    return request.getfixturevalue(f"{request.param}_pool")


@pytest.fixture
def scheduler(pool):
    made = pool.engine()
    yield made
    with contextlib.suppress(AttributeError):
        made.close()


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
    print("squaring", number)
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
