"""Jobs with real supervisors, tasks and a real database: what works, what is refused, what a crash costs."""

# ruff: noqa: S301 - results of these tests' own tasks
# ruff: noqa: ASYNC220, ASYNC221 - these commands take milliseconds, and nothing else runs meanwhile
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cupola.exceptions import ConflictError, InputError, LimitError, NotFoundError, UnavailableError
from cupola.models.job import JobAction, JobState, TaskPlan, TaskState
from cupola.platform.storage.localpool import LocalPool
from support.jobs_service import ADA, EVE, ended, job_service, request

pytestmark = [pytest.mark.system, pytest.mark.asyncio]

PATIENCE = 180


@pytest_asyncio.fixture
async def service(tmp_path):
    async with job_service(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """End what a failed test left running; a test that passed has left nothing."""
    yield
    found = [process for process in psutil.process_iter() if _belongs(process, tmp_path)]
    # A supervisor tells the end of its job a moment before its own.
    _, left = psutil.wait_procs(found, timeout=120)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=30)
    assert left == []


def _belongs(process, folder):
    try:
        return (
            process.environ().get("HOME", "").startswith(str(folder))
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


def lives(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition):
    """Wait until something is true; the test's own time limit ends it otherwise."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.02)
    return value


def count_calls(file):
    """Return a function that notes each call in a file and waits while a file says so."""
    calls, gate = str(file), str(file.with_suffix(".wait"))

    def note(x):
        with open(calls, "a") as log:  # noqa: PTH123 - runs elsewhere
            log.write(f"{x} {os.getpid()}\n")
        while os.path.exists(gate) and x >= 4:  # noqa: PTH110
            time.sleep(0.01)
        return x * x

    return note


def calls(file):
    return [tuple(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []


def supervisor(job):
    return json.loads((job.folder / "pool.json").read_bytes())["pid"]


def results(job):
    return {
        int(file.stem): pickle.loads(file.read_bytes()) for file in (job.folder / "results").glob("*.pkl")
    }


async def test_all_inputs_are_computed_and_the_end_is_told(service):
    job = await service.submit(ADA, request(lambda x: x * x, list(range(300))))
    states = [state async for state in service.events(ADA, job.id)]
    last = states[-1]
    assert last.state is JobState.DONE
    assert (last.counts.done, last.counts.failed, last.counts.running) == (300, 0, 0)
    assert last.started is not None
    assert last.ended >= last.started
    assert last.peak_memory_mib > 0
    assert results(last) == {number: number * number for number in range(300)}
    assert (await service.job(ADA, job.id)) == last
    assert (await service.grid(ADA, job.id)).runs == [(TaskState.DONE, job.tasks)]


async def test_some_inputs_fail_and_retry_runs_only_those(service, tmp_path):
    note, broken = count_calls(tmp_path / "calls"), tmp_path / "broken"
    broken.touch()

    def sometimes(x):
        note(x)
        if x % 3 == 0 and broken.exists():
            raise ValueError("broken input")
        return x

    job = await service.submit(ADA, request(sometimes, list(range(10)), chunk=2))
    last = await ended(service, job.id)
    assert (last.state, last.reason) == (JobState.PARTLY_FAILED, "4 of 10 inputs failed.")
    [group] = await service.failures(ADA, job.id)
    assert (group.error, group.count, group.inputs) == ("ValueError", 4, [0, 3, 6, 9])
    assert group.line.endswith('raise ValueError("broken input")')
    with pytest.raises(ConflictError, match="Input 3 failed"):
        await service.result(ADA, job.id, 3)

    broken.unlink()
    before = len(calls(tmp_path / "calls"))
    again = await service.act(ADA, job.id, JobAction.RETRY)
    assert (again.state, again.attempt, again.counts.failed) == (JobState.QUEUED, 2, 0)
    last = await ended(service, job.id)
    assert (last.state, last.reason) == (JobState.DONE, None)
    assert sorted(x for x, _ in calls(tmp_path / "calls")[before:]) == [0, 3, 6, 9]
    assert len(list((job.folder / "failures" / "1").iterdir())) == 4
    with pytest.raises(ConflictError, match="nothing is left to retry"):
        await service.act(ADA, job.id, JobAction.RETRY)


async def test_what_a_task_prints_is_its_log(service):
    job = await service.submit(ADA, request(print, ["hello from the task"]))
    await ended(service, job.id)
    assert await service.log(ADA, job.id, 0) == "hello from the task\n"
    with pytest.raises(NotFoundError, match="no task 1"):
        await service.log(ADA, job.id, 1)
    with pytest.raises(NotFoundError, match="no input 1"):
        await service.log_of_input(ADA, job.id, 1)


async def test_the_log_of_an_input_is_that_of_its_task_however_tasks_were_cut(service, tmp_path):
    job = await service.submit(ADA, request(print, ["one", "two", "three"], chunk=2))
    await ended(service, job.id)
    plan = TaskPlan.model_validate_json((job.folder / "job.json").read_bytes())
    cut = plan.model_copy(update={"ranges": [(0, 1), (2, 3), (1, 2)], "tasks": 3})
    (job.folder / "job.json").write_text(cut.model_dump_json())
    (job.folder / "log" / "2.out").write_text("two, later\n")
    async with job_service(tmp_path) as later:
        logs = [await later.log_of_input(ADA, job.id, number) for number in range(3)]
    assert logs == ["one\ntwo\n", "two, later\n", "three\n"]


async def test_a_task_finds_its_environment_and_no_token(service, tmp_path):
    job = await service.submit(ADA, request(lambda _: dict(os.environ), [0]))
    last = await ended(service, job.id)
    found = results(last)[0]
    assert found["HOME"] == str(tmp_path / "homes" / "ada")
    assert found["CUPOLA_PYTHON"] == sys.executable
    assert found["OMP_NUM_THREADS"] == "1"
    assert not any("TOKEN" in name for name in found)


async def test_cancel_ends_the_tasks_and_what_they_started(service, tmp_path):
    pids = tmp_path / "pids"

    def starts_others(_):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        with pids.open("a") as log:
            log.write(f"{os.getpid()}\n{child.pid}\n")
        child.wait()

    job = await service.submit(ADA, request(starts_others, list(range(6))))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
    await service.act(ADA, job.id, JobAction.CANCEL)
    last = await ended(service, job.id)
    assert (last.state, last.reason) == (JobState.CANCELLED, "Its owner cancelled it.")
    assert not any(lives(pid) for pid in pids.read_text().split())
    assert (await service.grid(ADA, job.id)).runs == [(TaskState.CANCELLED, 6)]
    with pytest.raises(ConflictError, match="has ended"):
        await service.act(ADA, job.id, JobAction.CANCEL)


async def test_hold_freezes_and_release_goes_on(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), list(range(8))))
    await until(lambda: len(calls(file)) == 6)
    held = await service.act(ADA, job.id, JobAction.HOLD)
    assert held.state is JobState.HELD
    pids = [pid for x, pid in calls(file) if x in {4, 5}]
    await until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids))
    file.with_suffix(".wait").unlink()
    # Its cores are free for others meanwhile.
    other = await service.submit(ADA, request(abs, [-1, -2, -3]))
    assert (await ended(service, other.id)).state is JobState.DONE
    assert (await service.job(ADA, job.id)).state is JobState.HELD
    assert len(calls(file)) == 6
    with pytest.raises(ConflictError, match="cannot be told to hold"):
        await service.act(ADA, job.id, JobAction.HOLD)
    await service.act(ADA, job.id, JobAction.RELEASE)
    assert (await ended(service, job.id)).state is JobState.DONE
    assert [x for x, _ in sorted(calls(file))] == list(range(8))


async def test_a_killed_task_is_run_again_and_costs_one_input(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), list(range(8)), chunk=8))
    victim = await until(lambda: dict(calls(file)).get(4))
    os.kill(victim, signal.SIGKILL)
    await until(lambda: len([x for x, _ in calls(file) if x == 4]) == 2)
    file.with_suffix(".wait").unlink()
    last = await ended(service, job.id)
    assert (last.state, last.counts.done) == (JobState.DONE, 8)
    assert Counter(x for x, _ in calls(file)) == {**dict.fromkeys(range(8), 1), 4: 2}


async def test_an_input_that_always_kills_its_process_fails_alone(service):
    def crash(x):
        if x == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return x

    job = await service.submit(ADA, request(crash, list(range(4)), chunk=4, retries=1))
    last = await ended(service, job.id)
    assert (last.state, last.counts.done) == (JobState.PARTLY_FAILED, 3)
    [group] = await service.failures(ADA, job.id)
    assert group.inputs == [1]
    assert "killed by SIGSEGV, 2 times" in group.example.message


async def test_a_task_over_its_memory_is_ended_with_both_figures(service):
    def greedy(x):
        data = bytearray(x << 20)
        time.sleep(600 if x > 64 else 0)
        return len(data)

    job = await service.submit(ADA, request(greedy, [1, 400, 2], chunk=3, memory_mib=128))
    last = await ended(service, job.id)
    assert (last.state, last.counts.done) == (JobState.PARTLY_FAILED, 2)
    [group] = await service.failures(ADA, job.id)
    assert (group.error, group.inputs) == ("OutOfMemory", [1])
    assert "of 128 MiB" in group.example.message


async def test_a_killed_supervisor_loses_no_finished_input(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), list(range(12))))
    await until(lambda: {4, 5} <= {x for x, _ in calls(file)})
    before = calls(file)
    os.kill(supervisor(job), signal.SIGKILL)
    # Its tasks end with it, so none computes beside its successor's.
    await until(lambda: not any(lives(pid) for _, pid in before))
    file.with_suffix(".wait").unlink()
    last = await ended(service, job.id)
    assert (last.state, last.attempt, last.counts.done) == (JobState.DONE, 2, 12)
    assert Counter(x for x, _ in calls(file)) == {**dict.fromkeys(range(12), 1), 4: 2, 5: 2}


async def test_a_supervisor_that_always_dies_ends_the_job_with_its_last_words(service, tmp_path):
    job = await service.submit(ADA, request(count_calls(tmp_path / "calls"), [1]))
    await ended(service, job.id)
    request_ = request(abs, [-1])
    # Unpickling this ends the process without a word of Python's.
    place = pickle.dumps({"python": request_.python, "cwd": "/", "path": [], "sources": {}})
    payload = place + b"cos\n_exit\n(I9\ntR."
    job = await service.submit(ADA, request_.model_copy(update={"payload": payload}))
    last = await ended(service, job.id)
    assert last.state is JobState.FAILED
    assert last.attempt == 4
    assert last.reason.startswith("It was ended 4 times before its end")


async def test_the_platforms_stop_is_not_counted_against_a_job(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), list(range(6))))
    for times in range(1, 6):
        await until(lambda: len([x for x, _ in calls(file) if x == 4]) == times)  # noqa: B023
        os.kill(supervisor(job), signal.SIGTERM)
    await until(lambda: len([x for x, _ in calls(file) if x == 4]) == 6)
    file.with_suffix(".wait").unlink()
    last = await ended(service, job.id)
    assert (last.state, last.attempt) == (JobState.DONE, 6)


async def test_a_killed_portal_loses_nothing(tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    (tmp_path / "request.json").write_text(request(count_calls(file), list(range(12))).model_dump_json())
    portal = subprocess.Popen(
        [sys.executable, "-m", "support.jobs_service", tmp_path], cwd=Path(__file__).parents[1]
    )
    await until(lambda: {4, 5} <= {x for x, _ in calls(file)})
    portal.kill()
    portal.wait()
    file.with_suffix(".wait").unlink()
    async with job_service(tmp_path) as service:
        await service.reconcile()
        [job] = (await service.jobs(ADA)).items
        last = await ended(service, job.id)
    assert (last.state, last.attempt, last.counts.done) == (JobState.DONE, 1, 12)
    assert Counter(x for x, _ in calls(file)) == dict.fromkeys(range(12), 1)


async def test_portal_and_supervisor_killed_together_lose_nothing(tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    async with job_service(tmp_path) as service:
        job = await service.submit(ADA, request(count_calls(file), list(range(12))))
        await until(lambda: {4, 5} <= {x for x, _ in calls(file)})
    os.kill(supervisor(job), signal.SIGKILL)
    await until(lambda: not any(lives(pid) for _, pid in calls(file)))
    file.with_suffix(".wait").unlink()
    async with job_service(tmp_path) as service:
        await service.reconcile()
        last = await ended(service, job.id)
    assert (last.state, last.counts.done) == (JobState.DONE, 12)
    assert Counter(x for x, _ in calls(file)) == {**dict.fromkeys(range(12), 1), 4: 2, 5: 2}


async def test_a_portal_killed_between_row_and_submit_submits_at_its_next_start(tmp_path):
    class Unlucky(LocalPool):
        def submit(self, _array):
            raise KeyboardInterrupt  # as kill -9: nothing after this runs

    engines = {"local": Unlucky(tmp_path / "cores", cores=2)}
    async with job_service(tmp_path, engines=engines) as service:
        with pytest.raises(KeyboardInterrupt):
            await service.submit(ADA, request(abs, [-1, -2]))
    async with job_service(tmp_path) as service:
        await service.reconcile()
        [job] = (await service.jobs(ADA)).items
        assert (await ended(service, job.id)).state is JobState.DONE


async def test_a_row_without_a_folder_is_closed_with_a_reason(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), [4]))
    await until(lambda: calls(file))
    await service.aclose()
    os.kill(supervisor(job), signal.SIGKILL)
    (job.folder / "job.json").unlink()
    await service.reconcile()
    last = await service.job(ADA, job.id)
    assert last.state is JobState.FAILED
    assert "start it again" in last.reason


async def test_two_jobs_at_once_share_the_cores(service, tmp_path):
    log = tmp_path / "log"

    def work(name):
        with log.open("a") as file:
            file.write(f"{name} start\n")
        time.sleep(0.1)
        with log.open("a") as file:
            file.write(f"{name} end\n")

    one = await service.submit(ADA, request(work, ["a"] * 12))
    two = await service.submit(ADA, request(work, ["b"] * 12))
    assert (await ended(service, one.id)).state is JobState.DONE
    assert (await ended(service, two.id)).state is JobState.DONE
    lines = [line.split() for line in log.read_text().splitlines()]
    running, most = Counter(), 0
    for name, what in lines:
        running[name] += 1 if what == "start" else -1
        most = max(most, running.total())
    assert most == 2
    # The second did not wait for the end of the first.
    assert lines.index(["b", "start"]) < max(n for n, line in enumerate(lines) if line == ["a", "start"])


async def test_a_second_supervisor_of_the_same_job_ends_at_once(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), [4, 5, 6]))
    await until(lambda: len(calls(file)) == 2)
    command = [sys.executable, "-P", "-m", "cupola.lab.pool", job.folder, tmp_path / "cores"]
    assert subprocess.run(command, check=False).returncode == 3
    file.with_suffix(".wait").unlink()
    assert (await ended(service, job.id)).state is JobState.DONE
    assert Counter(x for x, _ in calls(file)) == {4: 1, 5: 1, 6: 1}


async def test_a_full_disk_is_said_and_retry_goes_on_when_there_is_room(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    home = tmp_path / "homes"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", home], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        async with job_service(tmp_path) as service:
            job = await service.submit(ADA, request(os.urandom, [300_000] * 12, chunk=12))
            last = await ended(service, job.id)
            assert last.state in {JobState.PARTLY_FAILED, JobState.FAILED}
            assert 0 < last.counts.done < 12
            told = [group.example.message for group in await service.failures(ADA, job.id)] + [last.reason]
            assert any("No space is left on the disk" in text for text in told)
            assert not list((job.folder / "results").glob("*.part"))
            assert all(len(data) == 300_000 for data in results(last).values())
            subprocess.run(["mount", "-o", "remount,size=16m", home], check=True)
            await service.act(ADA, job.id, JobAction.RETRY)
            last = await ended(service, job.id)
            assert (last.state, last.counts.done) == (JobState.DONE, 12)
    finally:
        subprocess.run(["umount", home], check=True)


async def test_a_job_is_its_owners_alone(service):
    job = await service.submit(ADA, request(abs, [-1]))
    await ended(service, job.id)
    for call in (
        service.job(EVE, job.id),
        service.grid(EVE, job.id),
        service.failures(EVE, job.id),
        service.log(EVE, job.id, 0),
        service.log_of_input(EVE, job.id, 0),
        service.result(EVE, job.id, 0),
        service.act(EVE, job.id, JobAction.RETRY),
        service.delete(EVE, job.id),
        anext(service.events(EVE, job.id)),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert (await service.jobs(EVE)).items == []
    with await service.result(ADA, job.id, 0) as result:
        assert result.read() == pickle.dumps(1, protocol=5)


async def test_only_an_ended_job_can_be_deleted(service, tmp_path):
    file = tmp_path / "calls"
    file.with_suffix(".wait").touch()
    job = await service.submit(ADA, request(count_calls(file), [4]))
    with pytest.raises(ConflictError, match="cancel it first"):
        await service.delete(ADA, job.id)
    file.with_suffix(".wait").unlink()
    await ended(service, job.id)
    await service.delete(ADA, job.id)
    assert not job.folder.exists()
    with pytest.raises(NotFoundError):
        await service.job(ADA, job.id)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"engine": "slurm"}, InputError, "There is no engine 'slurm' here: use local"),
        ({"cpus": 3}, LimitError, "asks for 3 cores and you may use 2"),
        ({"memory_mib": 5000}, LimitError, "asks for 5,000 MiB of memory and you may use 4,096"),
        ({"python": "3.9"}, InputError, "made by Python 3.9"),
    ],
)
async def test_what_cannot_run_is_refused_and_leaves_nothing(service, tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        await service.submit(ADA, request(abs, [1], **options))
    assert (await service.jobs(ADA)).items == []
    assert not list((tmp_path / "homes").glob("*/.cupola/jobs/*"))


async def test_an_interpreter_that_is_gone_is_said_and_leaves_nothing(service, tmp_path, monkeypatch):
    def gone(*_arguments, **_options):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "posix_spawn", gone)
    with pytest.raises(UnavailableError, match="could not be started"):
        await service.submit(ADA, request(abs, [1]))
    assert (await service.jobs(ADA)).items == []
    assert not list((tmp_path / "homes").glob("*/.cupola/jobs/*"))
