from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from cupola.exceptions import UnavailableError
from cupola.models.job import Job, JobCounts, JobState
from cupola.models.person import Profile
from cupola.platform.services.jobs import engines as module
from cupola.platform.services.jobs import queue as jobqueue
from cupola.platform.services.jobs.engines import EngineService
from cupola.platform.services.jobs.queue import Queues, sentence
from cupola.platform.storage.engine import Capacity

pytestmark = pytest.mark.asyncio

ANY = Profile(cores=64, memory_mib=65_536)


class Scheduler:
    """Has four cores, of which it may not know the free ones; it refuses, or hangs, as it is told."""

    supervised = False

    def __init__(self, *, free=None, problem=None, before=0):
        self.free, self.problem, self.before = free, problem, before
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.asked = 0

    def capacity(self):
        self._answer()
        return Capacity(cores=4, memory_mib=2048, widest=2, free_cores=self.free, gpus=1)

    def find(self, _array):
        return None

    def ahead(self, _array, _native):
        self._answer()
        return self.before

    def _answer(self):
        self.asked += 1
        assert self.goes_on.wait(60)
        if self.problem:
            raise UnavailableError(self.problem)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(jobqueue, "WAIT_S", 0.05)


async def test_each_engine_tells_what_it_has():
    engines = {"htcondor": Scheduler(free=3), "local": Scheduler(), "slurm": Scheduler(problem="It is down.")}
    told = await EngineService(engines, used=lambda _: 1).engines(ANY)
    assert [(one.name, one.title, one.default) for one in told] == [
        ("htcondor", "HTCondor", True),
        ("local", "This platform", False),
        ("slurm", "Slurm", False),
    ]
    condor, local, slurm = told
    assert condor.summary == "4 cores, 3 of them free; a task gets at most 2 cores, 2.0 GiB and 1 GPU."
    assert local.free_cores == 3, "what our own jobs leave of it"
    assert (slurm.answers, slurm.summary, slurm.cores) == (False, "It is down.", None)


async def test_a_task_gets_what_the_profile_allows():
    service = EngineService({"htcondor": Scheduler()}, used=lambda _: 0)
    (told,) = await service.engines(Profile(cores=1.5, memory_mib=512))
    assert (told.cores, told.task_cores, told.task_memory_mib) == (4, 1, 512)


async def test_one_that_hangs_holds_nobody_up_and_is_asked_once():
    hangs, well = Scheduler(free=3), Scheduler(free=1)
    service = EngineService({"slurm": hangs, "htcondor": well}, used=lambda _: 0)
    await service.engines(ANY)
    hangs.goes_on.clear()
    for _ in range(3):
        slurm, condor = await service.engines(ANY)
        assert (slurm.answers, slurm.cores, slurm.free_cores) == (False, 4, 3), "what it said last"
        assert "Slurm has not answered" in slurm.summary
        assert condor.answers
    assert hangs.asked == 2
    hangs.goes_on.set()
    await service._known["slurm"].asking
    assert (await service.engines(ANY))[0].answers


def job(**changes):
    fields = {
        "id": "job-1",
        "owner": "ada",
        "name": "dust",
        "state": JobState.QUEUED,
        "engine": "htcondor",
        "counts": JobCounts(inputs=3),
        "tasks": 3,
        "chunk": 1,
        "created": "2026-11-21T00:00:00Z",
        "version": "sha256:1",
        "folder": "/homes/ada/.cupola/jobs/job-1",
    }
    return Job.model_validate(fields | changes)


class Waiting:
    """What is known of a job that its scheduler has."""

    supervised = False
    array = None

    def __init__(self, **changes):
        self.stored = SimpleNamespace(job=job(**changes), native="7")

    async def look(self, queues):
        return await queues.told(self.stored.job, self)


async def test_a_job_that_waits_says_what_is_before_it_and_the_scheduler_is_asked_seldom():
    scheduler, watch = Scheduler(before=12), Waiting()
    queues = Queues({"htcondor": scheduler})
    for _ in range(5):
        told = await watch.look(queues)
        assert (told.ahead, told.waits) == (12, "It waits: 12 tasks are before it in HTCondor's queue.")
    assert scheduler.asked == 1


@pytest.mark.parametrize(
    "changes", [{"state": JobState.RUNNING}, {"state": JobState.HELD}, {"created": "2999-01-01T00:00:00Z"}]
)
async def test_what_runs_is_held_or_has_just_come_is_not_asked_for(changes):
    scheduler, watch = Scheduler(before=12), Waiting(**changes)
    assert await watch.look(Queues({"htcondor": scheduler})) == watch.stored.job
    assert scheduler.asked == 0


async def test_a_queue_that_hangs_takes_one_thread_however_many_jobs_wait():
    scheduler, watches = Scheduler(before=1), [Waiting() for _ in range(4)]
    queues = Queues({"htcondor": scheduler})
    scheduler.goes_on.clear()
    assert {(await watch.look(queues)).ahead for watch in watches} == {None}
    assert scheduler.asked == 1
    scheduler.problem = "It is down."
    asked = [queues._places[watch].asking for watch in watches]
    scheduler.goes_on.set()
    for one in asked:
        await one
    assert (await watches[0].look(queues)).waits is None


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (0, "It waits: no task is before it in Slurm's queue."),
        (1, "It waits: 1 task is before it in Slurm's queue."),
        (10_000, "It waits: 10,000 tasks are before it in Slurm's queue."),
    ],
)
async def test_the_sentence(ahead, text):
    assert sentence(ahead, "Slurm") == text
