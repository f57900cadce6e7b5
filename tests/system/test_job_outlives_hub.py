"""A job goes on when the hub is killed, and with it the portal."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from cupola.exceptions import CupolaError
from cupola.models.session import SessionState
from cupola.monitor.visitor import Visitor

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

INPUTS = 16
CELL = f"""
import cupola, os, time

def slow(number):
    time.sleep(0.7)
    with open(os.path.expanduser("~/counted-hub"), "a") as file:
        file.write(f"{{number}}\\n")
    return number

job = cupola.map(slow, range({INPUTS}), chunk=1)
"""


async def job_when(visitor, name, wanted):
    """Look at a job until `wanted` holds; the platform may be away meanwhile."""
    async with asyncio.timeout(120):
        while True:
            try:
                job = await visitor.job(name)
            except (CupolaError, httpx.HTTPError):
                job = None
            if job is not None and wanted(job):
                return job
            await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_a_killed_hub_loses_no_finished_input(new_platform):
    platform = new_platform()
    platform.start()
    async with Visitor(platform.address) as visitor:
        await visitor.sign_in(platform.link())
        session = await visitor.wait_for(await visitor.press_play("lab"), SessionState.READY)
        kernel = await visitor.open_kernel(session)
        await kernel.run(CELL)
        name = await kernel.value("job.id")
        before = await job_when(visitor, name, lambda job: job.counts.done >= 2)
        assert before.state.active, "the hub must die in the middle"
        platform.part("hub").kill()
        after = await job_when(visitor, name, lambda job: not job.state.active)
    assert (str(after.state), after.counts.done, after.attempt) == ("done", INPUTS, 1)
    counted = (platform.paths.home("ada") / "counted-hub").read_text().split()
    assert sorted(counted, key=int) == [str(number) for number in range(INPUTS)], "each exactly once"
