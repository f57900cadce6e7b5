"""Who gets how much: people against people, a team's limit, a limit that is lowered, crashes in the middle, the last core-hours."""

# ruff: noqa: ASYNC220 - these commands take milliseconds, and nothing else runs meanwhile
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cupola.config import TeamSettings
from cupola.exceptions import LimitError, NotAllowedError
from cupola.models.job import JobAction, JobState
from cupola.models.person import Profile
from cupola.models.team import Role
from cupola.platform.services.jobs import shares as jobshares
from support.jobs_service import ADA, EVE, ended, job_service, limits_of, request

pytestmark = [pytest.mark.system, pytest.mark.asyncio]

PATIENCE = 180
TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(jobshares, "ROUND_S", 0.1)
    monkeypatch.setattr(jobshares, "REMEMBERED_S", 0.0)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path):
    yield
    found = [process for process in psutil.process_iter() if _belongs(process, tmp_path)]
    _, left = psutil.wait_procs(found, timeout=120)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=30)
    assert left == []


def _belongs(process, folder):
    try:
        home = process.environ().get("HOME", "")
        return home.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def until(condition):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.02)
    return value


def work(file, *, seconds=0.1, gate=None):
    """Return a function that takes a while, or until a file is there, and notes when it began and ended."""
    notes, opened = str(file), str(gate) if gate else None

    def note(x):
        with open(notes, "a", buffering=1) as log:  # noqa: PTH123 - runs elsewhere
            log.write(f"{x} {os.getpid()} + {time.time()}\n")
            time.sleep(seconds)
            while opened and not os.path.exists(opened):  # noqa: PTH110
                time.sleep(0.01)
            log.write(f"{x} {os.getpid()} - {time.time()}\n")
        return x

    return note


def notes(file):
    """Return what the tasks noted: input, process, sign and moment."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(x), int(pid), sign, float(at)) for x, pid, sign, at in (line.split() for line in lines)]


def most_at_a_time(*files, killed=0.0):
    """Return how many tasks ran at a time at most; those that noted no end were killed at that moment."""
    said = [entry for file in files for entry in notes(file)]
    over = {(x, pid) for x, pid, sign, _ in said if sign == "-"}
    steps = [(at, 1 if sign == "+" else -1) for _, _, sign, at in said]
    steps += [(killed, -1) for x, pid, sign, _ in said if sign == "+" and (x, pid) not in over]
    running = most = 0
    for _, step in sorted(steps):
        running += step
        most = max(most, running)
    return most


async def test_ten_jobs_of_one_person_get_no_more_than_one_job_of_another(tmp_path):
    ada, eve = tmp_path / "ada", tmp_path / "eve"
    async with job_service(tmp_path) as service:
        many = [await service.submit(ADA, request(work(ada), list(range(40)), chunk=1)) for _ in range(10)]
        await until(lambda: len(notes(ada)) > 10)
        one = await service.submit(EVE, request(work(eve), list(range(14)), chunk=1))
        assert (await ended(service, one.id, EVE)).state is JobState.DONE
        mine = [at for _, _, sign, at in notes(eve) if sign == "+"]
        theirs = [at for _, _, sign, at in notes(ada) if sign == "+" and mine[0] < at < mine[-1]]
        # Half of the cores are ten times a tenth of them, and once all of it; shared by jobs it would be ten to one.
        assert len(theirs) < 2 * len(mine)
        for job in many:
            await service.act(ADA, job.id, JobAction.CANCEL)
        # Each of the ten has had something.
        assert all([(await ended(service, job.id)).counts.done for job in many])


async def test_jobs_of_a_team_share_its_cores_and_only_members_may_use_them(tmp_path):
    roles = {("ada", "mars"): Role.OWNER, ("eve", "mars"): Role.MEMBER}
    limits = limits_of(
        Profile(cores=2, memory_mib=4096), roles=roles, teams=[TeamSettings(name="mars", job_cores=1)]
    )
    ada, eve, gate = tmp_path / "ada", tmp_path / "eve", tmp_path / "gate"
    async with job_service(tmp_path, limits=limits) as service:
        first = await service.submit(ADA, request(work(ada, gate=gate), [1, 2, 3], team="mars"))
        second = await service.submit(EVE, request(work(eve), [1, 2, 3], team="mars"))
        assert (second.state, second.reason) == (
            JobState.QUEUED,
            "It waits until the jobs of the team mars use fewer than 1 cores, which is their limit.",
        )
        own = await service.submit(EVE, request(work(tmp_path / "own"), [1]))
        assert (await ended(service, own.id, EVE)).state is JobState.DONE  # for herself there is room
        with pytest.raises(NotAllowedError, match="in no team 'moon'"):
            await service.submit(EVE, request(work(eve), [1], team="moon"))
        await until(lambda: notes(ada))
        [use] = [await service.shares.use(share) for share in limits.teams.values()]
        assert use.cores == 1
        gate.touch()
        assert (await ended(service, first.id)).state is JobState.DONE
        last = await ended(service, second.id, EVE)
        assert (last.state, last.reason) == (JobState.DONE, None)
    assert most_at_a_time(ada, eve) == 1


async def test_a_job_that_waits_for_room_can_be_held_released_and_cancelled(tmp_path):
    limits, gate = limits_of(Profile(cores=2, memory_mib=4096, job_cores=1)), tmp_path / "gate"
    async with job_service(tmp_path, limits=limits) as service:
        first = await service.submit(ADA, request(work(tmp_path / "a", gate=gate), [1]))
        waits = [await service.submit(ADA, request(work(tmp_path / "b"), [1])) for _ in range(2)]
        assert (await service.act(ADA, waits[0].id, JobAction.HOLD)).state is JobState.HELD
        assert (await service.act(ADA, waits[0].id, JobAction.RELEASE)).state is JobState.QUEUED
        await service.act(ADA, waits[1].id, JobAction.CANCEL)
        assert (await ended(service, waits[1].id)).state is JobState.CANCELLED
        gate.touch()
        assert [(await ended(service, job.id)).state for job in (first, waits[0])] == [JobState.DONE] * 2


async def test_a_limit_that_is_lowered_counts_while_jobs_run(tmp_path):
    profile = {"cores": 4, "memory_mib": 4096, "job_cores": 4}

    async def profile_of(_person):
        return Profile(**profile)

    limits = jobshares.JobLimits(profile_of=profile_of)
    log, gate = tmp_path / "log", tmp_path / "gate"
    async with job_service(tmp_path, cores=4, limits=limits) as service:
        job = await service.submit(
            ADA, request(work(log, gate=gate, seconds=0.05), list(range(24)), memory_mib=64)
        )
        await until(lambda: len(notes(log)) == 4)
        profile["job_cores"] = 1
        await until(lambda: (job.folder / "at_once").read_text() == "1")
        gate.touch()
        assert (await ended(service, job.id)).state is JobState.DONE
    said = notes(log)
    # What ran when it was lowered is let end; from then on there is one at a time.
    later = {x for x, _, sign, _ in said if sign == "+"} - {x for x, _, _, _ in said[:4]}
    slow = tmp_path / "later"
    slow.write_text("".join(f"{x} {pid} {sign} {at}\n" for x, pid, sign, at in said if x in later))
    assert (most_at_a_time(log), most_at_a_time(slow)) == (4, 1)


async def test_limits_hold_when_a_supervisor_and_the_portal_are_killed(tmp_path):
    (tmp_path / "profile.json").write_text(Profile(cores=4, memory_mib=4096, job_cores=2).model_dump_json())
    logs = [tmp_path / f"log{number}" for number in range(3)]
    for number, log in enumerate(logs):
        said = request(work(log), list(range(8)), memory_mib=64)
        (tmp_path / f"request{number}.json").write_text(said.model_dump_json())
    command = [sys.executable, "-m", "support.jobs_service", tmp_path]
    portal = subprocess.Popen(command, cwd=TESTS)
    try:
        await until(lambda: (tmp_path / "job2").exists() and len(notes(logs[0]) + notes(logs[1])) > 6)
    finally:
        portal.kill()
        portal.wait()
    homes = tmp_path / "homes" / "ada" / ".cupola" / "jobs"
    signed = list(homes.glob("*/pool.json"))
    assert signed
    killed = time.time()
    for file in signed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(json.loads(file.read_bytes())["pid"])
            if _belongs(process, tmp_path):
                process.kill()
    for file in tmp_path.glob("request*.json"):
        file.unlink()
    portal = subprocess.Popen(command, cwd=TESTS)
    try:
        await until(lambda: len(list(homes.glob("*/results/*.pkl"))) == 24)
    finally:
        portal.kill()
        portal.wait()
    # Killed at one moment, and none of it was counted on for ever.
    assert most_at_a_time(*logs, killed=killed) == 2


@pytest.mark.parametrize("name", ["htcondor", "slurm"])
async def test_on_a_real_pool_ten_jobs_leave_room_for_the_one_of_another(
    tmp_path, htcondor_pool, slurm_pool, name
):
    engine = {"htcondor": htcondor_pool, "slurm": slurm_pool}[name].engine()
    limits = limits_of(Profile(cores=2, memory_mib=4096, job_cores=2))
    ada, eve = tmp_path / "ada", tmp_path / "eve"
    async with job_service(tmp_path, engines={name: engine}, limits=limits) as service:
        asked = request(work(ada, seconds=0.3), list(range(6)), chunk=1, memory_mib=64)
        many = [await service.submit(ADA, asked) for _ in range(10)]
        # Two of the pool's four cores at most, in two jobs: the others are not even submitted.
        assert [job.reason is None for job in many].count(True) <= 2
        one = await service.submit(EVE, request(work(eve), [1, 2, 3], chunk=1, memory_mib=64))
        assert (await ended(service, one.id, EVE)).state is JobState.DONE
        now = [await service.job(ADA, job.id) for job in many]
        assert sum(job.state.active for job in now) >= 5
        await until(lambda: len(notes(ada)) > 16)
        so_far = tmp_path / "so-far"
        so_far.write_bytes(ada.read_bytes())
        # Those that wait first: else they would begin in the place of those that are cancelled.
        for job in reversed(many):
            if (await service.job(ADA, job.id)).state.active:
                await service.act(ADA, job.id, JobAction.CANCEL)
        for job in many:
            await ended(service, job.id)
    # Where a job is given less since another begins, its tasks that run already are let end.
    assert most_at_a_time(so_far, killed=time.time()) <= 3


async def test_of_two_submits_at_once_one_gets_the_last_core_hours(tmp_path):
    limits = limits_of(Profile(cores=2, memory_mib=4096, core_hours=1.5 / 60))
    async with job_service(tmp_path, limits=limits) as service:
        asked = [request(work(tmp_path / f"log{n}", seconds=0), [1]) for n in range(2)]
        said = await asyncio.gather(*(service.submit(ADA, one) for one in asked), return_exceptions=True)
        [refused] = [one for one in said if isinstance(one, Exception)]
        assert isinstance(refused, LimitError)
        assert "of 0.03 core-hours in 30 days" in str(refused)
        [job] = [one for one in said if one is not refused]
        assert (await ended(service, job.id)).state is JobState.DONE
        # It has used next to nothing: there is room again.
        again = await service.submit(ADA, asked[0])
        assert (await ended(service, again.id)).state is JobState.DONE


async def test_a_job_beyond_its_core_hours_is_held_and_its_use_outlives_it(tmp_path, monkeypatch):
    monkeypatch.setattr(jobshares, "LEAST_HOURS", 1e-9)
    profile = {"cores": 2, "memory_mib": 4096, "core_hours": 1 / 3600}

    async def profile_of(_person):
        return Profile(**profile)

    limits, gate = jobshares.JobLimits(profile_of=profile_of), tmp_path / "gate"
    async with job_service(tmp_path, limits=limits) as service:
        job = await service.submit(ADA, request(work(tmp_path / "log", gate=gate), [1, 2, 3]))
        async for state in service.events(ADA, job.id):
            if state.state is JobState.HELD:
                break
        assert state.reason.startswith("All your jobs have used 0.00 of 0.00 core-hours in 30 days: ")
        with pytest.raises(LimitError, match="core-hours in 30 days"):
            await service.act(ADA, job.id, JobAction.RELEASE)
        with pytest.raises(LimitError, match="core-hours in 30 days"):
            await service.submit(ADA, request(work(tmp_path / "log"), [1]))
        profile["core_hours"] = 1.0
        await service.act(ADA, job.id, JobAction.RELEASE)
        gate.touch()
        last = await ended(service, job.id)
        assert (last.state, last.reason) == (JobState.DONE, None)
        share = await limits.of("ada", None)
        before = (await service.shares.use(share)).hours
        assert before > 1 / 3600
        await service.delete(ADA, job.id)
        assert (await service.shares.use(share)).hours == before
        assert (await service.jobs(ADA)).items == []
