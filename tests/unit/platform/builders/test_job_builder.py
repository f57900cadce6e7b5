from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cupola.models.job import JobRequest
from cupola.models.volume import Access, Mount
from cupola.platform.builders.job import (
    TASK_S,
    TaskPlace,
    choose_chunk,
    plan_again,
    plan_of,
    plan_rest,
    task_environment,
)


def asked(inputs, **options):
    labels = [str(number) for number in range(inputs)]
    return JobRequest(name="ndvi", payload=b"", labels=labels, python="3.11", **options)


@pytest.mark.parametrize(
    ("inputs", "at_once", "chunk"),
    [(1, 2, 1), (128, 2, 1), (2000, 2, 63), (10_000, 2, 313), (10_000, 100, 7)],
)
def test_few_inputs_run_one_by_one_and_many_in_chunks(inputs, at_once, chunk):
    assert choose_chunk(inputs, at_once=at_once) == chunk


def test_each_input_is_in_exactly_one_task():
    for inputs in (1, 2, 127, 128, 129, 2000, 9999):
        plan = plan_of(asked(inputs), "job-1", at_once=2, environment={})
        numbers = [number for task in range(plan.tasks) for number in plan.task_inputs(task)]
        assert numbers == list(range(inputs))


def test_a_chunk_larger_than_the_job_is_the_job():
    plan = plan_of(asked(3, chunk=500), "job-1", at_once=2, environment={})
    assert (plan.chunk, plan.tasks) == (3, 1)


def test_the_plan_of_a_job():
    request = asked(5, chunk=2, cpus=2, memory_mib=300, retries=0)
    assert plan_of(request, "job-1", at_once=4, environment={"LANG": "C"}).model_dump() == {
        "tag": "job-1",
        "name": "ndvi",
        "inputs": 5,
        "chunk": 2,
        "tasks": 3,
        "cpus": 2,
        "memory_mib": 300,
        "retries": 0,
        "at_once": 4,
        "only": None,
        "attempt": 1,
        "resumes": 0,
        "gpus": 0,
        "time_s": None,
        "ranges": None,
        "budget_s": None,
        "environment": {"LANG": "C"},
    }


def test_a_retry_runs_the_tasks_that_lack_a_result():
    plan = plan_of(asked(7, chunk=2), "job-1", at_once=2, environment={}).model_copy(update={"resumes": 2})
    again = plan_again(plan, done=[0, 1, 3, 4, 5])
    assert (again.only, again.attempt, again.resumes) == ([1, 3], 2, 0)


def test_the_environment_of_a_task():
    place = TaskPlace(
        home=Path("/homes/ada"),
        python=Path("/env/bin/python"),
        version="sha256:1",
        path="/usr/bin",
        language="C.UTF-8",
        engine="htcondor",
    )
    mount = Mount(volume="dem", source="/data/dem", target="/homes/ada/volumes/dem", access=Access.READ)
    assert task_environment(place, cpus=2, mounts=[mount]) == {
        "HOME": "/homes/ada",
        "PATH": "/env/bin:/usr/bin",
        "LANG": "C.UTF-8",
        "CUPOLA_VOLUMES": '[{"volume": "dem", "source": "/data/dem", '
        '"target": "/homes/ada/volumes/dem", "access": "read"}]',
        "CUPOLA_VERSION": "sha256:1",
        "CUPOLA_ENGINE": "htcondor",
        "CUPOLA_PYTHON": "/env/bin/python",
        "CUPOLA_RUNTIME": "/homes/ada/.cupola",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2",
        "GDAL_NUM_THREADS": "2",
    }


def on_a_scheduler(inputs, at_once=2, **options):
    return plan_of(asked(inputs, **options), "job-1", at_once=at_once, environment={}, supervised=False)


def test_a_scheduler_gets_a_task_per_slot_that_gives_back_after_its_minute():
    plan = on_a_scheduler(10_000, at_once=16)
    assert (plan.tasks, plan.chunk, plan.budget_s) == (16, 625, TASK_S)
    assert on_a_scheduler(10_000, chunk=500).budget_s is None, "as its owner says"
    assert on_a_scheduler(100).budget_s is None, "one input cannot be cut"


def test_what_tasks_gave_back_is_cut_so_that_it_lasts_a_minute():
    plan = on_a_scheduler(1000)
    again = plan_rest(plan, settled=[*range(6), *range(500, 506)], seconds_per_input=10)
    assert again.attempt == 2
    assert again.ranges[:2] == [(0, 6), (500, 506)], "what was computed stays where it was"
    pieces = [again.task_inputs(task) for task in again.only]
    assert {len(piece) for piece in pieces} == {6, 2}
    assert again.only == list(range(2, again.tasks))


def test_a_task_that_computed_nothing_keeps_its_number():
    again = plan_rest(on_a_scheduler(200), settled=range(40), seconds_per_input=2)
    assert again.ranges == [(0, 40), (100, 130), (40, 70), (70, 100), (130, 160), (160, 190), (190, 200)]
    assert again.only == [1, 2, 3, 4, 5, 6]


def test_tasks_stay_as_they_are_where_their_owner_cut_them():
    again = plan_rest(on_a_scheduler(200, chunk=50), settled=range(60), seconds_per_input=10)
    assert (again.ranges, again.only, again.tasks) == (None, [1, 2, 3], 4)


@given(
    inputs=some.integers(129, 600),
    at_once=some.integers(1, 40),
    seconds=some.none() | some.floats(0.001, 1e4),
    data=some.data(),
)
def test_whatever_was_settled_each_input_left_is_in_exactly_one_task_that_runs(
    inputs, at_once, seconds, data
):
    plan = on_a_scheduler(inputs, at_once=at_once)
    settled = set()
    for _ in range(3):
        settled |= data.draw(some.sets(some.integers(0, inputs - 1)))
        plan = plan_rest(plan, settled=settled, seconds_per_input=seconds)
        numbers = [number for task in range(plan.tasks) for number in plan.task_inputs(task)]
        assert sorted(numbers) == list(range(inputs))
        runs = {number for task in plan.only for number in plan.task_inputs(task)}
        assert runs >= set(range(inputs)) - settled
        assert all(plan.task_of(number) in range(plan.tasks) for number in runs)
