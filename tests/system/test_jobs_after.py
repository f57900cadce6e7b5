"""Jobs that start after others, with real supervisors and a real database."""

from __future__ import annotations

import asyncio
import time

import pytest
import pytest_asyncio

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.job import JobAction, JobState
from support.jobs_service import ADA, EVE, ended, job_service, request

pytestmark = [pytest.mark.system, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def service(tmp_path):
    async with job_service(tmp_path) as made:
        yield made


def waits_for(gate):
    """Return a function that ends when the file `gate` is there, and fails where it says so."""

    def wait(_):
        end = time.monotonic() + 60
        while not gate.exists() and time.monotonic() < end:
            time.sleep(0.02)
        if gate.read_text() == "fail":
            raise ValueError("told to")
        return time.time()

    return wait


async def test_a_job_starts_when_those_before_it_are_done(service, tmp_path):
    gate = tmp_path / "gate"
    first = await service.submit(ADA, request(waits_for(gate), [1], name="first"))
    second = await service.submit(ADA, request(lambda _: time.time(), [1], name="second", after=[first.id]))
    third = await service.submit(ADA, request(lambda _: time.time(), [1], after=[first.id, second.id]))
    assert second.state is third.state is JobState.QUEUED
    assert second.reason == "It waits for the end of first."
    assert third.reason == "It waits for the end of first and second."
    gate.write_text("go")
    assert (await ended(service, third.id)).state is JobState.DONE
    one, two, three = [await service.job(ADA, job.id) for job in (first, second, third)]
    assert one.ended <= two.started <= two.ended <= three.started
    assert two.reason is three.reason is None


async def test_a_job_does_not_start_after_one_that_failed(service, tmp_path):
    gate = tmp_path / "gate"
    first = await service.submit(ADA, request(waits_for(gate), [1], name="first"))
    second = await service.submit(ADA, request(abs, [1], name="second", after=[first.id]))
    gate.write_text("fail")
    end = await ended(service, second.id)
    assert end.state is JobState.FAILED
    assert end.reason == "It was to start after first, which is failed: retry that one, then this one."
    with pytest.raises(ConflictError, match="It was to start after first, which is failed"):
        await service.submit(ADA, request(abs, [1], after=[first.id]))
    gate.write_text("go")
    await service.act(ADA, first.id, JobAction.RETRY)
    again = await service.act(ADA, second.id, JobAction.RETRY)
    assert again.state is JobState.QUEUED
    assert (await ended(service, second.id)).state is JobState.DONE
    assert (await service.job(ADA, first.id)).state is JobState.DONE


async def test_a_job_that_waits_can_be_held_released_and_cancelled(service, tmp_path):
    gate = tmp_path / "gate"
    first = await service.submit(ADA, request(waits_for(gate), [1], name="first"))
    held, cancelled = [
        await service.submit(ADA, request(abs, [-1], name=name, after=[first.id]))
        for name in ("held", "cancelled")
    ]
    await service.act(ADA, held.id, JobAction.HOLD)
    await service.act(ADA, cancelled.id, JobAction.CANCEL)
    end = await ended(service, cancelled.id)
    assert (end.state, end.reason) == (JobState.CANCELLED, "Its owner cancelled it.")
    gate.write_text("go")
    await ended(service, first.id)
    await asyncio.sleep(1)
    assert (await service.job(ADA, held.id)).state is JobState.HELD, "it waits for its owner now"
    await service.act(ADA, held.id, JobAction.RELEASE)
    assert (await ended(service, held.id)).state is JobState.DONE


async def test_a_portal_that_starts_again_knows_who_waits(tmp_path):
    gate = tmp_path / "gate"
    async with job_service(tmp_path) as service:
        first = await service.submit(ADA, request(waits_for(gate), [1], name="first"))
        second = await service.submit(ADA, request(abs, [-1], after=[first.id]))
    async with job_service(tmp_path) as service:
        await service.reconcile()
        assert (await service.job(ADA, second.id)).reason == "It waits for the end of first."
        gate.write_text("go")
        assert (await ended(service, second.id)).state is JobState.DONE


async def test_nobody_waits_for_what_is_not_theirs_or_was_deleted(service, tmp_path):
    gate = tmp_path / "gate"
    gate.write_text("go")
    first = await service.submit(ADA, request(waits_for(gate), [1]))
    await ended(service, first.id)
    with pytest.raises(NotFoundError):
        await service.submit(EVE, request(abs, [1], after=[first.id]))
    await service.delete(ADA, first.id)
    with pytest.raises(NotFoundError):
        await service.submit(ADA, request(abs, [1], after=[first.id]))
