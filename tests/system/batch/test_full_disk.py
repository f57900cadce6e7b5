"""The disk of somebody's home is full while a scheduler runs a job: each input says so, and a retry brings the rest."""

# ruff: noqa: S301 - results of these tests' own tasks
from __future__ import annotations

import asyncio
import os
import pickle
import subprocess

import pytest

from cupola.models.job import JobAction, JobState
from support.jobs_service import ADA, ended, job_service, request
from support.pools import htcondor, slurm

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(300)]

PATIENCE = 120
INPUTS, SIZE = 12, 300_000
"""Together more than the disk has at first: half of them fit."""


@pytest.fixture
def homes(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "homes"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def over(service, job):
    async with asyncio.timeout(PATIENCE):
        return await ended(service, job)


@pytest.mark.parametrize("start", [htcondor, slurm])
async def test_a_full_disk_is_said_and_retry_goes_on_when_there_is_room(start, tmp_path, homes):
    # Its nodes see the mounts that were there when they started.
    with start() as pool:
        await fill(pool, tmp_path, homes)


async def fill(pool, tmp_path, homes):
    async with job_service(tmp_path, engines={pool.name: pool.engine()}) as service:
        job = await service.submit(ADA, request(os.urandom, [SIZE] * INPUTS, chunk=1, memory_mib=64))
        last = await over(service, job.id)
        counts, groups = last.counts, await service.failures(ADA, job.id)
        assert last.state in {JobState.PARTLY_FAILED, JobState.FAILED}
        assert 0 < counts.done < INPUTS, [group.example for group in groups]
        failed = {number for group in groups for number in group.inputs}
        for group in groups:
            assert group.error == "DiskFull"
            assert "No space is left on the disk" in group.example.message
        assert counts.done + len(failed) == INPUTS, "each input tells it"
        results = job.folder / "results"
        assert not list(results.glob("*.part"))
        kept = {file.name: file.read_bytes() for file in results.glob("*.pkl")}
        assert len(kept) == counts.done
        assert {len(pickle.loads(data)) for data in kept.values()} == {SIZE}

        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=16m", homes], check=True)
        await service.act(ADA, job.id, JobAction.RETRY)
        last = await over(service, job.id)
        assert (last.state, last.counts.done) == (JobState.DONE, INPUTS), (last.counts, last.reason)
        assert {name: (results / name).read_bytes() for name in kept} == kept, "computed once"
