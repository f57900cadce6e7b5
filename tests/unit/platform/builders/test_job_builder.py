from __future__ import annotations

from pathlib import Path

import pytest

from cupola.models.job import JobRequest
from cupola.models.volume import Access, Mount
from cupola.platform.builders.job import TaskPlace, choose_chunk, plan_again, plan_of, task_environment


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
    )
    mount = Mount(volume="dem", source="/data/dem", target="/homes/ada/volumes/dem", access=Access.READ)
    assert task_environment(place, cpus=2, mounts=[mount]) == {
        "HOME": "/homes/ada",
        "PATH": "/env/bin:/usr/bin",
        "LANG": "C.UTF-8",
        "CUPOLA_VOLUMES": '[{"volume": "dem", "source": "/data/dem", '
        '"target": "/homes/ada/volumes/dem", "access": "read"}]',
        "CUPOLA_VERSION": "sha256:1",
        "CUPOLA_PYTHON": "/env/bin/python",
        "CUPOLA_RUNTIME": "/homes/ada/.cupola",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_NUM_THREADS": "2",
        "GDAL_NUM_THREADS": "2",
    }
