from __future__ import annotations

import json

import pytest

from cupola.lab.jobs.journal import WHOLE_JOB, Journal
from cupola.models.job import TaskFailure, TaskPlan, TaskState
from cupola.platform.services.jobs.failures import Failures
from cupola.platform.services.jobs.progress import Progress
from cupola.platform.storage.files.jobs import JobFolder

PLAN = TaskPlan(tag="job-1", name="test", inputs=10, chunk=2, tasks=5)


@pytest.fixture
def folder(tmp_path):
    made = JobFolder(tmp_path / "job-1")
    made.write(PLAN, b"", [str(number) for number in range(10)])
    return made


@pytest.fixture
def journal(folder):
    made = Journal(folder.path)
    yield made
    made.close()


def fail(folder, number, error="ValueError", line="f:1: raise"):
    failure = TaskFailure(input=number, label="", error=error, message="no", line=line, task=number // 2)
    (folder.path / "results" / f"{number}.error").write_text(failure.model_dump_json())


def test_a_new_job_waits(folder):
    progress = Progress(folder, PLAN)
    progress.look()
    assert progress.counts().model_dump() == {"inputs": 10, "done": 0, "failed": 0, "running": 0}
    assert progress.grid(active=True).runs == [(TaskState.QUEUED, 5)]
    assert progress.started is None


def test_events_and_results_make_the_counts(folder, journal):
    journal.write(
        {"task": WHOLE_JOB, "state": "running"},
        {"task": 0, "state": "running"},
        {"task": 0, "state": "done", "peak_memory_mib": 31},
        {"task": 1, "state": "running"},
    )
    for number in (0, 1, 2):
        (folder.path / "results" / f"{number}.pkl").touch()
    (folder.path / "results" / "3.pkl.77.part").touch()
    progress = Progress(folder, PLAN)
    progress.look()
    assert progress.counts().model_dump() == {"inputs": 10, "done": 3, "failed": 0, "running": 1}
    assert progress.peak_memory_mib == 31
    assert progress.grid(active=True).runs == [
        (TaskState.DONE, 1),
        (TaskState.RUNNING, 1),
        (TaskState.QUEUED, 3),
    ]


def test_a_failure_beside_a_result_counts_no_more(folder):
    fail(folder, 4)
    (folder.path / "results" / "4.pkl").touch()
    progress = Progress(folder, PLAN)
    progress.look()
    assert (progress.counts().done, progress.counts().failed) == (1, 0)


def test_a_torn_line_waits_until_it_is_whole(folder):
    line = json.dumps({"task": 0, "state": "done", "time": "2026-11-21T00:00:00Z"}).encode()
    events = folder.path / "events.jsonl"
    progress = Progress(folder, PLAN)
    events.write_bytes(line[:10])
    progress.look()
    assert progress.tasks[0] is TaskState.QUEUED
    events.write_bytes(line + b"\n")
    progress.look()
    assert progress.tasks[0] is TaskState.DONE


def test_a_line_that_was_torn_for_ever_is_passed_over(folder):
    (folder.path / "events.jsonl").write_bytes(b'{"task": 0, "sta')
    after = Journal(folder.path)
    after.write({"task": 1, "state": "done"})
    after.close()
    progress = Progress(folder, PLAN)
    progress.look()
    assert progress.tasks[:2] == [TaskState.QUEUED, TaskState.DONE]


def test_a_new_supervisor_starts_over_with_what_was_not_done(folder, journal):
    journal.write(
        {"task": 0, "state": "done"}, {"task": 1, "state": "running"}, {"task": 2, "state": "failed"}
    )
    journal.write({"task": WHOLE_JOB, "state": "running", "attempt": 2})
    progress = Progress(folder, PLAN)
    progress.look()
    assert progress.grid(active=True).runs == [(TaskState.DONE, 1), (TaskState.QUEUED, 4)]


def test_the_end_of_an_earlier_submit_is_not_the_end(folder, journal):
    journal.write({"task": WHOLE_JOB, "state": "cancelled", "attempt": 1})
    progress = Progress(folder, PLAN.model_copy(update={"attempt": 2}))
    progress.look()
    assert progress.end is None
    journal.write({"task": WHOLE_JOB, "state": "done", "attempt": 2})
    progress.look()
    assert progress.end.state is TaskState.DONE


def test_tasks_of_an_ended_job_that_never_ran_are_told_as_cancelled(folder):
    progress = Progress(folder, PLAN)
    progress.look()
    assert progress.grid(active=False).runs == [(TaskState.CANCELLED, 5)]


def test_alike_failures_are_told_together_the_most_frequent_first(folder):
    fail(folder, 1, "KeyError")
    for number in (2, 5, 7):
        fail(folder, number)
    groups = Failures(folder).groups({1, 2, 5, 7, 9})
    assert [(group.error, group.count, group.inputs) for group in groups] == [
        ("ValueError", 3, [2, 5, 7]),
        ("KeyError", 1, [1]),
    ]
    assert groups[0].example.input == 2


def settle(folder, *numbers):
    for number in numbers:
        (folder.path / "results" / f"{number}.pkl").write_bytes(b"x")


def test_what_a_scheduler_says_is_brought_together_with_what_the_folder_tells(folder):
    settle(folder, 0, 1, 2)
    fail(folder, 4)
    settle(folder, 5)
    progress = Progress(folder, PLAN)
    progress.look()
    queue = [TaskState.DONE, TaskState.DONE, TaskState.RUNNING, TaskState.RUNNING, TaskState.QUEUED]
    progress.told(dict(enumerate(queue)))
    # The second has left the queue without its last input; the third has not left it, and nothing is left of it.
    wanted = [TaskState.DONE, TaskState.LOST, TaskState.FAILED, TaskState.RUNNING, TaskState.QUEUED]
    assert progress.tasks == wanted
    assert progress.counts().running == 2
    assert progress.unsettled == [3, 6, 7, 8, 9]
    assert not progress.all_settled
    assert progress.started is not None


def test_tasks_nobody_told_of_at_the_end_are_as_their_inputs(folder):
    settle(folder, *range(8))
    fail(folder, 8)
    progress = Progress(folder, PLAN)
    progress.look()
    runs = progress.grid(active=False).runs
    assert runs == [(TaskState.DONE, 4), (TaskState.CANCELLED, 1)], "its last input was never tried"
    fail(folder, 9)
    progress.look()
    assert progress.all_settled
    assert progress.grid(active=False).runs == [(TaskState.DONE, 4), (TaskState.FAILED, 1)]


def test_what_tasks_used_is_counted_once(folder):
    def usage(name, **said):
        (folder.path / "usage" / f"{name}.json").write_text(json.dumps(said))

    progress = Progress(folder, PLAN.model_copy(update={"cpus": 2}))
    usage("0-1", seconds=1800, inputs=2, peak_memory_mib=40)
    usage("1-1", seconds="many")
    progress.look()
    progress.look()
    assert (progress.core_hours, progress.peak_memory_mib, progress.seconds_per_input) == (1.0, 40, 900)
    usage("0-2", seconds=900, inputs=1, peak_memory_mib=30)
    progress.look()
    assert (progress.core_hours, progress.peak_memory_mib, progress.seconds_per_input) == (1.5, 40, 900)
