"""What a job on a real scheduler survives: its daemons, its nodes, the portal, a full disk. Nothing is lost or written twice."""

# ruff: noqa: S301 - results of these tests' own tasks
from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cupola.models.job import JobAction, JobState
from support.jobs_service import ADA, ended, job_service, request
from support.pools import htcondor, slurm

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(600)]

PATIENCE = 240
"""Seconds. A loaded machine makes HTCondor several times slower."""
INPUTS, FEW = 40, 20
QUICK_LEASE = {"job_lease_duration": "6"}
"""So that a test sees a task of a lost node run elsewhere within half a minute."""


def product_of(folder):
    """Return a function that takes a moment and writes a product, as a person would."""

    def product(number):
        import os
        import time

        with open(folder / "runs", "a") as runs:  # noqa: PTH123
            runs.write(f"{number}\n")
        time.sleep(0.2)
        part = folder / f"{number}.{os.getpid()}.part"
        part.write_text(str(number**2))
        part.rename(folder / f"{number}.txt")
        return number**2

    return product


@pytest.fixture
def products(tmp_path):
    folder = tmp_path / "products"
    folder.mkdir()
    return folder


async def done(service, job, inputs, tend=None):
    """Wait until that many inputs have a result."""
    end = time.monotonic() + PATIENCE
    while (state := await service.job(ADA, job)).counts.done < inputs:
        assert time.monotonic() < end, f"only {state.counts.done} of {inputs} come: {state.reason}"
        assert state.state.active, (state.state, state.reason)
        await asyncio.sleep(0.1)
        if tend is not None:
            await asyncio.to_thread(tend)


async def whole(service, job, products, inputs=INPUTS):
    """Wait for the end, and see that each input has its result and its product, once."""
    async with asyncio.timeout(PATIENCE):
        end = await ended(service, job)
    assert (end.state, end.counts.done) == (JobState.DONE, inputs), (end.state, end.counts, end.reason)
    for number in range(inputs):
        with await service.result(ADA, job, number) as file:
            assert pickle.load(file) == number**2
    assert sorted(products.glob("*.txt")) == sorted(products / f"{number}.txt" for number in range(inputs))
    return end


async def kill(pool, daemon):
    """Kill it as soon as there is one: a shadow and a starter live as long as their task."""
    end = time.monotonic() + PATIENCE
    # What was seen may have ended by itself before it is killed: only what was killed counts.
    while not pool.killed(daemon):
        assert time.monotonic() < end, f"the pool has no {daemon}"
        await asyncio.sleep(0.02)


async def test_htcondors_daemons_and_a_node_that_are_killed_cost_nothing(tmp_path, products):
    with htcondor(CPUS="3") as pool:
        pool.node_up("doomed", 2)
        engine = pool.engine(submit=QUICK_LEASE)
        async with job_service(tmp_path, engines={"htcondor": engine}) as service:
            wanted = request(product_of(products), range(INPUTS), memory_mib=64, chunk=1)
            job = await service.submit(ADA, wanted)
            await done(service, job.id, 2)
            # HTCondor sees it when the lease is over, and runs its tasks elsewhere; all else happens meanwhile. What a killed
            # startd ran takes as long.
            pool.node_kill("doomed")
            daemons = ("startd", "schedd", "negotiator", "collector", "shadow", "starter")
            for number, daemon in enumerate(daemons, 1):
                await done(service, job.id, 2 + 4 * number)
                await kill(pool, daemon)
            await whole(service, job.id, products)
        engine.close()


async def test_slurms_daemons_and_a_node_that_are_killed_cost_nothing(tmp_path, products):
    with slurm(CPUS="3", ARRAY="1001", NODES="second") as pool:

        def tend():
            # Its administrator: what a killed daemon had just started is started twice, and Slurm drains the node for it.
            with contextlib.suppress(AssertionError):
                pool.script("resume")

        async with job_service(tmp_path, engines={"slurm": pool.engine()}) as service:
            wanted = request(product_of(products), range(INPUTS), memory_mib=16, chunk=1)
            job = await service.submit(ADA, wanted)
            await done(service, job.id, 2)
            # With its daemon die the tasks that run there; Slurm sees it after SlurmdTimeout and runs them elsewhere.
            pool.node_kill("second")
            for number, daemon in enumerate(("slurmctld", "munged"), 1):
                await done(service, job.id, 2 + 4 * number, tend)
                pool.kill(daemon)
                await asyncio.sleep(1)
                pool.start(daemon)
            await done(service, job.id, INPUTS, tend)
            await whole(service, job.id, products)


PORTAL = """
    import asyncio, os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from cupola.config import Config
    from cupola.platform.storage.engines import open_engines
    from support.jobs_service import ADA, job_service, request

    class Dies:
        # It does what the engine does, and is killed before it can say so.
        supervised = False
        def __init__(self, engine):
            self._engine = engine
        def __getattr__(self, name):
            return getattr(self._engine, name)
        def submit(self, array):
            self._engine.submit(array)
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        config = Config.model_validate({{"engines": {{{name!r}: {settings!r}}}}}, strict=False)
        engine = Dies(open_engines(config)[{name!r}])
        async with job_service(Path({root!r}), engines={{{name!r}: engine}}) as service:
            def run(number):
                with open({runs!r}, "a") as runs:
                    runs.write(f"{{number}}\\n")
            await service.submit(ADA, request(run, range(6), memory_mib=16, chunk=1))
    asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["htcondor", "slurm"])
async def test_what_a_killed_portal_has_submitted_is_found_and_not_submitted_again(
    name, tmp_path, products, htcondor_pool, slurm_pool
):
    pool = {"htcondor": htcondor_pool, "slurm": slurm_pool}[name]
    settings = {key: str(value) for key, value in pool.settings.items()}
    text = PORTAL.format(
        tests=str(Path(__file__).parents[2]),
        name=name,
        settings=settings,
        root=str(tmp_path),
        runs=str(products / "runs"),
    )
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", textwrap.dedent(text)], check=False, env=os.environ
    )
    assert died.returncode == -signal.SIGKILL
    engine = pool.engine()
    async with job_service(tmp_path, engines={name: engine}) as service:
        (job,) = (await service.jobs(ADA)).items
        assert job.state is JobState.QUEUED
        await service.reconcile()
        async with asyncio.timeout(PATIENCE):
            end = await ended(service, job.id)
        assert (end.state, end.attempt, end.reason) == (JobState.DONE, 1, None)
        assert sorted((products / "runs").read_text().split()) == sorted(map(str, range(6))), "each ran once"


async def test_a_scheduler_that_does_not_answer_is_waited_for(htcondor_pool, tmp_path, products):
    engine = htcondor_pool.engine()
    async with job_service(tmp_path, engines={"htcondor": engine}) as service:
        wanted = request(product_of(products), range(FEW), memory_mib=64, chunk=1)
        job = await service.submit(ADA, wanted)
        await done(service, job.id, 4)
        with htcondor_pool.stopped("schedd"):
            await asyncio.sleep(3)
            assert (await service.job(ADA, job.id)).state is JobState.RUNNING, "silence is no end"
        await whole(service, job.id, products, FEW)


@pytest.mark.parametrize("name", ["htcondor", "slurm"])
async def test_a_job_that_is_cancelled_in_the_middle_keeps_its_results_and_goes_on_when_retried(
    name, htcondor_pool, slurm_pool, tmp_path, products
):
    pool = {"htcondor": htcondor_pool, "slurm": slurm_pool}[name]
    async with job_service(tmp_path, engines={name: pool.engine()}) as service:
        job = await service.submit(ADA, request(product_of(products), range(FEW), memory_mib=16, chunk=1))
        await done(service, job.id, 4)
        await service.act(ADA, job.id, JobAction.CANCEL)
        async with asyncio.timeout(PATIENCE):
            end = await ended(service, job.id)
        assert end.state is JobState.CANCELLED
        assert 4 <= end.counts.done < FEW
        runs = len((products / "runs").read_text().split())
        await asyncio.sleep(2)
        assert len((products / "runs").read_text().split()) == runs, "tasks run on"
        await service.act(ADA, job.id, JobAction.RETRY)
        again = await whole(service, job.id, products, FEW)
        assert again.attempt == 2
        # Only what ran when it was cancelled was computed twice.
        assert len((products / "runs").read_text().split()) <= FEW + 4
