from __future__ import annotations

import json

import pytest

from cupola.models.job import JobAction, TaskFailure, TaskGrid, TaskPlan, TaskState
from cupola.platform.services.jobs.failures import Failures
from cupola.platform.services.jobs.figures import Kept, figures, hints, inputs_of
from cupola.platform.services.jobs.progress import Progress
from cupola.platform.services.jobs.rate import Rate
from cupola.platform.storage.files.jobs import JobFolder
from support import made_up

PLAN = TaskPlan(tag="job-1", name="test", inputs=10, chunk=2, tasks=5)


@pytest.fixture
def folder(tmp_path):
    made = JobFolder(tmp_path / "job-1")
    made.write(PLAN, b"", [f"scene-{number}" for number in range(10)])
    return made


def fail(folder, number, error="ValueError", line="f:1: raise"):
    failure = TaskFailure(input=number, label="", error=error, message="no", line=line, task=number // 2)
    (folder.path / "results" / f"{number}.error").write_text(failure.model_dump_json())


def ended(folder, *, tasks=3, seconds=10, cpu_seconds=9.0, cpus=1):
    lines = [
        event
        for task in range(tasks)
        for event in (
            {"task": task, "state": "running", "time": "2026-01-01T00:00:00Z"},
            {
                "task": task,
                "state": "done",
                "time": f"2026-01-01T00:00:{seconds:02}Z",
                "cpu_seconds": cpu_seconds,
            },
        )
    ]
    (folder.path / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    progress = Progress(folder, PLAN.model_copy(update={"cpus": cpus}))
    progress.look()
    return progress


def job(**more):
    return made_up.job("job-1", "running", 10, 4, **{"tasks": 5, "chunk": 2, **more})


def test_a_rate_is_that_of_the_last_minute():
    rate = Rate()
    for second in range(100):
        rate.take(second, at=second)
    for second in range(100, 200):
        rate.take(100 + 2 * (second - 100), at=second)
    assert rate.per_minute == 120


def test_a_slow_rate_is_taken_over_longer_and_falls_while_nothing_comes():
    rate = Rate()
    rate.take(0, at=0)
    assert rate.per_minute is None
    for number in range(1, 5):
        rate.take(number, at=300 * number)
    assert rate.per_minute == pytest.approx(0.2)
    rate.take(4, at=2100)
    assert rate.per_minute < 0.2


def test_a_retry_and_a_hold_begin_anew():
    rate = Rate()
    rate.take(0, at=0)
    rate.take(600, at=60)
    assert rate.per_minute == 600
    rate.take(590, at=61)
    assert rate.per_minute is None


def test_the_hint_names_the_memory_that_suffices(folder):
    progress = ended(folder)
    assert hints(job(peak_memory_mib=310, memory_mib=1024), progress) == [
        'A task used at most 310 MiB of the 1,024 MiB asked for: ask for memory="384 MiB" and more tasks may run at a time.'
    ]
    assert hints(job(peak_memory_mib=310, memory_mib=448), progress) == []
    (tight,) = hints(job(peak_memory_mib=1000, memory_mib=1024), progress)
    assert 'memory="1536 MiB"' in tight


def test_the_hint_names_the_cores_that_suffice(folder):
    progress = ended(folder, cpu_seconds=11.0, cpus=4)
    assert progress.cores_used == 1.1
    (hint,) = hints(job(cpus=4), progress)
    assert hint == ("A task kept 1.1 of its 4 cores busy: ask for cpus=2 and more tasks may run at a time.")


def test_a_task_that_waits_for_data_is_told_and_a_short_one_is_not(folder, tmp_path):
    (hint,) = hints(job(), ended(folder, cpu_seconds=1.0))
    assert hint.startswith("A task kept its core busy for 10 % of the time")
    other = JobFolder(tmp_path / "job-2")
    other.write(PLAN, b"", [])
    assert hints(job(), ended(other, seconds=1, cpu_seconds=0.1)) == []


def test_nothing_is_said_before_a_few_tasks_have_ended(folder):
    assert hints(job(peak_memory_mib=10), ended(folder, tasks=2)) == []


@pytest.mark.parametrize(
    ("frozen", "runs"),
    [
        (True, [(TaskState.DONE, 1), (TaskState.HELD, 4)]),
        (False, [(TaskState.DONE, 1), (TaskState.RUNNING, 1), (TaskState.HELD, 3)]),
    ],
)
def test_what_waits_in_a_held_job_is_held(folder, frozen, runs):
    grid = TaskGrid(
        tasks=5,
        runs=[(TaskState.DONE, 1), (TaskState.RUNNING, 1), (TaskState.LOST, 1), (TaskState.QUEUED, 2)],
    )
    held = made_up.job("job-1", "held", 10, 2)
    assert figures(grid, held, Progress(folder, PLAN), frozen=frozen).runs == runs


def test_rate_and_time_left_are_told_while_it_runs(folder):
    progress = Progress(folder, PLAN)
    progress.rate.take(0, at=0)
    progress.rate.take(4, at=60)
    grid = figures(TaskGrid(tasks=5, runs=[]), job(), progress, frozen=True)
    assert (grid.per_minute, grid.seconds_left) == (4, 90)
    done = made_up.job("job-1", "done", 10, 10)
    assert figures(TaskGrid(tasks=5, runs=[]), done, progress, frozen=True).per_minute is None


def test_a_task_tells_its_inputs(folder):
    fail(folder, 3)
    progress = Progress(folder, PLAN)
    progress.look()
    told = inputs_of(progress, 1, active=True)
    assert (told.count, told.inputs, told.labels, told.failed) == (2, [2, 3], ["scene-2", "scene-3"], [3])


def test_failures_are_read_once_and_forgotten_when_they_are_gone(folder):
    failures = Failures(folder)
    fail(folder, 1)
    fail(folder, 2)
    fail(folder, 5, error="KeyError")
    assert [(group.error, group.inputs) for group in failures.groups({1, 2, 5})] == [
        ("ValueError", [1, 2]),
        ("KeyError", [5]),
    ]
    for path in (folder.path / "results").iterdir():
        path.write_text("")  # a second reading would find nothing
    fail(folder, 7)
    assert [(group.error, group.inputs) for group in failures.groups({1, 2, 5, 7})] == [
        ("ValueError", [1, 2, 7]),
        ("KeyError", [5]),
    ]
    assert [(group.example.input, group.inputs) for group in failures.groups({7})] == [(7, [7])]


@pytest.mark.asyncio
async def test_ended_jobs_are_kept_while_they_are_looked_at(folder):
    kept = Kept(most=2)
    progress = Progress(folder, PLAN)
    kept.put(progress)
    found = made_up.job("job-1", "done", 10, 10)
    assert await kept.get(found) is progress
    assert await kept.get(found.model_copy(update={"attempt": 2})) is None
    for number in (2, 3):
        kept.put(Progress(folder, PLAN.model_copy(update={"tag": f"job-{number}"})))
    assert await kept.get(found) is None
    kept.forget("job-3")
    assert await kept.get(found.model_copy(update={"id": "job-3"})) is None


def test_every_action_says_what_it_does():
    assert all(action.meaning.endswith(".") for action in JobAction)
