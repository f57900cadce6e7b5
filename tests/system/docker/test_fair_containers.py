"""Fair shares of jobs in containers, on a real engine: who has more than a share gives cores back between tasks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cupola.models.containers import JOB_LABEL, OWNER_LABEL, PLATFORM_LABEL
from cupola.models.resources import Resources
from cupola.models.session import ContainerMount, ContainerPlan
from cupola.platform.storage.engine import Array, Control
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.localpool import ContainerPool

pytestmark = pytest.mark.system

PATIENCE = 180
KEY = "fa1r5a4e"
SUPERVISOR = """
import fcntl, glob, sys, time

held = {}
while True:
    most = int(open(sys.argv[1] + "/at_once").read())
    while len(held) > most:
        held.popitem()[1].close()
    for name in sorted(glob.glob("/cores/core-*")):
        if len(held) < most and name not in held:
            held[name] = open(name)
            fcntl.flock(held[name], fcntl.LOCK_EX)
    time.sleep(0.05)
"""
"""Holds as many cores as it may, as one does whose tasks end at once and never come to an end."""


@pytest.fixture
def pool(engine, tmp_path):
    yield ContainerPool(tmp_path / "cores", host=engine.host, key=KEY, cores=2)
    for container in engine.client.containers.list(all=True, filters={"label": f"{PLATFORM_LABEL}={KEY}"}):
        container.remove(force=True)


@pytest.fixture
def make(engine, tmp_path):
    def made(job, owner):
        folder = tmp_path / "homes" / owner / ".cupola" / "jobs" / job
        folder.mkdir(parents=True)
        JobFolder(folder).want(Control.RUN)
        plan = ContainerPlan(
            name=f"cupola-{KEY}-{job}",
            image=engine.stub(),
            command=["/opt/cupola/bin/python", "-c", SUPERVISOR, str(folder)],
            environment={},
            user=0,
            group=0,
            folder=Path("/"),
            mounts=[ContainerMount(source=folder, target=folder)],
            resources=Resources(cores=1, memory_mib=64),
            processes=50,
            scratch_mib=16,
            network="none",
            publish=False,
            log=tmp_path / "log",
            labels={PLATFORM_LABEL: KEY, JOB_LABEL: job, OWNER_LABEL: owner},
        )
        return Array(
            tag=job,
            folder=folder,
            python=Path("/opt/cupola/bin/python"),
            tasks=20,
            owner=owner,
            at_once=2,
            memory_mib=64,
            container=plan,
        )

    return made


def test_a_second_person_gets_half_before_a_second_job_of_the_first(pool, make, engine, tmp_path):
    jobs = [make("job-a", "ada"), make("job-b", "ada"), make("job-e", "eve")]
    natives = [pool.submit(job) for job in jobs]
    assert natives[1:] == ["waits", "waits"]

    def at_once(job):
        file = job.folder / "at_once"
        return int(file.read_text()) if file.exists() else None

    def until(wanted):
        end = time.monotonic() + PATIENCE
        while [at_once(job) for job in jobs] != wanted:
            assert time.monotonic() < end, [at_once(job) for job in jobs]
            assert set(pool.poll(list(zip(jobs, natives, strict=True)))) >= {"job-a", "job-b"}
            time.sleep(0.2)

    until([1, None, 1])
    rows = engine.client.containers.list(filters={"label": f"{PLATFORM_LABEL}={KEY}"})
    assert {row.labels[JOB_LABEL]: row.attrs["HostConfig"]["NanoCpus"] for row in rows} == {
        "job-a": 10**9,
        "job-e": 10**9,
    }
    # A portal that was killed finds what runs, and who waits goes on waiting.
    again = ContainerPool(tmp_path / "cores", host=engine.host, key=KEY, cores=2)
    assert again.find(jobs[0])
    assert again.find(jobs[1]) is None
    assert set(again.poll(list(zip(jobs, natives, strict=True)))) == {"job-a", "job-b", "job-e"}
    assert [at_once(job) for job in jobs] == [1, None, 1]
    # A job that waits and is cancelled has nothing that could tell its end.
    pool.control(jobs[1], "waits", Control.CANCEL)
    assert "job-b" not in pool.poll([(jobs[1], "waits")])
