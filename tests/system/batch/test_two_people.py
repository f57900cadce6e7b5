"""Two people submit at the same moment, and the portal is killed in the middle: both jobs complete, and nothing is mixed."""

# ruff: noqa: S301 - results of these tests' own tasks
from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cupola.models.job import JobState
from cupola.platform.storage.localpool import LocalPool
from support.jobs_service import ADA, EVE, ended, job_service

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(600)]

PATIENCE = 300
JOBS = {"local": (500, 1), "htcondor": (100, 10), "slurm": (100, 10)}
"""Inputs of each job, and how many of them a task computes: each task of a scheduler starts a Python."""
PORTAL = """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from cupola.config import Config
    from cupola.platform.storage.engines import open_engines
    from cupola.platform.storage.localpool import LocalPool
    from support.jobs_service import ADA, EVE, job_service, request

    def work(name, log):
        def compute(number):
            import os
            import time
            notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(notes, f"{{number}}\\n".encode())
            os.close(notes)
            time.sleep(0.005)
            return name, number, os.environ["CUPOLA_JOB"], os.environ["HOME"]
        return compute

    async def main():
        root, name = Path({root!r}), {name!r}
        if name == "local":
            engines = {{"local": LocalPool(root / "cores", cores=4)}}
        else:
            config = Config.model_validate({{"engines": {{name: {settings!r}}}}}, strict=False)
            engines = {{name: open_engines(config)[name]}}
        async with job_service(root, engines=engines) as service:
            await asyncio.gather(*(
                service.submit(person, request(
                    work(person.name, str(root / f"{{person.name}}.log")), range({inputs}), memory_mib=64, chunk={chunk}
                ))
                for person in (ADA, EVE)
            ))
            await asyncio.Event().wait()
    asyncio.run(main())
"""


def lines(file):
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("name", ["local", "htcondor", "slurm"])
async def test_two_jobs_at_once_survive_the_portal_and_are_not_mixed(
    name, tmp_path, htcondor_pool, slurm_pool
):
    pool = {"htcondor": htcondor_pool, "slurm": slurm_pool}.get(name)
    inputs, chunk = JOBS[name]
    text = PORTAL.format(
        tests=str(Path(__file__).parents[2]),
        root=str(tmp_path),
        name=name,
        settings={key: str(value) for key, value in pool.settings.items()} if pool else {},
        inputs=inputs,
        chunk=chunk,
    )
    portal = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", textwrap.dedent(text)])
    logs = {person.name: tmp_path / f"{person.name}.log" for person in (ADA, EVE)}
    try:
        end = time.monotonic() + PATIENCE
        while not all(lines(log) for log in logs.values()):
            assert portal.poll() is None, "the portal ended by itself"
            assert time.monotonic() < end, "their first tasks do not come"
            await asyncio.sleep(0.05)
    finally:
        portal.send_signal(signal.SIGKILL)
        portal.wait()
    assert min(len(lines(log)) for log in logs.values()) < inputs, "it was killed in the middle"

    engine = pool.engine() if pool else LocalPool(tmp_path / "cores", cores=4)
    async with job_service(tmp_path, engines={name: engine}) as service:
        await service.reconcile()
        for person in (ADA, EVE):
            (job,) = (await service.jobs(person)).items
            async with asyncio.timeout(PATIENCE):
                last = await ended(service, job.id, person)
            assert (last.state, last.attempt, last.reason) == (JobState.DONE, 1, None)
            assert (last.counts.done, last.counts.failed, last.counts.running) == (inputs, 0, 0)
            home = str(tmp_path / "homes" / person.name)
            for number in range(inputs):
                kept = pickle.loads((job.folder / "results" / f"{number}.pkl").read_bytes())
                assert kept == (person.name, number, job.id, home)
            assert sorted(map(int, lines(logs[person.name]))) == list(range(inputs)), "each ran once"
